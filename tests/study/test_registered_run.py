"""A run file of the registered commit: later code opens, verifies, repeats and publishes it."""

from pathlib import Path

import numpy as np
import pytest
import torch

import sparsity_lib as sl
from sparsity_lib import study
from sparsity_lib.study import profiles, repeatability
from sparsity_lib.study.runs import compact, publication, results
from sparsity_lib.study.runs import file as runs
from sparsity_lib.study.runs.dimensions import KEPT, MOMENTS

DATA = Path(__file__).with_name("data")
COMMIT = "6ffeb6c9a5256a233af91aff36b558d413654c6b"
EXPERIMENT = study.Experiment(
    network="srLeNet",
    size="quarter",
    dataset="digits",
    image_size=16,
    limit=100,
    lr=0.1,
    epochs=3,
    seed=100,
    compiled=False,
)


def registered() -> study.Run:
    run = runs.find(EXPERIMENT, DATA)
    assert run, "the run's id, or the version of the numerics, changed"
    return run


def test_a_registered_run_is_read_entirely() -> None:
    run = registered()
    assert run.provenance["commit"] == COMMIT
    assert not run.provenance["dirty"]
    assert run.layers == ["conv1", "conv2", "fc1", "fc2"]
    assert {"val_loss_calibrated", "temperature", "moment_epoch", "image_loss"} <= run.root.keys()
    for dataset in (run.root, *map(run.layer, run.layers)):
        for name, values in dataset.data_vars.items():
            assert values.size, name
            assert values.dtype.kind in "iuO" or np.isfinite(values[..., -1]).all(), name
    assert run.layer("conv1")["activations"].dims == ("kept_moment", "shown_image", "channel", "y", "x")
    assert run.root["image_correct"].sizes["moment"] == len(MOMENTS)
    images = torch.from_numpy(run.root["images"].to_numpy()).permute(0, 3, 1, 2)
    for moment in KEPT:
        model, prepare = study.trained_network(run, moment)
        with torch.no_grad(), sl.ActivationMonitor(model, ["conv1"], maps=len(images)) as monitor:
            assert model(prepare(images)).shape == (len(images), len(run.classes))
    maps = run.layer("conv1")["heatmap"].isel(saved_epoch=-1)
    np.testing.assert_allclose(monitor.compute()["conv1"].maps, maps, atol=maps.encoding["scale_factor"])


def test_a_registered_run_is_repeated() -> None:
    assert repeatability.differences(EXPERIMENT, results.curves([registered()])) == []


def test_a_registered_run_is_published(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(results, "PROJECT", tmp_path)
    cell = EXPERIMENT.model_dump() | {"device": "auto"}
    del cell["seed"]
    grid = profiles.Grid((cell,), (), (100,), with_run_file={})
    monkeypatch.setitem(profiles.PROFILES, "tiny", profiles.Profile("one run", {"networks": grid}))
    assert publication.publish("tiny", DATA) == 1
    assert publication.publish_networks("tiny", ["srLeNet"], DATA) == 1
    assert publication.verify("tiny") == []
    (shown,) = map(study.load, results.published_runs("tiny"))
    assert shown.experiment == EXPERIMENT
    assert study.trained_network(shown)
    assert compact.published_outcomes("tiny", "networks.nc")["image_correct"].min() == 0
    assert study.published("tiny")["commit"].item() == COMMIT
