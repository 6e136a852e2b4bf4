"""Receptive fields of models that hide NaN, or keep something of their passes."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from small_network import Function, Network
from torch import Tensor, nn

import sparsity_lib as sl


def with_activation(function: Callable[[Tensor], Tensor]) -> nn.Module:
    torch.manual_seed(1)
    convolutions = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 2, 3, stride=2), nn.Conv2d(2, 2, 3)
    return nn.Sequential(
        convolutions[0], Function(function), convolutions[1], Function(function), convolutions[2]
    )


def scaled_negatives(x: Tensor) -> Tensor:
    x = x.clone()
    x[x < 0] *= 0.1
    return x


HIDE_NAN = {
    "where": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "elu": lambda x: torch.where(x < 0, x.exp() - 1, x),
    "masked": lambda x: x.masked_fill((x < 0) | ~(x < 5), 0),
    "scaled negatives": scaled_negatives,
    "product": lambda x: x * (x > 0),
    "sign": torch.sign,
    "threshold": lambda x: (x > 0.1).float(),
    "threshold that is never passed": lambda x: (x > 1e9).float(),
    "nan_to_num": torch.nan_to_num,
    "fmax": lambda x: x.fmax(torch.zeros_like(x)),
    "integers": lambda x: (10 * x).int().float(),
    "rounded": lambda x: (4 * x).round() / 4,
    "quantised": lambda x: torch.fake_quantize_per_tensor_affine(x, 0.1, 0, -128, 127),
    "noise": lambda x: x + torch.randn_like(x),
    "dropout": lambda x: nn.functional.dropout(x, 0.5),
}


@pytest.mark.parametrize("activation", HIDE_NAN)
def test_operations_that_hide_nan_do_not_hide_the_field(activation: str) -> None:
    expected = sl.receptive_fields(with_activation(nn.functional.relu), (1, 11, 10))
    found = sl.receptive_fields(with_activation(HIDE_NAN[activation]), (1, 11, 10))
    assert found.keys() == expected.keys()
    for name, field in found.items():
        assert all(map(np.array_equal, field, expected[name]))


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_a_field_that_cannot_be_found_is_an_error() -> None:
    def one_hot(x: Tensor) -> Tensor:
        return nn.functional.one_hot(x.argmax(1), x.shape[1]).permute(0, 3, 1, 2).float()

    with pytest.raises(ValueError, match="'2'") as caught:
        sl.receptive_fields(with_activation(one_hot), (1, 11, 10))
    assert "\n" not in str(caught.value)

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return self.calls * x

    with pytest.raises(ValueError, match="'1'"):
        sl.receptive_fields(nn.Sequential(Counting(), nn.Conv2d(1, 2, 3)), (1, 8, 8))
    with pytest.raises(TypeError, match="script"):
        sl.receptive_fields(torch.jit.trace(nn.Conv2d(1, 2, 3), torch.zeros(1, 1, 8, 8)), (1, 8, 8), [""])


def test_state_of_a_models_own_passes_is_unchanged() -> None:
    class Keeping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)
            self.all: list[Tensor] = []
            self.calls = 0
            self.register_buffer("runs", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            self.runs += 1
            self.features = self.conv(x)  # a part of a graph, which cannot be copied
            self.all.append(self.features)
            return self.features

    model = Keeping()
    model(torch.randn(1, 1, 8, 8))
    features = model.features
    assert (sl.receptive_fields(model, (1, 8, 8))["conv"].rows == [[i, i + 3] for i in range(6)]).all()
    assert model.features is features is model.all[0]
    assert (len(model.all), model.calls, model.runs.item()) == (1, 1, 1)
    with pytest.raises(ValueError, match=r"\(3, 8, 8\)"):
        sl.receptive_fields(model, (3, 8, 8))
    assert model.features is features
    assert model.conv.weight.dtype == torch.float32
    model(torch.randn(1, 1, 8, 8)).sum().backward()
    assert model.conv.weight.grad is not None


def test_made_weights_and_recurrent_layers_are_read_too() -> None:
    def forward(net: nn.Module, x: Tensor) -> Tensor:
        columns = net.pruned(net.conv(x)).permute(0, 3, 1, 2).flatten(2)
        return net.head(net.lstm(columns)[0][:, -1])

    model = Network(
        forward,
        conv=nn.utils.parametrizations.spectral_norm(nn.Conv2d(1, 3, 3)),
        pruned=nn.utils.prune.random_unstructured(nn.Conv2d(3, 3, 3), "weight", 0.5),
        **{"lstm": nn.LSTM(3 * 5, 4, batch_first=True), "head": nn.Linear(4, 2)},
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fields = sl.receptive_fields(model, (1, 9, 9), ["conv", "pruned", "head"])
    assert [int(np.ptp(field.rows[0])) for field in fields.values()] == [3, 5, 9]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model(torch.randn(2, 1, 9, 9)).sum().backward()
