"""The trained network that is kept next to a run."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from refusals import refused
from run_files import described_as
from test_networks import factory  # noqa: F401  (used by name)
from torch import nn

import sparsity_lib as sl
from sparsity_lib import study
from sparsity_lib.study.runs.file import NETWORK
from sparsity_lib.study.runs.networks import initial_network


@pytest.mark.parametrize("fields", [{}, {"network": "normNet"}, {"input_scaling": "standardize"}])
def test_a_trained_network_reproduces_the_runs_maps(fields: dict[str, Any], tmp_path: Path) -> None:
    settings: dict[str, Any] = {"dataset": "digits", "limit": 100, "lr": 0.1, "epochs": 2} | fields
    run = study.train(study.Experiment(**settings), folder=tmp_path)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    model, prepare = study.trained_network(run)
    assert torch.equal(torch.rand(2), expected)
    assert not model.training
    images = torch.from_numpy(run.root["images"].to_numpy()).permute(0, 3, 1, 2)
    with torch.no_grad(), sl.ActivationMonitor(model, maps=len(images)) as monitor:
        model(prepare(images))
    for layer, stats in monitor.compute().items():
        for maps, name in ((stats.maps, "heatmap"), (stats.scale_free_maps, "scale_free_heatmap")):
            stored = run.layer(layer)[name]
            step = stored.encoding["scale_factor"]
            np.testing.assert_allclose(
                maps, stored.isel(saved_epoch=-1).to_numpy().reshape(np.shape(maps)), atol=step
            )


def test_missing_or_foreign_networks_are_refused(tiny_runs: list[study.Run], tmp_path: Path) -> None:
    one, other = tiny_runs[:2]
    alone = study.load(shutil.copy(one.path, tmp_path))
    with refused(one.id):
        study.trained_network(alone)
    shutil.copy(other.path.with_suffix(NETWORK), alone.path.with_suffix(NETWORK))
    with refused(other.id):
        study.trained_network(alone)
    alone.path.with_suffix(NETWORK).write_bytes(one.path.with_suffix(NETWORK).read_bytes()[:2000])
    with refused(".weights.pt"):
        study.trained_network(alone)


Renamed = Callable[[str], study.Run]


@pytest.fixture
def renamed(tiny_run: study.Run, tmp_path: Path) -> Renamed:
    """`renamed(network)` opens a copy of a run's file, with weights, that names this network."""

    def of(network: str) -> study.Run:
        shutil.copy(tiny_run.path.with_suffix(NETWORK), tmp_path)
        return study.load(described_as(tiny_run, tmp_path, network=network))

    return of


def test_run_files_import_nothing(renamed: Renamed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "foreign.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\ndef make(*_): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    run = renamed("foreign:make")
    assert run.root["images"].size
    assert run.layer(run.layers[0])["heatmap"].size
    study.explore(run).as_html()
    for of_run in (study.trained_network, study.image_explorer, initial_network):
        with refused("foreign:make", "import foreign"):
            of_run(run)
    assert "foreign" not in sys.modules
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "network",
    [
        *("os:abort", "shutil:rmtree", "subprocess:Popen", "builtins:exec", "torch:load", "os:"),
        *("test_trained:shutil", "test_trained:Path", "test_networks:factory.__call__", ":factory"),
        *("../test_networks:factory", "test_trained:NETWORK", "__main__:nothing"),
    ],
)
def test_run_files_call_networks_alone(network: str, renamed: Renamed) -> None:
    with refused(network):
        study.trained_network(renamed(network))


def test_a_users_network_is_built_once_imported(renamed: Renamed, tmp_path: Path) -> None:
    run = renamed("test_networks:factory")
    with refused("vanillaNet"):
        study.trained_network(run)  # the weights are of another
    assert [type(module) for module in initial_network(run)] == [nn.Flatten, nn.Linear, nn.ReLU, nn.Linear]
    own = study.Experiment(network="test_networks:factory", dataset="digits", limit=100, epochs=1)
    model, prepare = study.trained_network(study.train(own, folder=tmp_path / "own"))
    assert model(prepare(torch.zeros(2, 1, 8, 8, dtype=torch.uint8))).shape == (2, 10)
