"""Training: repeatable, resumable, honest about divergence, and complete in what it writes down."""

import json

import numpy as np
import pytest
import torch
import xarray as xr
from test_networks import factory  # noqa: F401  (used by name)

from sparsity_lib import study
from sparsity_lib.study import runs, training
from sparsity_lib.study.observation import rise_to_end
from sparsity_lib.study.training import OutOfTime

SMALL = {"dataset": "digits", "limit": 100, "lr": 0.1, "epochs": 3}
TIMES = {"epoch_seconds", "monitor_seconds"}


def equal(a: study.Run, b: study.Run) -> bool:
    same = a.root.drop_vars(TIMES).equals(b.root.drop_vars(TIMES)) and a.layers == b.layers
    return same and all(a.layer(name).equals(b.layer(name)) for name in a.layers)


class Interrupted(Exception):
    pass


def interrupt_after(epoch):
    def on_epoch(record):
        if record["epoch"] == epoch:
            raise Interrupted

    return on_epoch


@pytest.mark.parametrize("network", ["sr3Net", "dropNet", "normNet"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_resumed_runs_are_bit_for_bit_the_unbroken_ones(network, optimizer, tmp_path):
    experiment = study.Experiment(network=network, optimizer=optimizer, **SMALL | {"lr": 0.01})
    unbroken = study.train(experiment, folder=tmp_path / "a")
    with pytest.raises(Interrupted):  # between the checkpoint after epoch 0 and the one after epoch 1
        study.train(experiment, interrupt_after(1), tmp_path / "b", checkpoint_seconds=0)
    epochs = []
    resumed = study.train(experiment, lambda record: epochs.append(record["epoch"]), tmp_path / "b")
    assert epochs == [1, 2]
    assert equal(unbroken, resumed)
    assert not list((tmp_path / "b").glob("*.ckpt"))


def test_a_finished_run_is_not_trained_again(tmp_path):
    experiment = study.Experiment(**SMALL)
    first = study.train(experiment, folder=tmp_path)
    again = study.train(experiment, interrupt_after(-1), tmp_path)
    assert again.path == first.path


def test_training_leaves_the_callers_random_state_alone(tmp_path):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    study.train(study.Experiment(network="dropNet", **SMALL), folder=tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_seeds_matter_and_pairs_share_data_and_start(tmp_path):
    a, b, c = (
        study.train(study.Experiment(network=network, seed=seed, **SMALL), folder=tmp_path)
        for network, seed in (("vanillaNet", 0), ("sr2Net", 0), ("vanillaNet", 1))
    )
    at_start = [run.root.val_loss.sel(epoch=-1).item() for run in (a, b, c)]
    assert at_start[0] == at_start[1] != at_start[2]
    assert a.root.images.identical(c.root.images)
    assert a.provenance["data_digest"] == c.provenance["data_digest"]


@pytest.mark.parametrize("damage", ["truncated", "not a checkpoint", "other code"])
def test_an_unusable_checkpoint_is_set_aside_and_the_run_redone(damage, tmp_path, monkeypatch):
    experiment = study.Experiment(**SMALL)
    with pytest.raises(Interrupted):
        study.train(experiment, interrupt_after(1), tmp_path, checkpoint_seconds=0)
    checkpoint = runs.path_of(experiment, tmp_path).with_suffix(".ckpt")
    if damage == "truncated":
        checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    elif damage == "not a checkpoint":
        checkpoint.write_text("hello")
    else:
        monkeypatch.setattr(training, "code_fingerprint", lambda: "00000000")
    epochs = []
    with pytest.warns(UserWarning, match="set aside"):
        study.train(experiment, lambda record: epochs.append(record["epoch"]), tmp_path)
    assert epochs == [-1, 0, 1, 2]
    assert checkpoint.with_name(checkpoint.name + ".set-aside").exists()


def test_a_truncated_run_file_is_set_aside_and_redone(tmp_path):
    experiment = study.Experiment(**SMALL)
    run = study.train(experiment, folder=tmp_path / "a")
    damaged = runs.path_of(experiment, tmp_path / "b")
    damaged.parent.mkdir()
    damaged.write_bytes(run.path.read_bytes()[:5000])
    with pytest.raises(study.StudyError, match="damaged"):
        study.load(damaged)
    with pytest.warns(UserWarning, match="set aside"):
        again = study.train(experiment, folder=tmp_path / "b")
    assert equal(run, again)


def test_divergence_stops_with_epoch_step_and_terms(tmp_path):
    experiment = study.Experiment(network="sr3Net", **SMALL | {"lr": 1e12})
    with pytest.raises(
        study.NonFiniteLoss, match=r"epoch \d+, step \d+ \(loss \S+, sparsity \S+, decorrelation \S+\)"
    ):
        study.train(experiment, folder=tmp_path)
    assert not list(tmp_path.glob("*.nc"))


def test_out_of_time_resumes(tmp_path):
    experiment = study.Experiment(**SMALL)
    with pytest.raises(OutOfTime, match="resumes"):
        study.train(experiment, folder=tmp_path, deadline=0)
    assert study.train(experiment, folder=tmp_path).root.sizes["epoch"] == 4


def test_the_run_file_explains_itself(tmp_path):
    run = study.train(study.Experiment(network="sr3Net", **SMALL), folder=tmp_path)
    with xr.open_datatree(run.path, engine="h5netcdf") as tree:
        root, conv3 = tree.to_dataset(), tree["conv3"].to_dataset()
        assert json.loads(tree.attrs["experiment"])["network"] == "sr3Net"
        for name in (
            "commit",
            "dirty",
            "code_fingerprint",
            "data_digest",
            "torch",
            "device",
            "threads",
            "seconds",
        ):
            assert name in tree.attrs
        assert root.epoch.values.tolist() == [-1, 0, 1, 2]
        assert np.isnan(root.train_loss.sel(epoch=-1))
        for name in ("train_loss", "val_loss", "val_accuracy", "penalty_sparsity", "penalty_decorrelation"):
            assert np.isfinite(root[name].sel(epoch=[0, 1, 2])).all(), name
        assert root.penalty_sparsity.sel(epoch=2) < 0  # Eq. 5: minus the entropy
        assert root.images.dtype == np.uint8
        assert conv3.heatmap.dims == ("saved_epoch", "image", "y", "x")
        assert conv3.heatmap.min() >= 0
        assert conv3.heatmap.max() <= np.log(32) * 1.001
        assert (conv3.penalty_gradient_ratio > 0).all()
        pairs = conv3.correlation_histogram.sum("bin")
        assert (pairs == 32 * 31 / 2).all()


def test_maps_average_to_the_layers_entropy(tmp_path):
    """The maps shown are of the very activations that the statistics are of."""
    run = study.train(study.Experiment(**SMALL | {"epochs": 1}), folder=tmp_path)
    for name in run.layers:
        layer = run.layer(name)
        shown = layer.heatmap.mean(("y", "x", "image"))
        low, high = (layer.entropy_quantile.sel(split="monitor", quantile=q) for q in (0.05, 0.95))
        for epoch in (-1, 0):
            assert low.sel(epoch=epoch) - 0.05 <= shown.sel(saved_epoch=epoch) <= high.sel(epoch=epoch) + 0.05


def test_norm_net_is_monitored_before_and_after_the_norm(tmp_path):
    run = study.train(study.Experiment(network="normNet", **SMALL | {"epochs": 1}), folder=tmp_path)
    assert run.layers == ["conv1", "conv2", "norm1", "conv3", "conv4", "norm2", "fc1"]


@pytest.mark.parametrize(
    "fields",
    [
        {"include_bias": False},
        {"activation": "after"},
        {"reduction": "mean"},
        {"center": "components"},
        {"decorrelation_penalty": "squared"},
        {"center": "none", "decorrelation_penalty": "local"},
        {"input_scaling": "standardize"},
        {"init": "pytorch"},
        {"precision": "bf16"},
        {"deterministic": True},
        {"optimizer": "adam", "lr": None},
    ],
)
def test_every_reading_trains(fields, tmp_path):
    run = study.train(study.Experiment(network="sr3Net", **SMALL | {"epochs": 1} | fields), folder=tmp_path)
    assert np.isfinite(run.root.val_loss).all()


def test_a_network_of_ones_own_is_trained_and_monitored(tmp_path):
    experiment = study.Experiment(network="test_networks:factory", **SMALL)
    assert study.train(experiment, folder=tmp_path).layers == ["1"]
    with pytest.raises(study.StudyError, match="conv1"):
        study.train(
            study.Experiment(network="test_networks:factory", sparsity={"conv1": 1}, **SMALL), folder=tmp_path
        )


def test_a_device_that_is_not_there(tmp_path):
    with pytest.raises(study.StudyError, match="device 'cuda:99' is not available"):
        study.train(study.Experiment(device="cuda:99", **SMALL), folder=tmp_path)


def test_more_training_samples_than_exist(tmp_path):
    with pytest.raises(study.StudyError, match=r"1,?000"):
        study.train(study.Experiment(**SMALL | {"limit": 5000}), folder=tmp_path)


def test_rise_to_end():
    generator = torch.Generator().manual_seed(1)
    noise = torch.rand(30, 400, generator=generator)
    flat, rising = noise, noise + torch.linspace(0, 3, 30)[:, None]
    mean, low, high = rise_to_end(rising, sign=1)
    assert mean[0].item() == pytest.approx((rising[-5:].mean() - rising[0].mean()).item(), abs=1e-6)
    assert (low <= mean).all()
    assert (mean <= high).all()
    assert low[0] > 0
    mean, low, high = rise_to_end(flat, sign=1)
    assert low[0] < 0 < high[0]
    assert torch.equal(rise_to_end(flat, sign=-1)[0], -rise_to_end(flat, sign=1)[0])
