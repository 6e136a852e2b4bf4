"""The trained network that is kept beside a run."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sparsity_lib as sl
from sparsity_lib import study
from sparsity_lib.study.runs import NETWORK


@pytest.mark.parametrize("fields", [{}, {"network": "normNet"}, {"input_scaling": "standardize"}])
def test_it_does_what_the_run_says(fields: dict[str, Any], tmp_path: Path) -> None:
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


def test_one_that_is_not_there_or_another_runs_is_refused(tiny_runs: list[study.Run], tmp_path: Path) -> None:
    one, other = tiny_runs[:2]
    alone = study.load(shutil.copy(one.path, tmp_path))
    with pytest.raises(study.StudyError, match=rf"network of {one.id} was not kept: there is no {one.id}"):
        study.trained_network(alone)
    shutil.copy(other.path.with_suffix(NETWORK), alone.path.with_suffix(NETWORK))
    with pytest.raises(study.StudyError, match=f"of another network: it is that of {other.id}"):
        study.trained_network(alone)
    alone.path.with_suffix(NETWORK).write_bytes(one.path.with_suffix(NETWORK).read_bytes()[:2000])
    with pytest.raises(study.StudyError, match=r"\.weights\.pt is damaged or of another network: "):
        study.trained_network(alone)
