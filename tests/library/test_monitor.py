"""ActivationMonitor on a network: what it measures, what it counts, what it keeps."""

import numpy as np
import pytest
import torch
from devices import no_value_read
from reference import assert_is_reference, monitored
from small_network import SmallNetwork
from torch import Tensor

import sparsity_lib as sl
from sparsity_lib import functional as f

LAYERS = ["conv1", "norm1", "conv2", "fc1"]  # all but the last linear


@pytest.fixture
def x() -> Tensor:
    return torch.randn(30, 3, 6, 6)


@pytest.mark.parametrize("layers", [None, LAYERS])
@pytest.mark.parametrize("every", [1, 2])
def test_statistics_are_those_of_a_float64_reference_before_in_place_relus(
    layers: list[str] | None, every: int, model: SmallNetwork, x: Tensor
) -> None:
    batches = x.split(7)  # five of them
    stats = monitored(model, *batches, layers=layers, every=every, maps=4)
    outputs = model.outputs(torch.cat(batches[::every]))
    assert list(stats) == LAYERS == list(outputs)
    for name in LAYERS:
        assert_is_reference(stats[name], outputs[name])


def test_maps_are_those_of_the_first_samples_since_the_reset(model: SmallNetwork, x: Tensor) -> None:
    monitor = sl.ActivationMonitor(model, ["conv1", "fc1"], maps=9)
    for images in (x, x.flip(0)):
        monitor.reset()
        with monitor:
            for batch in images.split(4):
                model(batch)
        stats, outputs = monitor.compute(), model.outputs(images)
        for name, shape in {"conv1": (9, 4, 4), "fc1": (9,)}.items():
            shown = outputs[name][:9].detach()
            for maps, activations in (
                (stats[name].maps, shown),
                (stats[name].scale_free_maps, f.standardize(shown)),
            ):
                assert (maps.shape, maps.dtype) == (shape, np.float32)
                np.testing.assert_allclose(maps, f.rfav_entropy(activations).numpy(), rtol=1e-4)
    with sl.ActivationMonitor(model.conv1, [model.conv1], maps=50) as of_two_sizes:
        model.conv1(x)
        model.conv1(x[:, :, 1:])
    with pytest.raises(ValueError, match=r"\[\(3, 4\), \(4, 4\)\]"):
        of_two_sizes.compute()
    without = monitored(model, x, layers=["conv1"])["conv1"]
    assert without.maps is without.scale_free_maps is None


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_statistics_are_the_same_in_training_and_without_gradients(
    grad: bool, training: bool, model: SmallNetwork, x: Tensor
) -> None:
    model.train(training)
    expected = model.outputs(x)["norm1"]
    with torch.set_grad_enabled(grad):
        assert_is_reference(monitored(model, x, layers=["norm1"], maps=2)["norm1"], expected)


def test_half_precision_is_reduced_in_float32(model: SmallNetwork, x: Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        expected, stats = model.conv1(x), monitored(model, x, layers=["conv1"])
    assert expected.dtype == torch.bfloat16
    assert_is_reference(stats["conv1"], expected)


def test_inference_mode_and_training_may_alternate(model: SmallNetwork, x: Tensor) -> None:
    with sl.ActivationMonitor(model, ["conv1"]) as monitor:
        with torch.inference_mode():
            model(x[:10])
        model(x[10:])
        with torch.inference_mode():
            stats = monitor.compute()
    assert_is_reference(stats["conv1"], model.conv1(x))


def test_nested_monitors_are_independent(model: SmallNetwork, x: Tensor) -> None:
    with sl.ActivationMonitor(model) as outer:
        model(x[:10])
        with sl.ActivationMonitor(model) as inner:
            model(x[10:])
    samples = [monitor.compute()["conv1"].samples for monitor in (outer, inner)]
    assert samples == [30, 20]


def test_statistics_accumulate_when_attached_again_until_a_reset(model: SmallNetwork, x: Tensor) -> None:
    monitor = sl.ActivationMonitor(model)
    for batch in x.split(10):
        with monitor:
            model(batch)
        model(batch)
    assert_is_reference(monitor.compute()["conv1"], model.conv1(x))
    monitor.reset()
    with pytest.raises(RuntimeError, match="conv1, norm1, conv2, fc1"):
        monitor.compute()


def test_a_layer_that_was_named_and_did_not_run_is_an_error(model: SmallNetwork, x: Tensor) -> None:
    with sl.ActivationMonitor(model, ["*"]) as monitor:
        model.norm1(model.conv1(x))
    with pytest.raises(RuntimeError, match=" conv2, fc1, fc2:"):
        monitor.compute()


def test_nothing_grows_with_the_number_of_batches(model: SmallNetwork, x: Tensor) -> None:
    def held(monitor: sl.ActivationMonitor) -> int:
        of_layers = [vars(sums).values() for sums in monitor._sums.values()]
        flat = [t for values in of_layers for v in values for t in (v if isinstance(v, list) else [v])]
        tensors = [t for t in flat if isinstance(t, Tensor)]
        assert not any(t.requires_grad for t in tensors)
        return sum(t.untyped_storage().nbytes() for t in tensors)

    with sl.ActivationMonitor(model, maps=3) as monitor:
        model(x)
        before = held(monitor)
        for _ in range(5):
            model(x)
        assert held(monitor) == before


def test_no_value_is_read_back_while_the_model_runs(model: SmallNetwork, x: Tensor) -> None:
    with sl.ActivationMonitor(model, maps=3) as monitor, no_value_read():
        model(x)
    assert monitor.compute()["conv1"].samples == 30


def test_the_table_has_a_row_for_each_layer(model: SmallNetwork, x: Tensor) -> None:
    with sl.ActivationMonitor(model, maps=2) as monitor:
        model(x)
    table, stats = monitor.to_dataframe(), monitor.compute()
    assert list(table.index) == LAYERS
    assert table.loc["conv2", "entropy"] == stats["conv2"].entropy
    assert table.loc["fc1", "entropy_q05"] == stats["fc1"].entropy_quantiles[0.05]
    assert table.dtypes["channels"] == np.int64
    assert "maps" not in table


def test_bad_settings_are_refused(model: SmallNetwork) -> None:
    cases = [
        ({"layers": []}, ValueError, "no layer"),
        ({"layers": "conv1"}, TypeError, r"\['conv1'\]"),
        ({"every": 0}, ValueError, "every .*not 0"),
        ({"every": 1.5}, ValueError, r"every .*not 1\.5"),
        ({"every": "2"}, ValueError, "every .*not '2'"),
        ({"maps": -1}, ValueError, "maps .*not -1"),
        ({"maps": 4.0}, ValueError, r"maps .*not 4\.0"),
        ({"rank_channels": None}, ValueError, "rank_channels .*not None"),
    ]
    for options, error, message in cases:
        with pytest.raises(error, match=message):
            sl.ActivationMonitor(model, **options)
