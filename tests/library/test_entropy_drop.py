"""EntropyDropDetector: when it warns, that it sees no later epoch, resumes, and what it refuses."""

import json
import math

import numpy as np
import pytest
import torch
from reference import monitored
from torch import nn

import sparsity_lib as sl
from sparsity_lib.entropy_drop import collapse_epochs

CHANNELS = {"conv3": 32, "fc1": 64}
EPOCHS = 30


def step(at: int) -> np.ndarray:
    """Shares of ln D: 0.9 before epoch `at`, then 0.5."""
    return np.where(np.arange(EPOCHS) < at, 0.9, 0.5)


def fed(warning: sl.EntropyDropDetector, first: int = 0, **shares: np.ndarray) -> list[list[str]]:
    return [
        warning.update({name: share[epoch] * math.log(CHANNELS[name]) for name, share in shares.items()})
        for epoch in range(first, EPOCHS)
    ]


def test_each_layer_is_named_once_in_the_second_epoch_that_lies_low() -> None:
    warning = sl.EntropyDropDetector(CHANNELS)
    named = fed(warning, conv3=step(12), fc1=step(20))
    assert warning.epochs == {"conv3": 13, "fc1": 21}
    assert [(epoch, layers) for epoch, layers in enumerate(named) if layers] == [
        (13, ["conv3"]),
        (21, ["fc1"]),
    ]


def test_layers_that_recover_are_not_named_again() -> None:
    share = step(10)
    share[15:20] = 0.9
    warning = sl.EntropyDropDetector({"conv3": 32})
    assert fed(warning, conv3=share).count(["conv3"]) == 1
    assert warning.epochs == {"conv3": 11}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 11),
        ({"patience": 1}, 10),
        ({"patience": 4}, 13),
        ({"margin": 0.5}, None),
        ({"reference": 20}, None),
    ],
)
def test_margin_reference_and_patience_set_the_epoch(options: dict, expected: int | None) -> None:
    warning = sl.EntropyDropDetector({"conv3": 32}, **options)
    fed(warning, conv3=step(10))
    assert warning.epochs.get("conv3") == expected


def test_whole_curves_and_single_epochs_give_the_same_warnings() -> None:
    rng = np.random.default_rng(0)
    shares = np.clip(np.linspace(0.9, 0.6, EPOCHS) + 0.1 * rng.standard_normal((50, EPOCHS)), 0, 1)
    whole = collapse_epochs(shares)
    assert np.isnan(whole).any()
    assert np.isfinite(whole).any()
    for curve, epoch in zip(shares, whole, strict=True):
        warning = sl.EntropyDropDetector({"conv3": 32})
        fed(warning, conv3=curve)
        assert warning.epochs.get("conv3", math.nan) == pytest.approx(epoch, nan_ok=True)


def test_curves_with_gaps_or_that_end_early_give_no_warning_there() -> None:
    ends, gap, unknown = step(10), step(10), step(10)
    ends[11:] = np.nan
    gap[11] = np.nan
    unknown[2] = np.nan
    np.testing.assert_array_equal(collapse_epochs(np.stack([ends, gap, unknown])), [np.nan, 13, np.nan])
    assert np.isnan(collapse_epochs(step(10)[:4]))


def test_a_detector_takes_the_statistics_of_a_monitor() -> None:
    """Weights that grow a hundredfold collapse the softmax's entropy."""
    torch.manual_seed(0)
    layer, images = nn.Conv2d(3, 16, 3), torch.randn(8, 3, 6, 6)
    warning = sl.EntropyDropDetector({"": 16})
    for epoch in range(10):
        if epoch == 6:
            layer.weight.data *= 100
        with torch.no_grad(), sl.ActivationMonitor(layer) as monitor:
            layer(images)
        assert isinstance(warning.update(monitor.compute()), list)
    assert warning.epochs == {"": 7}


def test_channels_may_be_numpys_numbers() -> None:
    warning = sl.EntropyDropDetector(
        {name: np.int64(d) for name, d in CHANNELS.items()}, patience=np.int64(2)
    )
    assert json.dumps(warning.state_dict()) == json.dumps(sl.EntropyDropDetector(CHANNELS).state_dict())


@pytest.mark.parametrize("interrupted", [3, 11, 25])
def test_a_detector_resumes_from_its_state(interrupted: int) -> None:
    first = sl.EntropyDropDetector(CHANNELS)
    for epoch in range(interrupted):
        first.update({name: step(10)[epoch] * math.log(d) for name, d in CHANNELS.items()})
    second = sl.EntropyDropDetector(CHANNELS)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert second.epochs == first.epochs
    fed(second, interrupted, conv3=step(10), fc1=step(10))
    assert second.epochs == {"conv3": 11, "fc1": 11}


def test_a_state_of_other_layers_or_another_rule_is_refused() -> None:
    state = sl.EntropyDropDetector(CHANNELS).state_dict()
    with pytest.raises(ValueError, match="channels, epochs"):
        sl.EntropyDropDetector(CHANNELS).load_state_dict({})
    with pytest.raises(ValueError, match="fc1"):
        sl.EntropyDropDetector({"conv3": 32}).load_state_dict(state)
    with pytest.raises(ValueError, match="margin"):
        sl.EntropyDropDetector(CHANNELS, margin=0.1).load_state_dict(state)


def test_impossible_entropies_are_refused_and_do_not_count() -> None:
    warning = sl.EntropyDropDetector(CHANNELS)
    before = warning.state_dict()
    with pytest.raises(ValueError, match=r"'fc1'.* conv3"):
        warning.update({"conv3": 3.0})
    for wrong in (20.0, -1.0, math.nan):  # 20: a perplexity, perhaps
        with pytest.raises(ValueError, match=r"'conv3'.* 32 .*\[0, 3.466\] nats"):
            warning.update({"conv3": wrong, "fc1": 1.0})
    assert warning.state_dict() == before
    for vague in (None, [1.0, 2.0], torch.ones(2)):
        with pytest.raises(ValueError, match="'conv3'"):
            warning.update({"conv3": vague, "fc1": 1.0})
    with pytest.raises(TypeError, match=r"channels.* list"):
        sl.EntropyDropDetector(["conv3"])
    with pytest.raises(ValueError, match="layer"):
        sl.EntropyDropDetector({})
    with pytest.raises(ValueError, match=r"'conv3'.* 1$"):
        sl.EntropyDropDetector({"conv3": 1})
    for margin in (-0.1, math.inf, "0.1"):
        with pytest.raises(ValueError, match="margin"):
            sl.EntropyDropDetector(CHANNELS, margin=margin)
    for name in ("reference", "patience"):
        with pytest.raises(ValueError, match=f"{name}.* 0$"):
            sl.EntropyDropDetector(CHANNELS, **{name: 0})


def test_statistics_of_another_number_of_channels_are_refused() -> None:
    layer, detector = nn.Linear(4, 32), sl.EntropyDropDetector({"": 64})
    with pytest.raises(ValueError, match=r"''.* 32 .* 64"):
        detector.update(monitored(layer, torch.randn(8, 4), layers=[layer]))
    assert detector.state_dict()["seen"] == 0


def test_the_old_name_warns():
    with pytest.warns(DeprecationWarning, match="EntropyDropDetector"):
        assert sl.OverfitWarning is sl.EntropyDropDetector
