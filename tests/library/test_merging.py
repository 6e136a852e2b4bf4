"""Monitors of parts of the data, joined, are one monitor of all; and their scalars."""

import math
import pickle

import numpy as np
import pytest
import torch
from reference import assert_is_reference
from small_network import SmallNetwork
from torch import Tensor, nn

import sparsity_lib as sl


def seen(*batches: Tensor, layers: list[str] | None = None, **options: object) -> sl.ActivationMonitor:
    model = SmallNetwork().eval()
    with sl.ActivationMonitor(model, layers, **options) as monitor:
        for batch in batches:
            model(batch)
    return monitor


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("layers", [None, ["conv1", "fc1"]])
def test_merged_monitors_are_one(pickled: bool, layers: list[str] | None) -> None:
    torch.manual_seed(0)
    parts = [torch.randn(4, 3, 6, 6), 5 + 3 * torch.randn(3, 3, 6, 6), 1e-3 * torch.randn(5, 3, 6, 6)]
    first, *others = (seen(part, layers=layers, maps=6) for part in parts)
    for other in others:
        assert first.merge(pickle.loads(pickle.dumps(other)) if pickled else other) is first
    together = seen(*parts, layers=layers, maps=6)
    assert list(first.compute()) == list(together.compute()) == first.layers
    outputs = SmallNetwork().eval().outputs(torch.cat(parts))
    for name, stats in first.compute().items():
        assert_is_reference(stats, outputs[name])
        np.testing.assert_allclose(stats.maps, together.compute()[name].maps, rtol=1e-5)
    assert first.scalars() == pytest.approx(together.scalars(), rel=1e-5)


def test_without_a_rank_the_other_statistics_are_the_same() -> None:
    torch.manual_seed(0)
    parts = [torch.randn(4, 3, 6, 6), 5 + 3 * torch.randn(3, 3, 6, 6)]
    expected = seen(*parts).scalars()
    first, second = (seen(part, rank_channels=8) for part in parts)  # fc1 has 10
    found = first.merge(second).scalars()
    assert math.isnan(found.pop("effective_rank/fc1"))
    assert expected.pop("effective_rank/fc1") > 1
    assert found == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="rank_channels"):
        seen(parts[0]).merge(seen(parts[1], rank_channels=0))


def test_a_part_without_data_adds_nothing() -> None:
    x = torch.randn(4, 3, 6, 6)
    expected = seen(x).scalars()
    assert seen(x).merge(seen()).scalars() == expected
    assert seen().merge(seen(x)).scalars() == expected


@pytest.mark.parametrize("part_first", [False, True])
def test_a_monitor_of_a_part_of_the_model_merges_with_one_of_the_whole(part_first: bool) -> None:
    model, x = nn.Sequential(*(nn.Linear(4, 4) for _ in range(3))), torch.randn(6, 4)
    with sl.ActivationMonitor(model) as whole:
        model(x)
    with sl.ActivationMonitor(model) as part:
        model[0](x)
    merged = part.merge(whole) if part_first else whole.merge(part)
    assert {name: layer.samples for name, layer in merged.compute().items()} == {"0": 12, "1": 6}


def test_monitors_that_do_not_fit_are_refused() -> None:
    x = torch.randn(4, 3, 6, 6)
    with pytest.raises(ValueError, match=r"conv1 .*conv2"):
        seen(x, layers=["conv2"]).merge(seen(x, layers=["conv1"]))
    layers = [nn.Sequential(nn.Linear(3, width)) for width in (4, 5)]
    monitors = [sl.ActivationMonitor(layer, ["0"]) for layer in layers]
    for monitor, layer in zip(monitors, layers, strict=True):
        with monitor:
            layer(torch.randn(2, 3))
    with pytest.raises(ValueError, match=r"'0' .*5 .*4"):
        monitors[0].merge(monitors[1])
    with pytest.raises(RuntimeError, match="no model"):
        pickle.loads(pickle.dumps(monitors[0])).attach()


def test_a_pickled_monitor_has_neither_model_nor_functions() -> None:
    layer = nn.Linear(50_000, 4)
    options = {"dim": {layer: 1}, "output": lambda output: output, "mask": lambda input: None}
    with sl.ActivationMonitor(layer, [layer], **options) as monitor:
        layer(torch.randn(3, 50_000))
    pickled = pickle.dumps(monitor)
    assert len(pickled) < 50_000
    assert pickle.loads(pickled).scalars() == monitor.scalars()


def test_scalars_are_named_by_quantity_and_layer() -> None:
    monitor = seen(torch.randn(4, 3, 6, 6), maps=2)
    stats, scalars = monitor.compute()["conv1"], monitor.scalars()
    of_layer = {name.split("/")[0]: value for name, value in scalars.items() if name.endswith("/conv1")}
    assert of_layer == {name: getattr(stats, name) for name in of_layer}
    assert {"entropy", "scale_free_entropy", "nonpositive_share", "sd", "dead_channels"} <= of_layer.keys()
    assert all(type(value) is float for value in scalars.values())
    assert "maps" not in repr(stats)
