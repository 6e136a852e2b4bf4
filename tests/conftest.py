"""Fixtures: every test writes to a folder of its own, and a few small real runs are trained once."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sparsity_lib import study

pytest_plugins = ["browser", "explorer_pages"]
LONGEST = (
    *("test_killed", "test_notebooks", "test_benchmarks", "test_workflow", "test_book", "test_grid"),
    *("test_training", "test_notebook_runner", "test_fuzz"),
)
TINY = {"dataset": "digits", "epochs": 12, "limit": 200, "lr": 0.1, "label_noise": 0.3}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes come first: begun last, one of them would be waited for."""
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONGEST)))


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
def shared_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of runs that the test processes share: the process that first needs a run trains it."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "shared-runs"


@pytest.fixture(scope="session")
def tiny_run(shared_runs: Path) -> study.Run:
    """vanillaNet-s on 200 digits for 12 epochs."""
    return study.train(study.Experiment(network="vanillaNet", **TINY), folder=shared_runs)


@pytest.fixture(scope="session")
def tiny_runs(shared_runs: Path) -> list[study.Run]:
    """vanillaNet, normNet and sr3Net on 200 digits for 12 epochs, seeds 0 and 1."""
    return [
        study.train(study.Experiment(network=network, seed=seed, **TINY), folder=shared_runs)
        for network in ("vanillaNet", "normNet", "sr3Net")
        for seed in (0, 1)
    ]
