"""Receptive fields: the arithmetic of kernels and strides, known networks, and no traces left."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_network import Network, SmallNetwork
from torch import nn

import sparsity_lib as sl
from sparsity_lib import study

LARGEST = 64  # pixels


class Window(NamedTuple):
    """A layer that slides over its input; of an adaptive one, `kernel` is the size of its output."""

    kind: str
    kernel: int
    stride: int
    padding: int
    dilation: int

    def module(self) -> nn.Module:
        common = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        return {
            "conv": lambda: nn.Conv2d(2, 2, self.kernel, **common),
            "transposed": lambda: nn.ConvTranspose2d(2, 2, self.kernel, **common),
            "max": lambda: nn.MaxPool2d(self.kernel, **common),
            "mean": lambda: nn.AvgPool2d(self.kernel, self.stride, self.padding),
            "adaptive": lambda: nn.AdaptiveAvgPool2d(self.kernel),
        }[self.kind]()

    def taps(self, position: int, count: int) -> list[int]:
        """The places of an input of `count` that a place of the output is made of."""
        steps = range(self.kernel)
        if self.kind == "adaptive":
            return [*range(position * count // self.kernel, -(-(position + 1) * count // self.kernel))]
        if self.kind == "transposed":
            shifted = [position + self.padding - self.dilation * k for k in steps]
            places = [place // self.stride for place in shifted if place % self.stride == 0]
        else:
            dilation = 1 if self.kind == "mean" else self.dilation
            places = [position * self.stride - self.padding + dilation * k for k in steps]
        return [place for place in places if 0 <= place < count]


@st.composite
def windows(draw: st.DrawFn, kinds: tuple[str, ...]) -> Window:
    kernel = draw(st.integers(1, 4))
    padding = draw(st.integers(0, kernel // 2))
    return Window(
        draw(st.sampled_from(kinds)), kernel, draw(st.integers(1, 3)), padding, draw(st.integers(1, 2))
    )


def fields_of(chain: list[Window], height: int, width: int) -> list[sl.ReceptiveField]:
    """The chain's layers, as far as their outputs have positions and not too many."""
    model, x = nn.Sequential(), torch.zeros(1, 2, height, width)
    for window in chain:
        module = window.module()
        try:
            x = module(x)
        except RuntimeError:
            break
        if max(x.shape) > LARGEST:
            break
        model.append(module)
    names = [name for name, _ in model.named_children()]
    return list(sl.receptive_fields(model, (2, height, width), names).values()) if names else []


def limits(*axes: list[set[int]]) -> list[list[list[int]]]:
    """By axis, of each position; where one axis sees padding alone, so does the other."""
    there = all(any(axis) for axis in axes)
    return [[[min(each), max(each) + 1] if each and there else [0, 0] for each in axis] for axis in axes]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(windows(("conv", "max", "mean", "transposed", "adaptive")), min_size=1, max_size=4),
    st.integers(9, 14),
    st.integers(9, 14),
)
@example([Window("conv", 2, 1, 1, 2)], 1, 2)  # a kernel with a gap: every row that it reaches is padding
def test_any_sequence_sees_what_its_taps_reach(chain: list[Window], height: int, width: int) -> None:
    seen = [[{i} for i in range(count)] for count in (height, width)]
    for window, field in zip(chain, fields_of(chain, height, width), strict=False):
        assert field.input_size == tuple(map(len, seen))
        found = [field.rows.tolist(), field.columns.tolist()]
        taps = [
            [set(window.taps(i, len(axis))) for i in range(len(of_image))]
            for axis, of_image in zip(seen, found, strict=True)
        ]
        assert [field.input_rows.tolist(), field.input_columns.tolist()] == limits(*taps)
        seen = [
            [set().union(*(axis[place] for place in each)) for each in reached]
            for axis, reached in zip(seen, taps, strict=True)
        ]
        assert found == limits(*seen)


@pytest.mark.parametrize(
    ("network", "size", "seen"),
    [
        ("vanillaNet", "s", {"conv1": 3, "conv2": 5, "conv3": 10, "conv4": 14, "fc1": 32}),
        (
            "normNet",
            "s",
            {"conv1": 3, "conv2": 5, "norm1": 5, "conv3": 10, "conv4": 14, "norm2": 14, "fc1": 32},
        ),
        ("LeNet", "quarter", {"conv1": 5, "conv2": 14, "fc1": 32, "fc2": 32}),
        (
            "AlexNet",
            "quarter",
            {"conv1": 5, "conv2": 14, "conv3": 24, "conv4": 30, "conv5": 32, "fc1": 32, "fc2": 32},
        ),
    ],
)
def test_the_networks_of_the_study(network: str, size: str, seen: dict[str, int]) -> None:
    experiment = study.Experiment(network=network, size=size, dataset="digits")
    fields = sl.receptive_fields(experiment.build(3, (32, 32), 10), (3, 32, 32))
    assert {name: largest(field.rows) for name, field in fields.items()} == seen
    assert all(np.array_equal(field.rows, field.columns) for field in fields.values())
    dense = fields["fc1"]
    assert (dense.rows.tolist(), dense.input_rows.tolist(), dense.input_size) == ([[0, 32]], [[0, 1]], (1, 1))


