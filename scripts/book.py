"""Build the book into _build/html, unless nothing it is made from changed; print the path of its first page.

It is built in a folder of its own and moved into place: an older book stays whole when a build fails.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import origins

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "book/experiments"
BOOK, PARTIAL = ROOT / "_build/html", ROOT / "_build/partial"
DIGEST = ROOT / "_build/book.digest"
COMMAND = "jupyter-book build book --config _config.yml --path-output _build/partial -q -W -n --keep-going"


def main() -> int:
    """Build or skip; return 0, or 1 with the pages that are damaged or the output of jupyter-book."""
    if damaged := [path for path in sorted(PAGES.glob("*.ipynb")) if origins.is_damaged(path)]:
        for path in damaged:
            print(f"error: {path} is damaged; make it again: python scripts/notebooks.py", file=sys.stderr)
        return 1
    page, digest = BOOK / "index.html", inputs()
    if page.exists() and DIGEST.exists() and DIGEST.read_text() == digest:
        print("book: up to date")
    else:
        print("book: building", flush=True)
        shutil.rmtree(PARTIAL, ignore_errors=True)
        program, *arguments = COMMAND.split()
        path = Path(sys.executable).with_name(program)
        build = subprocess.run(
            [path, *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if build.returncode:
            print(f"{build.stdout}\nerror: the book was not built: {COMMAND}", file=sys.stderr)
            return 1
        DIGEST.unlink(missing_ok=True)
        shutil.rmtree(BOOK, ignore_errors=True)
        os.replace(PARTIAL / "_build/html", BOOK)
        shutil.rmtree(PARTIAL)
        DIGEST.write_text(digest)
    print(f"the book's first page: {page}")
    return 0


def inputs() -> str:
    """One digest of every file that the book can be made from."""
    folders = [path for name in ("book", "sparsity_lib") for path in (ROOT / name).rglob("*")]
    settings = ("_config.yml", "pyproject.toml", "requirements.lock")
    files = [ROOT / name for name in (*settings, "README.md", "CITATION.cff")]
    tables = [*ROOT.glob("results/*/SHA256SUMS")]
    tables += [*ROOT.glob("benchmarks/*.json"), *ROOT.glob("benchmarks/results/*.json")]
    paths = [*folders, *files, *tables, Path(__file__).resolve()]
    digests = origins.digests(path for path in paths if "__pycache__" not in path.parts)
    return origins.combined(digests)


if __name__ == "__main__":
    sys.exit(main())
