"""Fixtures: every test writes to a folder of its own, and a few small real runs are trained once."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sparsity_lib import study

pytest_plugins = ["browser", "faults"]
TINY = {"dataset": "digits", "epochs": 12, "limit": 200, "lr": 0.1, "label_noise": 0.3}


@pytest.fixture(scope="session", autouse=True)
def _isolated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Runs go to a temporary folder; one thread, so that results do not depend on the machine's load."""
    before, threads = os.environ.get("SPARSITY_RUNS"), torch.get_num_threads()
    os.environ["SPARSITY_RUNS"] = str(tmp_path_factory.mktemp("runs"))
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    del os.environ["SPARSITY_RUNS"]
    if before is not None:
        os.environ["SPARSITY_RUNS"] = before


@pytest.fixture
def runs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of runs for one test."""
    monkeypatch.setenv("SPARSITY_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture(scope="session")
def tiny_run() -> study.Run:
    """vanillaNet-s on 200 digits for 12 epochs."""
    return study.train(study.Experiment(network="vanillaNet", **TINY))


@pytest.fixture(scope="session")
def tiny_runs(tiny_run: study.Run) -> list[study.Run]:
    """vanillaNet, normNet and sr3Net on 200 digits for 12 epochs, seeds 0 and 1."""
    return [
        study.train(study.Experiment(network=network, seed=seed, **TINY))
        for network in ("vanillaNet", "normNet", "sr3Net")
        for seed in (0, 1)
    ]
