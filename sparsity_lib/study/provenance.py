"""How a run was made: the code, the data, the versions and the machine."""

import ast
import datetime
import functools
import hashlib
import io
import platform
import subprocess
import tokenize
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import sparsity_lib
from sparsity_lib.study.files import PROJECT

# The modules that decide a run's numbers, and make the code fingerprint. What the data are is told by their
# digest.
_NUMERICAL = (
    *("_entropy", "_fusion", "_hooks", "_layers", "_statistics", "coherence", "functional", "monitor"),
    *(
        "regularizers",
        "sparseout",
        *(f"study/{name}" for name in ("networks", "other_networks", "preparation")),
    ),
    *("study/observation", "study/training"),
    *("study/data/pictures", "study/data/splits"),
)

# Fingerprints of earlier code, and of the later code that makes the same numbers: what was changed serves
# settings that the earlier one did not have, or refused, or how files are read and written. Any further
# change makes runs of all of these older code's.
_SAME_NUMBERS = {
    **dict.fromkeys(("3c812a3f", "af9d12e5", "4cca0eaf"), "80a5f94c"),
    "ef265d43": "6fbf79e6",
}


def code() -> dict[str, Any]:
    """The code as it is when this is first asked; files may change while a training runs."""
    commit, dirty = _commit()
    return {"commit": commit, "dirty": int(dirty), "code_fingerprint": code_fingerprint()}


def surroundings(data_digest: str, device: torch.device, seconds: float) -> dict[str, Any]:
    """What a run was made from and on: data, versions, machine."""
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    return {
        "sparsity_lib": sparsity_lib.__version__,
        "data_digest": data_digest,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "xarray": version("xarray"),
        "device": f"{device.type}: {name}",
        "threads": torch.get_num_threads(),
        "seconds": round(seconds, 2),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


@functools.cache
def _commit() -> tuple[str, bool]:
    def git(*command: str) -> str:
        answer = subprocess.run(
            ["git", "-C", str(PROJECT), *command], capture_output=True, text=True, check=True
        )
        return answer.stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return "unknown", False


@functools.cache
def code_fingerprint() -> str:
    """Eight hex digits of the modules that decide a run's numbers; comments and docstrings do not count."""
    return fingerprint_of(_NUMERICAL)


def fingerprint_of(modules: Iterable[str]) -> str:
    """Eight hex digits of the library's modules by these names, comments and docstrings aside."""
    library = Path(sparsity_lib.__file__).parent
    digest = hashlib.sha256()
    for name in modules:
        digest.update(_statements((library / f"{name}.py").read_text(encoding="utf-8")).encode())
    return digest.hexdigest()[:8]


def equivalent(fingerprint: str) -> str:
    """That of the later code that makes the same numbers, if there is such, else that one."""
    return _SAME_NUMBERS.get(fingerprint, fingerprint)


def _statements(source: str) -> str:
    """The source without comments, docstrings and empty lines; a parsed form would differ between Pythons."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            docstring = node.body[0]
            for row in range(docstring.lineno - 1, docstring.end_lineno or docstring.lineno):
                lines[row] = ""
    return "\n".join(line.rstrip() for line in lines if line.strip())
