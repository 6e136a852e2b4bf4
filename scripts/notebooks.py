"""Execute the notebooks of notebooks/ into pages of the book; a page that is up to date is left alone.

papermill executes; this guards. Parameters are checked against the notebook's `parameters` cell before
anything starts. A notebook that fails does not become a page: an older page of that name is removed,
and what was executed is kept in _build/notebooks/ to be read. So is a page that is damaged.
"""

import argparse
import multiprocessing
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import notebook_parameters
import origins

ROOT = Path(__file__).resolve().parent.parent
SOURCES, PAGES, PARTIAL = ROOT / "notebooks", ROOT / "book/experiments", ROOT / "_build/notebooks"


@dataclass(frozen=True)
class Work:
    """A page that is not what would be made now."""

    source: Path
    page: Path
    values: dict[str, Any]
    reason: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Execute or check; return 0 done, 1 a notebook failed or a page is stale, 2 bad input, 130 stopped."""
    args = _parser().parse_args(arguments)
    try:
        if args.jobs < 1:
            raise ValueError(f"--jobs must be 1 or more, not {args.jobs}")
        sources = chosen(args.names)
        stale = out_of_date(sources, args.parameter, args.out)
        pages = PAGES.glob("*.ipynb") if args.out == PAGES else []
        gone = [page for page in pages if not (SOURCES / page.name).exists()]
        if args.check:
            return report(stale, gone)
        for folder in (args.out, PARTIAL):
            require_writable(folder)
        for page in gone:
            page.unlink(missing_ok=True)  # another process may have seen it, too
        for work in stale:
            if work.reason == origins.DAMAGED:
                set_aside(work.page)
        print(f"notebooks: {len(sources) - len(stale)} of {len(sources)} pages are up to date", flush=True)
        failed = side_by_side(stale, args.jobs)
        for work in failed:
            work.page.unlink(missing_ok=True)
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
        print(f"failed: {', '.join(sorted(work.page.stem for work in failed))}", file=sys.stderr)
    return 1 if failed else 0


def chosen(names: Sequence[str]) -> list[Path]:
    """The notebooks meant by `names` (path, stem or number; none: all). Raises `ValueError` if unknown."""
    there = sorted(SOURCES.glob("*.ipynb"))
    found = []
    for name in names:
        stem = Path(name).name.removesuffix(".ipynb")
        matches = [path for path in there if stem in (path.stem, path.stem.split("-")[0])]
        if not matches:
            raise ValueError(
                f"no notebook '{name}'; there are: {', '.join(path.stem for path in there) or 'none'}"
            )
        found += matches
    return list(dict.fromkeys(found)) if names else there


def out_of_date(sources: Sequence[Path], texts: Sequence[Sequence[str]], out: Path) -> list[Work]:
    """Return the pages to execute, with reasons; `ValueError` for a parameter of a wrong name or type."""
    around = origins.surroundings()
    defaults_of = {source: notebook_parameters.read(source) for source in sources}
    known = {name for defaults in defaults_of.values() for name in defaults}
    stale = []
    for source, defaults in defaults_of.items():
        values = {
            name: notebook_parameters.convert(name, text, defaults, source)
            for name, text in texts
            if name in defaults or name not in known  # `convert` refuses a name that no notebook has
        }
        values = {name: value for name, value in values.items() if value != defaults[name].value}
        page = out / source.name
        if reason := origins.staleness(page, origins.origin(source, values, around)):
            stale.append(Work(source, page, values, reason))
    return stale


def report(stale: Sequence[Work], gone: Sequence[Path]) -> int:
    """Print each stale page with its reason; return 1 if there is one."""
    for work in stale:
        print(f"stale: {work.page.stem}: {work.reason}")
    for page in gone:
        print(f"stale: {page.stem}: its notebook is gone")
    return 1 if stale or gone else 0


def require_writable(folder: Path) -> None:
    """Make the folder. Raises `OSError` where it cannot be made, `ValueError` where it cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise ValueError(f"cannot write in {folder}; nothing was started")


def set_aside(page: Path) -> None:
    """Move a damaged page to where no book is made from it, and say so."""
    aside = PARTIAL / f"{page.stem}.damaged.ipynb"
    shutil.move(page, aside)
    print(f"{page} is damaged; it was set aside as {aside}", file=sys.stderr)


def side_by_side(stale: Sequence[Work], jobs: int) -> list[Work]:
    """Execute in up to `jobs` processes; return what failed. When interrupted, stop them all."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["papermill"])  # two seconds, once for all
    waiting = [(f"[{number} of {len(stale)}] {work.page.stem}", work) for number, work in enumerate(stale, 1)]
    running: dict[Any, tuple[Any, Work]] = {}  # by sentinel
    failed = []
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                title, work = waiting.pop(0)
                print(f"{title}: {work.reason}", flush=True)
                process = context.Process(target=_alone, args=(title, work))
                process.start()
                running[process.sentinel] = process, work
            for sentinel in wait(list(running)):
                process, work = running.pop(sentinel)
                process.join()
                if process.exitcode:
                    failed.append(work)
                if process.exitcode not in (0, 1):
                    print(f"error: {work.source.name}: its process was killed", file=sys.stderr)
    finally:
        for process, _ in running.values():
            process.join(timeout=10)
            process.kill()
    return failed


def _alone(title: str, work: Work) -> None:
    try:
        from execution import execute

        if problem := execute(title, work.source, work.page, work.values):
            kept = PARTIAL.relative_to(ROOT) / work.source.name
            print(f"error: {work.source.name} is not in the book: {problem} (see {kept})", file=sys.stderr)
            sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


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
    parser.add_argument("--check", action="store_true", help="list the stale pages and execute nothing")
    return parser


if __name__ == "__main__":
    sys.exit(main())
