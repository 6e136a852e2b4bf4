"""How a run was made: the code, the data, the versions and the machine."""

import datetime
import functools
import hashlib
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import sparsity_lib
from sparsity_lib.study.files import PROJECT

if TYPE_CHECKING:
    import torch

# The version of the numerics by part. A part's number rises when its numbers change by more than the golden
# tests allow (tests/study/test_golden.py); a run records the parts that it uses.
NUMERICS = {"core": 1, "coherent": 1, "sparseout": 1, "perplexity": 1, "scale_free": 1, "language": 1}

_CLAIMS = Path(__file__).parents[1] / "claims"


def code(parts: Iterable[str] = ("core",)) -> dict[str, Any]:
    """The commit, whether files differed from it, and the numerics of these parts, as of the first call."""
    commit, dirty = _commit()
    return {"commit": commit, "dirty": int(dirty), "numerics": numerics(parts)}


def numerics(parts: Iterable[str]) -> str:
    """The versions of these parts, as in `core 1, sparseout 1`."""
    return ", ".join(f"{part} {NUMERICS[part]}" for part in parts)


def is_current(recorded: str) -> bool:
    """Whether all recorded parts have today's versions."""
    return set(recorded.split(", ")) <= {f"{part} {version}" for part, version in NUMERICS.items()}


def environment(data_digest: str, device: "torch.device", seconds: float) -> dict[str, Any]:
    """Return what a run was made from and on: data, versions, machine."""
    import torch

    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine()
    )
    return {
        "sparsity_lib": sparsity_lib.__version__,
        "data_digest": data_digest,
        "registration": registration(),
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
def registration() -> str:
    """SHA-256 of the registration's files: the claims and rules that were written before the runs."""
    digest = hashlib.sha256()
    for path in sorted(_CLAIMS.glob("registration*.yaml")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@functools.cache
def _commit() -> tuple[str, bool]:
    def git(*command: str) -> str:
        result = subprocess.run(
            ["git", "-C", str(PROJECT), *command], capture_output=True, text=True, check=True
        )
        return result.stdout.strip()

    try:
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return "unknown", False
