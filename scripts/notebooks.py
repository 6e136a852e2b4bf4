"""Execute the notebooks of notebooks/ into pages of the book; a page that is up to date is left alone.

papermill executes the notebooks. Parameters are checked against the notebook's `parameters` cell before the
first execution. A notebook that fails does not become a page: an older page of that name is removed, and the
executed notebook stays in _build/notebooks/, as does a damaged page.
"""

import argparse
import ast
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import origins
from execution import PAGES, PARTIAL, ROOT, StalePage, execute
from nbformat.reader import NotJSONError
from papermill import inspect_notebook

from sparsity_lib.study.files import require_writable
from sparsity_lib.study.queue.workers import run_in_processes

SOURCES = ROOT / "notebooks"
SECONDS = 8  # mean time of a page on one core


def main(arguments: Sequence[str] | None = None) -> int:
    """Execute; return 0 done, 1 a notebook failed, 2 bad input, 130 stopped."""
    args = _parser().parse_args(arguments)
    try:
        if args.jobs < 1:
            raise ValueError(f"--jobs must be 1 or more, not {args.jobs}")
        sources = chosen(args.names)
        stale = out_of_date(sources, args.parameter, args.out)
        for folder in (args.out, PARTIAL):
            require_writable(folder)
        if args.out == PAGES:
            for page in PAGES.glob("*.ipynb"):
                if not (SOURCES / page.name).exists():
                    page.unlink(missing_ok=True)  # another process may have seen it, too
        for work in stale:
            if work.reason == origins.DAMAGED:
                set_aside(work.page)
        failed = execute_all(stale, len(sources), args.jobs)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the pages that were finished are kept", file=sys.stderr)
        return 130
    if failed:
        print(f"failed: {', '.join(sorted(failed))}", file=sys.stderr)
    return 1 if failed else 0


def chosen(names: Sequence[str]) -> list[Path]:
    """The notebooks meant by `names` (path, stem or number; none: all). Raises `ValueError` if unknown."""
    known = sorted(SOURCES.glob("*.ipynb"))
    found = []
    for name in names:
        stem = Path(name).name.removesuffix(".ipynb")
        matches = [path for path in known if stem in (path.stem, path.stem.split("-")[0])]
        if not matches:
            raise ValueError(
                f"no notebook '{name}'; there are: {', '.join(path.stem for path in known) or 'none'}"
            )
        found += matches
    return list(dict.fromkeys(found)) if names else known


def out_of_date(sources: Sequence[Path], texts: Sequence[Sequence[str]], out: Path) -> list[StalePage]:
    """Return the pages to execute, with reasons; `ValueError` for a parameter of a wrong name or type."""
    around = origins.surroundings()
    defaults_of = {source: defaults(source) for source in sources}
    known = {name for own in defaults_of.values() for name in own}
    stale = []
    for source, own in defaults_of.items():
        values = {"train": False} if "train" in own else {}  # the book shows what is there
        values |= {
            name: converted(name, text, own, source)
            for name, text in texts
            if name in own or name not in known  # `converted` refuses a name that no notebook has
        }
        values = {name: value for name, value in values.items() if value != own[name]}
        page = out / source.name
        if reason := origins.staleness(page, origins.origin(source, values, around)):
            stale.append(StalePage(source, page, values, reason))
    return stale


def defaults(notebook: Path) -> dict[str, Any]:
    """The notebook's parameters and their values; `ValueError` where it is none, or one is not plain."""
    try:
        found = inspect_notebook(notebook)
    except NotJSONError:
        raise ValueError(f"{notebook.name} is not a notebook") from None
    except ValueError as error:
        raise ValueError(f"{notebook.name}: {error}") from None
    try:
        values = {name: ast.literal_eval(each["default"]) for name, each in found.items()}
        if all(type(value) in (bool, int, float, str) for value in values.values()):
            return values
    except (ValueError, SyntaxError):
        pass
    raise ValueError(
        f"{notebook.name}: write parameters out as a bool, int, float or string (lists as 'a,b')"
    )


def converted(name: str, text: str, own: dict[str, Any], notebook: Path) -> Any:
    """`text` as a value for the parameter `name`; papermill passes an unknown name, or any type, on.

    Raises `ValueError` for a name that the notebook does not have, or a text that is not of its default's
    type.
    """
    if name not in own:
        raise ValueError(f"{notebook.name} has no parameter {name!r}; it has: {', '.join(own) or 'none'}")
    kind = type(own[name])
    try:
        return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (ValueError, KeyError):
        raise ValueError(
            f"{notebook.name}: parameter '{name}' is of type {kind.__name__} (default {own[name]!r}), "
            f"not {text!r}"
        ) from None


def set_aside(page: Path) -> None:
    """Move a damaged page to where no book is made from it, with a message."""
    aside = PARTIAL / f"{page.stem}.damaged.ipynb"
    shutil.move(page, aside)
    print(f"{page} is damaged; it was set aside as {aside}", file=sys.stderr)


def execute_all(stale: Sequence[StalePage], pages: int, jobs: int) -> list[str]:
    """Execute in up to `jobs` processes, with a line for each page; return the names of those that failed."""
    print(f"pages: {pages - len(stale)} of {pages} are up to date", end="")
    left = f", {len(stale)} to execute, about {len(stale) * SECONDS / jobs:.0f} s left"
    print(left if stale else "", flush=True)
    failed, start = [], time.monotonic()
    threads = max(1, (os.cpu_count() or 1) // jobs)
    for done, (work, error) in enumerate(run_in_processes(execute, stale, jobs, threads), 1):
        each = (time.monotonic() - start) / (done + (jobs - 1) / 2)  # others at work count as half done
        left = f"about {(len(stale) - done) * each:.0f} s left"
        print(f"[{done} of {len(stale)}] {work.page.stem} ({work.reason}), {left}", flush=True)
        if error:
            print(f"error: {work.source.name} is not in the book: {error}", file=sys.stderr)
            work.page.unlink(missing_ok=True)
            failed.append(work.page.stem)
    return failed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python scripts/notebooks.py", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="01 or 01-monitoring (default: all)")
    parser.add_argument(
        "-p",
        dest="parameter",
        nargs=2,
        action="append",
        default=[],
        metavar=("PARAMETER", "VALUE"),
        help="set a parameter of the notebooks named that have it; lists as a,b",
    )
    parser.add_argument(
        "--out", type=Path, default=PAGES, metavar="FOLDER", help="where pages go (default: into the book)"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count(),
        metavar="N",
        help="notebooks side by side (default: one a core)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
