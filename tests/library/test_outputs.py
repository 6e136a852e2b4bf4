"""Outputs of layers: on which axis the channels are, and what penalties and monitors refuse."""

import re

import pytest
import torch
import torch.nn.functional as F
from penalties import collected
from reference import assert_is_reference, monitored, of_batches
from small_network import Conv1D, Function, Network
from torch import Tensor, nn

import sparsity_lib as sl
from sparsity_lib import functional as f

N, C = 4, 8


def penalty(layer: nn.Module, x: Tensor, **options: object) -> Tensor:
    return collected(sl.SparsityReg, layer, x, {layer: 1.0}, **options)


class ChannelsFirstNorm(nn.LayerNorm):
    """As in ConvNeXt: (N, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ChannelsLastNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return 1.0 * super().forward(x)


class OwnConv(nn.Conv2d):
    """With a forward pass of its own, as convolutions with another padding have."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class ChannelsLastConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(-1, 1)).movedim(1, -1)


class LowRank(nn.Module):
    """As adapters of linear layers are: no subclass, with `out_features`."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.out_features = nn.Linear(7, C), C

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x)


class OnItself(nn.MultiheadAttention):
    """Self-attention, as a function of one tensor."""

    def __init__(self, channels: int, bias: bool = True) -> None:
        super().__init__(channels, 2, bias=bias, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x, x, x)


@pytest.mark.parametrize(
    ("layer", "shape", "axis"),
    [
        (nn.Conv1d(3, 8, 3), (4, 3, 7), 1),
        (nn.Conv3d(3, 8, 2), (4, 3, 4, 4, 4), 1),
        (nn.ConvTranspose2d(3, 8, 2), (4, 3, 5, 5), 1),
        (nn.Linear(7, 8), (4, 7), 1),
        (nn.Linear(7, 8), (4, 5, 7), 2),
        (nn.Linear(7, 5), (4, 5, 7), 2),
        (nn.LayerNorm(7), (4, 5, 7), 2),
        (nn.LayerNorm(7), (4, 7, 7, 7), 3),
        (nn.LayerNorm((6, 5, 5)), (4, 6, 5, 5), 1),
        (nn.RMSNorm(7), (4, 5, 7), 2),
        (nn.BatchNorm1d(5), (4, 5, 7), 1),
        (nn.GroupNorm(2, 6), (4, 6, 7), 1),
        (nn.GroupNorm(2, 6), (4, 6, 6, 6), 1),
        (nn.InstanceNorm1d(5), (4, 5, 7), 1),
        (nn.ReLU(), (4, 5), 1),
        (nn.ReLU(), (4, 5, 3, 3), 1),
        (nn.LazyLinear(8), (4, 5, 7), 2),
        (nn.utils.parametrizations.weight_norm(nn.Linear(7, 5)), (4, 5, 7), 2),
        (ChannelsFirstNorm(C), (N, C, 5, 6), 1),
        (ChannelsFirstNorm(C), (N, C, 5), 1),
        (ChannelsLastNorm(C), (N, 5, 6, C), 3),
        (ChannelsLastNorm(C), (N, C), 1),
        (OwnConv(3, C, 1), (N, 3, 5, C), 1),
        (OwnConv(3, C, 1), (N, 3, C, C), 1),
        (ChannelsLastConv(3, C, 1), (N, 5, 6, 3), 3),
        (Conv1D(C, 7), (N, 5, 7), 2),
        (LowRank(), (N, 5, 7), 2),
        (LowRank(), (N, 5, 6, 7), 3),
    ],
)
def test_the_channel_axis_is_as_long_as_the_module_says(
    layer: nn.Module, shape: tuple[int, ...], axis: int
) -> None:
    x = torch.randn(shape)
    output = layer(x).detach()
    torch.testing.assert_close(penalty(layer, x), -f.rfav_entropy(output, dim=axis).mean())
    assert_is_reference(of_batches(layer, x), output.movedim(axis, 1))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.GELU(), (N, 5, C)),
        (ChannelsFirstNorm(C), (N, C, C, 5)),
        (ChannelsLastNorm(C), (N, C, 5, C)),
        (LowRank(), (N, C, 7)),
        (nn.LayerNorm((5, C)), (N, 6, 5, C)),
        (nn.LayerNorm((5, C)), (N, 5, C)),
        (nn.Sequential(nn.LayerNorm(C), nn.Linear(C, C)), (N, 5, 6, C)),
        (nn.TransformerEncoderLayer(C, 2, 16, batch_first=True), (N, 5, C)),
    ],
)
def test_an_axis_that_cannot_be_found_is_asked_for(layer: nn.Module, shape: tuple[int, ...]) -> None:
    x, name = torch.randn(shape), type(layer).__name__
    for attachable in (sl.SparsityReg(layer, {layer: 1.0}), sl.ActivationMonitor(layer, [layer])):
        with attachable, pytest.raises(ValueError, match=f"{name}, .*dim=") as raised:
            layer(x)
        assert "\n" not in str(raised.value)
    layer.eval()
    expected = -f.rfav_entropy(layer(x), dim=-1).mean()
    torch.testing.assert_close(penalty(layer, x, dim=-1), expected)
    for dim in (0, len(shape), -len(shape) - 1):
        with pytest.raises(ValueError, match=f"dim={dim}"):
            penalty(layer, x, dim=dim)


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ([nn.LayerNorm(C), nn.Linear(C, 9), nn.GELU()], (N, 5, 6, C)),  # as in ConvNeXt and Swin
        ([nn.LayerNorm(C), nn.Linear(C, 9), nn.GELU()], (N, 5, C)),
        ([nn.Linear(C, 9), nn.GELU(), nn.Linear(9, 5)], (N, 5, 6, C)),
        ([nn.Linear(C, 9), nn.GELU()], (N, 5, C)),
        ([nn.Conv1d(C, 9, 1), nn.GELU()], (N, C, 5)),
        ([nn.Conv2d(C, 9, 1), nn.GELU(), nn.Flatten(), nn.Linear(9 * 5 * 7, 7)], (N, C, 5, 7)),
    ],
)
def test_an_activation_function_has_its_channels_where_the_models_layers_have(
    layers: list[nn.Module], shape: tuple[int, ...]
) -> None:
    (stats,) = monitored(nn.Sequential(*layers), torch.randn(shape), layers=[nn.GELU]).values()
    assert stats.channels == 9


def test_tokens_as_many_as_a_convolutions_channels_are_not_taken_for_them() -> None:
    model = Network(
        lambda net, x: net.act(net.fc(net.conv(x).transpose(1, 2))),
        **{"conv": nn.Conv1d(3, C, 1), "fc": nn.Linear(C, 9), "act": nn.ReLU()},
    )
    with sl.ActivationMonitor(model, ["act"]), pytest.raises(ValueError, match=r"'act'.*dim="):
        model(torch.randn(N, 3, C))


def test_channels_last_in_a_model_of_convolutions_are_asked_for() -> None:
    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, C, 2, 2), nn.BatchNorm2d(C)
            self.fc, self.act = nn.Linear(C, 9), nn.GELU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(self.fc(self.norm(self.conv(x)).movedim(1, -1)))

    model, images = Patches(), torch.randn(N, 3, 8, 10)
    with sl.ActivationMonitor(model, ["act"]), pytest.raises(ValueError, match=r"'act'.*dim="):
        model(images)
    assert monitored(model, images, layers=["act"], dim=-1)["act"].channels == 9


@pytest.mark.parametrize("width", [1, 5])
def test_square_maps_and_a_width_of_one_leave_no_choice(width: int) -> None:
    class Joined(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, C, 1), nn.Linear(2 * C, width)
            self.pool = nn.AdaptiveAvgPool2d(width)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return self.fc(self.pool(torch.cat([x, -x], 1)).mean((2, 3)))

    assert monitored(Joined(), torch.randn(N, 3, 5, 5), layers=["pool"])["pool"].channels == 2 * C


class Wrapper(Tensor):
    """A tensor that stands for others, as DTensor does."""

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise AssertionError("it was used")


REFUSED = {
    "tuple": lambda x: (x, x),
    "dict": lambda x: {"last_hidden_state": x},
    "NoneType": lambda x: None,
    "torch.complex64": lambda x: x * 1j,
    "torch.int64": lambda x: x.long(),
    "torch.bool": lambda x: x > 0,
    "torch.float8_e5m2": lambda x: x.to(torch.float8_e5m2),
    "torch.qint8": lambda x: torch.quantize_per_tensor(x.detach(), 0.1, 0, torch.qint8),
    "torch.sparse_coo": lambda x: x.to_sparse(),
    "nested": lambda x: torch.nested.nested_tensor([*x], layout=torch.jagged),
    "Wrapper": lambda x: Tensor._make_wrapper_subclass(Wrapper, x.shape),
}


@pytest.mark.filterwarnings("ignore::UserWarning")  # what is experimental or old about such tensors
@pytest.mark.parametrize("kind", REFUSED)
def test_other_than_dense_floating_point_outputs_are_refused_in_one_line(kind: str) -> None:
    model = nn.Sequential(nn.Linear(3, C), Function(REFUSED[kind]))
    for attachable in (
        sl.SparsityReg(model, {"1": 1.0}),
        sl.VarianceReg(model, {"1": 1.0}),
        sl.ActivationMonitor(model, ["1"]),
    ):
        with (
            attachable,
            pytest.raises(TypeError, match=f"'1' .*{re.escape(kind)}") as raised,
        ):
            model(torch.randn(N, 3))
        assert "\n" not in str(raised.value)


def test_a_shard_of_the_channels_is_refused_unless_it_is_asked_for() -> None:
    layer, x = nn.Linear(3, C), torch.randn(N, 3)
    layer.weight, layer.bias = nn.Parameter(layer.weight[:5]), None
    for attachable in (sl.SparsityReg(layer, {layer: 1.0}), sl.ActivationMonitor(layer, [layer])):
        with attachable, pytest.raises(ValueError, match=f"5 of its {C} .*dim="):
            layer(x)
    torch.testing.assert_close(penalty(layer, x, dim=1), -f.rfav_entropy(layer(x)).mean())


@pytest.mark.parametrize(
    ("layer", "shape", "options"),
    [
        (nn.LayerNorm((C, 3, 3)), (N, C, 3, 3), {}),
        (nn.LSTM(7, C, batch_first=True), (N, 5, 7), {"output": 0}),
        (OnItself(C), (N, 5, C), {"output": 0, "dim": 2}),
        (LowRank(), (N, 5, 7), {}),
        (nn.Linear(7, C), (N, 7), {"output": lambda output: output[:, :1], "dim": 1}),
    ],
)
def test_a_bias_that_is_no_vector_of_the_channels_cannot_be_left_out(
    layer: nn.Module, shape: tuple[int, ...], options: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match=f"'', {type(layer).__name__}, .*include_bias=True"):
        penalty(layer, torch.randn(shape), include_bias=False, **options)


def test_a_bias_is_not_left_out_along_another_axis_than_its_own() -> None:
    layer, x = nn.Linear(7, C), torch.randn(N, C, 7)
    with pytest.raises(ValueError, match=r"axis 1.*include_bias=True"):
        penalty(layer, x, include_bias=False, dim=1)
    expected = penalty(layer, x, include_bias=False)
    torch.testing.assert_close(penalty(layer, x, include_bias=False, dim=-1), expected)
    options = {"dim": 1, "output": lambda output: output.transpose(1, 2)}
    torch.testing.assert_close(penalty(layer, x, include_bias=False, **options), expected)


def test_without_a_bias_there_is_none_to_leave_out() -> None:
    x = torch.randn(N, 5, C)
    for layer in (nn.LSTM(C, 4, bias=False, batch_first=True), OnItself(C, bias=False), nn.PReLU()):
        options = {"output": 0, "dim": 2}
        with_and_without = [penalty(layer, x, include_bias=each, **options) for each in (True, False)]
        torch.testing.assert_close(*with_and_without)


def test_outputs_without_samples_are_refused() -> None:
    cases = [
        (nn.Conv1d(3, 4, 2), (3, 5), r"\(4, 4\).* 3 "),
        (nn.Conv2d(3, 4, 2), (3, 5, 5), " 4 axes"),
        (nn.InstanceNorm2d(3), (3, 5, 5), " 4 axes"),
        (nn.Linear(3, 4), (3,), " 2 axes"),
    ]
    for layer, shape, message in cases:
        with pytest.raises(ValueError, match=message):
            penalty(layer, torch.randn(shape))


def test_a_layer_of_several_widths_is_penalised_at_each_and_refused_by_monitors() -> None:
    class Slimmable(nn.Linear):
        def forward(self, x: Tensor, width: int = 6) -> Tensor:
            return F.linear(x, self.weight[:width])

    layer, x = Slimmable(3, 6), torch.randn(N, 3)
    with sl.SparsityReg(layer, {layer: 1.0}) as reg:
        expected = -sum(f.rfav_entropy(layer(x, width)).mean() for width in (6, 4))
        torch.testing.assert_close(reg(), expected)
    with sl.ActivationMonitor(layer, [layer]) as monitor:
        layer(x)
        with pytest.raises(ValueError, match=r"4 .*6"):
            layer(x, 4)
    assert monitor.compute()[""].samples == N
