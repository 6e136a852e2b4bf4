"""A copy of the project in which training is short and writes a checkpoint after every epoch."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TINY = """

PROFILES["tiny"] = Profile(
    "four short runs",
    {
        "networks": Grid(
            tuple(
                {"network": network, "dataset": "digits", "limit": 300, "lr": 0.1, "epochs": EPOCHS}
                for network in ("vanillaNet", "dropNet", "normNet", "sr3Net")
            ),
            seeds=(0,),
            published_seeds=(100,),
        )
    },
)
"""


def copied_project(root: Path, epochs: int = 40) -> Path:
    """Put a copy at `root`, with a profile `tiny` of four runs of seconds; its runs are in `root/runs`."""
    for name in ("sparsity_lib", "scripts", "workflow"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, root)
    training = root / "sparsity_lib/study/training/loop.py"
    before, after = "CHECKPOINT_SECONDS = 120.0", "CHECKPOINT_SECONDS = 0.0"
    assert before in training.read_text()
    training.write_text(training.read_text().replace(before, after))
    with (root / "sparsity_lib/study/profiles.py").open("a") as profiles:
        profiles.write(TINY.replace("EPOCHS", str(epochs)))
    return root


class Started(subprocess.Popen[bytes]):
    """A running command, in a process group of its own, as from a terminal."""

    log: Path  # its output


def start(root: Path, *command: str, environment: Mapping[str, str] | None = None) -> Started:
    """Start `python COMMAND` in the copy, on one thread, so that numbers can be compared."""
    own = {"PYTHONPATH": str(root), "SPARSITY_RUNS": str(root / "runs"), "OMP_NUM_THREADS": "1"}
    with tempfile.NamedTemporaryFile("w", dir=root, suffix=".txt", delete=False) as log:
        process = Started(
            [sys.executable, *command],
            cwd=root,
            env={**os.environ, **own, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    process.log = Path(log.name)
    return process


def finish(process: Started, expected: int = 0, seconds: float = 300) -> str:
    """Output of the command at its end. Fails if its exit code is not the expected one."""
    try:
        process.wait(seconds)
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
    output = process.log.read_text()
    assert process.returncode == expected, output
    return output
