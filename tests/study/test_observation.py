"""Observations other than curves: silenced channels."""

import pytest
import torch
from torch import nn

from sparsity_lib.study.data import Split
from sparsity_lib.study.runs.dimensions import KNOCKED_OUT
from sparsity_lib.study.training.observation import ablate_channels, rise_to_end


def accuracies(model, images, labels, layers):
    split = Split(images, labels)
    return ablate_channels(model, layers, split, lambda x: x, torch.Generator().manual_seed(0))


def test_accuracy_falls_with_the_channels_that_classes_need():
    """Channel i alone is active for class i."""
    model = nn.Sequential()
    model.add_module("fc1", nn.Linear(10, 10, bias=False))
    model.add_module("fc1_relu", nn.ReLU())
    model.add_module("fc2", nn.Linear(10, 10, bias=False))
    with torch.no_grad():
        model.fc1.weight.copy_(torch.eye(10))
        model.fc2.weight.copy_(torch.eye(10))
    labels = torch.arange(10).repeat(20)
    record = accuracies(model, torch.eye(10)[labels], labels, ["fc1"])
    kept = 1 - torch.tensor(KNOCKED_OUT)
    found = record["fc1/knockout_accuracy"]
    # Of a silenced class all logits are equal, and the first class wins: right for class 0 alone.
    assert found[0] == 1
    assert ((found - kept).abs() <= 0.1 + 1e-6).all()
    assert (found.diff() < 0).all()


@pytest.mark.parametrize("shape", [(3, 8, 8), (3, 8)])
def test_convolutions_lose_whole_channels_and_the_model_is_as_before(shape):
    convolution = nn.Conv2d(3, 4, 3, padding=1) if len(shape) == 3 else nn.Conv1d(3, 4, 3, padding=1)
    model = nn.Sequential(convolution, nn.Flatten(), nn.LazyLinear(5))
    images = torch.rand(6, *shape)
    before = model(images)
    record = accuracies(model, images, before.argmax(1), ["0"])
    assert record["0/knockout_accuracy"][0] == 1
    assert torch.equal(model(images), before)
    assert not convolution._forward_hooks


def test_rise_to_end_has_its_mean_within_the_interval():
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
    few = torch.tensor(
        [[9.0], [1.0], [3.0]]
    )  # of which the first, the untrained network, is no part of the end
    assert rise_to_end(few, sign=1.0)[0].tolist() == [2 - 9, 2 - 1, 2 - 3]
