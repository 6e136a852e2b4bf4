"""Execution of a notebook by papermill: it becomes a page only if all code cells ran to their end."""

import json
import logging
import os
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import origins
import papermill
from traitlets.config import Config

from sparsity_lib.study.errors import Stopped, StudyError
from sparsity_lib.study.files import atomic_write
from sparsity_lib.study.queue.workers import Report, Stop

ROOT = Path(__file__).resolve().parent.parent
PAGES, PARTIAL = ROOT / "book/experiments", ROOT / "_build/notebooks"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True)
class StalePage:
    """A page to execute again, and the reason."""

    source: Path
    page: Path
    values: dict[str, Any]
    reason: str


def execute(work: StalePage, report: Report, stop: Stop) -> None:
    """Make the page. Raises `StudyError` naming the cell that failed, `Stopped` when interrupted.

    The executed notebook lies in `_build/notebooks/` until it is accepted, and stays there if it is not.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a cell may take long
    partial = PARTIAL / work.source.name
    origin = origins.origin(work.source, work.values, origins.surroundings())
    try:
        with tempfile.NamedTemporaryFile("r", encoding="utf-8") as notes:
            os.environ["SPARSITY_READS"] = notes.name  # of the kernel, too
            if problem := _run(work.source, partial, work.values):
                raise StudyError(f"{problem} (see {partial.relative_to(ROOT)})")
            origin["read"] = origins.read(notes.read().splitlines())
        _write(partial, work.page, origin)
        partial.unlink()
    except OSError as error:
        raise StudyError(_line(type(error).__name__, str(error))) from None
    except KeyboardInterrupt:
        raise Stopped(f"{work.page.stem}: stopped") from None


def _run(source: Path, partial: Path, values: dict[str, Any]) -> str | None:
    for name in ("papermill", "asyncio"):  # errors are returned, and an interrupt leaves tasks behind
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="nb") as sockets:
        # A kernel on TCP can be listened to, and warns of it. A socket's path must be short.
        kernel = {"transport": "ipc", "connection_file": f"{sockets}/k.json"}
        try:
            papermill.execute_notebook(
                source,
                partial,
                values,
                kernel_name="python3",
                language="python",
                progress_bar=False,
                start_timeout=300,
                iopub_timeout=300,
                coalesce_streams=True,
                record_timing=False,
                resources={"metadata": {"path": str(ROOT)}},
                config=Config({"AsyncKernelManager": kernel}),
                extra_arguments=["--IPKernelApp.log_level=50"],  # else an interrupted kernel logs a traceback
            )
        except papermill.PapermillExecutionError:
            pass  # `unfinished` names the cell
        except (RuntimeError, TimeoutError) as error:  # the kernel died, or never came up
            reached = unfinished(nbformat.read(partial, 4)) if partial.exists() else ""
            return f"{_line(type(error).__name__, str(error))}; {reached}"
    return unfinished(nbformat.read(partial, 4))


def unfinished(notebook: Any) -> str | None:
    """The first code cell that did not run to its end, and why; None if all did.

    papermill alone accepts `sys.exit(0)`, and marks cells that never ran as completed.
    """
    cells = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    for number, cell in enumerate(cells, 1):
        here = f"code cell {number} of {len(cells)}"
        for output in cell.outputs:
            if output.output_type == "error":
                return f"{here}: {_line(output.ename, output.evalue)}"
        if cell.execution_count is None or cell.metadata.get("papermill", {}).get("status") != "completed":
            return f"{here} was not executed"
    return None


def tidy(notebook: Any) -> Any:
    """Remove times, paths and ids, which differ between equal runs, and the state of widgets."""
    for name in ("papermill", "widgets"):
        notebook.metadata.pop(name, None)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        for name in ("papermill", "execution"):
            cell.metadata.pop(name, None)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET_VIEW, None)
    return notebook


def _write(executed: Path, page: Path, origin: dict[str, Any]) -> None:
    notebook = tidy(nbformat.read(executed, 4))
    notebook.metadata[origins.KEY] = origin
    own = origins.own_digest(json.loads(nbformat.writes(notebook)))
    notebook.metadata[origins.KEY] = origin | {origins.OWN: own}
    with atomic_write(page) as partial:
        partial.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")


def _line(name: str, message: str) -> str:
    return f"{name}: {(message.splitlines() or [''])[0]}".rstrip(": ")