def largest(ranges: np.ndarray) -> int:
    return int((ranges[:, 1] - ranges[:, 0]).max())


def thin(model: nn.Module) -> nn.Module:
    """The same convolutions with one channel."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight, module.bias = nn.Parameter(module.weight[:1, :1]), None
        elif isinstance(module, nn.BatchNorm2d):
            module.register_parameter("weight", None)
            module.register_parameter("bias", None)
            module.running_mean, module.running_var = torch.zeros(1), torch.ones(1)
        elif isinstance(module, nn.Linear):
            module.weight = nn.Parameter(module.weight[:, :1])
    return model


def test_resnet18_sees_435_pixels_and_no_more_than_there_are() -> None:
    model = thin(torchvision.models.resnet18(weights=None))
    fields = sl.receptive_fields(model, (1, 480, 32), ["conv1", "layer?.?.conv2", "fc"])
    sizes = {name: largest(field.rows) for name, field in fields.items()}
    assert list(sizes.values()) == [7, 27, 43, 67, 99, 147, 211, 307, 435, 480]
    last = fields["layer4.1.conv2"]
    starts = [32 * i - 217 for i in range(15)]
    assert last.rows.tolist() == [[max(start, 0), min(start + 435, 480)] for start in starts]
    assert last.columns.tolist() == [[0, 32]]


def test_channels_may_come_last_and_norms_over_positions_see_all() -> None:
    model = Network(
        lambda net, x: net.norm(net.linear(net.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)),
        **{"conv": nn.Conv2d(1, 3, 3), "linear": nn.Linear(3, 2), "norm": nn.GroupNorm(1, 2)},
    )
    fields = sl.receptive_fields(model, (1, 6, 5), ["*"])
    assert fields["linear"].rows.tolist() == [[0, 3], [1, 4], [2, 5], [3, 6]]
    assert fields["linear"].columns.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert fields["linear"].input_columns.tolist() == [[0, 1], [1, 2], [2, 3]]
    assert fields["linear"].input_size == (4, 3)
    assert fields["norm"].rows.tolist() == [[0, 6]] * 4


def test_sequences_have_no_field() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(2), nn.Conv1d(2, 3, 3), nn.Conv1d(3, 3, 1))
    assert list(sl.receptive_fields(model, (1, 6, 6))) == ["0"]
    with pytest.raises(ValueError, match="'2'"):
        sl.receptive_fields(model, (1, 6, 6), ["0", "2"])


def test_in_place_operations_do_not_widen_earlier_fields() -> None:
    layers = {"wide": nn.Conv2d(1, 1, 5, padding=2), "narrow": nn.Conv2d(1, 1, 1)}
    residual = Network(lambda net, x: net.narrow(x).add_(net.wide(x)), **layers)
    assert largest(sl.receptive_fields(residual, (1, 8, 8))["narrow"].rows) == 1


def test_receptive_fields_leave_the_model_as_it_was() -> None:
    model = SmallNetwork().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    drawn = torch.get_rng_state()
    with sl.ActivationMonitor(model, ["conv1"]) as monitor:
        sl.receptive_fields(model, (3, 6, 6))
        with pytest.raises(RuntimeError, match="conv1"):
            monitor.compute()
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(module.training and not module._forward_hooks for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(value.grad is None for value in model.parameters())


@pytest.mark.parametrize(
    ("shape", "layers", "message"),
    [
        ((6, 6), None, r"channels, height .*width.*\(6, 6\)"),
        ((3, 6, 0), None, r"\(3, 6, 0\)"),
        ((3, 6, 6.5), None, r"\(3, 6, 6.5\)"),
        (32, None, "not 32"),
        ((3, 9, 9), None, r"\(3, 9, 9\).* RuntimeError: .*mat1"),
        ((3, 6, 6), ["conv9"], "'conv9'.* conv1"),
    ],
)
def test_bad_input_is_refused_in_one_line(shape: object, layers: list[str] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        sl.receptive_fields(SmallNetwork(), shape, layers)
    assert "\n" not in str(raised.value)


def test_a_diverged_network_is_refused() -> None:
    model = SmallNetwork()
    nn.init.constant_(model.conv2.weight, torch.nan)
    with pytest.raises(ValueError, match=r"'conv2'.* NaN"):
        sl.receptive_fields(model, (3, 6, 6))
