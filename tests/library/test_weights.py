"""Weights as layers compute with them: which are filters; pruned, parametrised, tied, quantised, whole."""

import warnings
from collections.abc import Callable

import pytest
import torch
from small_network import Conv1D
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import sparsity_lib as sl
from sparsity_lib import functional as f


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))


def pruned(net: nn.Sequential) -> None:
    prune.l1_unstructured(net[0], "weight", amount=0.5)


def pruned_twice(net: nn.Sequential) -> None:
    prune.random_structured(net[0], "weight", amount=2, dim=0)
    prune.l1_unstructured(net[0], "weight", amount=0.3)
    prune.random_unstructured(net[0], "bias", amount=2)


def masked(net: nn.Sequential) -> None:
    class Positive(nn.Module):
        def forward(self, weight: Tensor) -> Tensor:
            return weight * (weight > 0)

    parametrize.register_parametrization(net[0], "weight", Positive())


def old(norm: Callable[[nn.Module], object]) -> Callable[[nn.Sequential], None]:
    def applied(net: nn.Sequential) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            norm(net[0])

    return applied


MADE = {
    "plain": lambda net: None,
    "pruned": pruned,
    "pruned twice": pruned_twice,
    "masked": masked,
    "weight norm": lambda net: parametrizations.weight_norm(net[0]),
    "spectral norm": lambda net: parametrizations.spectral_norm(net[0]),
    "orthogonal": lambda net: parametrizations.orthogonal(net[0]),
    "old weight norm": old(nn.utils.weight_norm),
    "old spectral norm": old(nn.utils.spectral_norm),
}


@pytest.mark.parametrize("made", MADE)
def test_the_weight_that_is_used_is_counted_and_decorrelated(made: str) -> None:
    net = network()
    MADE[made](net)
    net(torch.randn(4, 6))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    found = sl.compression(net)
    reg = sl.DecorrReg(net, {"0": 1.0})
    penalty = reg()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(module.training for module in net.modules())

    net.eval()
    net(torch.randn(4, 6))
    used = [net[0].weight, net[0].bias]
    assert list(found.layers) == ["0", "2"]
    assert found.layers["0"].parameters == 35
    assert found.layers["0"].nonzero == sum(int(tensor.count_nonzero()) for tensor in used)
    torch.testing.assert_close(penalty, f.decorrelation(used[0]))
    leaves = [p for name, p in net.named_parameters() if name.startswith("0") and "bias" not in name]
    for gradient in torch.autograd.grad(penalty, leaves):
        assert gradient.abs().sum() > 0


def test_a_mask_counts_as_it_is_now_not_as_at_the_last_forward_pass() -> None:
    net = network()
    pruned(net)
    expected = f.decorrelation(net[0].weight_orig.flip(0) * net[0].weight_mask)
    with torch.no_grad():
        net[0].weight_orig.copy_(net[0].weight_orig.flip(0).clone())
    reg = sl.DecorrReg(net, {"0": 1.0})
    for _ in range(2):
        penalty = reg()
        torch.testing.assert_close(penalty, expected)
        penalty.backward()
    assert (net[0].weight_orig.grad[net[0].weight_mask == 0] == 0).all()
    assert sl.compression(net).ratio == pytest.approx(53 / 38)
    prune.remove(net[0], "weight")
    assert sl.compression(net).ratio == pytest.approx(53 / 38)


def test_a_tied_weight_counts_once() -> None:
    class Own(nn.Linear):
        pass

    net = nn.Sequential(nn.Linear(5, 5, bias=False), nn.Linear(5, 5, bias=False))
    net[1].weight = net[0].weight
    once = f.decorrelation(net[0].weight)
    for layers in ({"0": 1.0, "1": 1.0}, {"*": 1.0}, {"1": 1.0}):
        torch.testing.assert_close(sl.DecorrReg(net, layers)(), once)
    assert sl.DecorrReg(net, {"*": 1.0}).layers == ["0"]
    with pytest.raises(ValueError, match=r"'0' and '1'"):
        sl.DecorrReg(net, {"0": 1.0, "1": 0.5})
    two_classes = nn.Sequential(nn.Linear(5, 5), Own(5, 5))
    two_classes[1].weight = two_classes[0].weight
    assert sl.DecorrReg(two_classes, {"*": 1.0}).layers == ["0"]
    language_model = nn.Sequential(nn.Embedding(7, 5), nn.Linear(5, 7, bias=False))
    language_model[1].weight = language_model[0].weight
    assert sl.compression(language_model).parameters == 35


def test_a_layer_without_a_weight_of_that_name_has_no_known_filters() -> None:
    net = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
    weight = net[0].weight.detach()
    del net[0].weight
    net[0].register_buffer("weight", weight)
    assert sl.DecorrReg(net, {"*": 1.0}).layers == ["1"]
    with pytest.raises(TypeError, match=r"'0'.*filters="):
        sl.DecorrReg(net, {"0": 1.0})


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("layout", [torch.sparse_coo, torch.sparse_csr])
def test_sparse_weights_count_as_dense_ones(layout: torch.layout) -> None:
    layer = nn.Linear(4, 4, bias=False)
    layer.weight = nn.Parameter(torch.eye(4).to_sparse(layout=layout), requires_grad=False)
    found = sl.compression(layer)
    assert (found.parameters, found.nonzero) == (16, 4)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(4, 6), (6, 4)),
        (nn.Conv1d(4, 6, 3), (6, 4, 3)),
        (nn.Conv2d(4, 6, 3, groups=2), (6, 2, 3, 3)),
        (nn.Conv3d(4, 6, 3), (6, 4, 3, 3, 3)),
        (nn.ConvTranspose1d(4, 6, 3, groups=2), (6, 2, 3)),
        (nn.ConvTranspose3d(4, 6, 3), (6, 4, 3, 3, 3)),
        (nn.MultiheadAttention(4, 2).out_proj, (4, 4)),
    ],
)
def test_filters_are_output_channels(layer: nn.Module, shape: tuple[int, ...]) -> None:
    from sparsity_lib._weights import filters_of

    assert filters_of(layer).shape == shape


def test_the_conv1d_of_transformers_has_its_filters_in_columns(request: pytest.FixtureRequest) -> None:
    layer = Conv1D(6, 4)
    with pytest.raises(TypeError, match="filters="):
        sl.DecorrReg(nn.Sequential(layer), {"0": 1.0})
    request.getfixturevalue("_transformers")
    found = sl.DecorrReg(nn.Sequential(layer), {"0": 1.0})()
    torch.testing.assert_close(found, f.decorrelation(layer.weight.T))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Embedding(6, 4),
        nn.Bilinear(3, 4, 5),
        nn.LayerNorm((3, 4)),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.LSTM(3, 4),
        nn.MultiheadAttention(4, 2),
    ],
)
def test_layers_without_known_filters_are_refused_unless_they_are_given(layer: nn.Module) -> None:
    net = nn.Sequential(layer)
    with pytest.raises(TypeError, match=f"'0', {type(layer).__name__}.*filters=") as caught:
        sl.DecorrReg(net, {"0": 1.0})
    assert "\n" not in str(caught.value)
    rows = torch.randn(5, 4, requires_grad=True)
    given = sl.DecorrReg(net, {"0": 2.0}, filters=lambda layer: rows)
    torch.testing.assert_close(given(), 2 * f.decorrelation(rows))


def test_filters_that_are_none_are_refused() -> None:
    with pytest.raises(TypeError, match="'0', Linear"):
        sl.DecorrReg(network(), {"0": 1.0}, filters=lambda layer: None)
    with pytest.raises(ValueError, match="'0', Linear"):
        sl.DecorrReg(network(), {"0": 1.0}, filters=lambda layer: layer.weight[:1])


def sliced() -> nn.Module:
    layer = nn.Linear(3, 4)
    layer.weight.ds_numel = 1000  # as DeepSpeed marks what other processes hold
    return layer


@pytest.mark.parametrize(
    ("make", "error", "named"),
    [
        (lambda: nn.LazyLinear(3), ValueError, "once"),
        (lambda: nn.LazyConv2d(3, 3), ValueError, "once"),
        (lambda: nn.Linear(3, 4, device="meta"), ValueError, "once"),
        (sliced, TypeError, "GatheredParameters"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_layers_without_all_values_are_refused(
    make: Callable[[], nn.Module], error: type[Exception], named: str
) -> None:
    layer = make()
    for read in (sl.compression, lambda net: sl.DecorrReg(net, {"0": 1.0})):
        with pytest.raises(error, match=named) as caught:
            read(nn.Sequential(layer))
        assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantised_weights_count() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3), nn.Linear(3, 2, bias=False))
    with torch.no_grad():
        net[2].weight[:, :4] = 0
    expected = sl.compression(net)
    quantised = torch.ao.quantization.quantize_dynamic(net, {nn.Linear})
    found = sl.compression(quantised)
    assert {name: layer.parameters for name, layer in found.layers.items()} == {
        name: layer.parameters for name, layer in expected.layers.items()
    }
    assert found.layers["2"].nonzero <= expected.layers["2"].nonzero == 15
    with pytest.raises(TypeError, match="filters="):
        sl.DecorrReg(quantised, {"2": 1.0})


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.LSTMCell])
def test_quantised_recurrent_weights_count(kind: type[nn.Module]) -> None:
    net = nn.Sequential(kind(4, 8))
    quantised = torch.ao.quantization.quantize_dynamic(net, {kind})
    assert type(quantised[0]) is not kind
    assert sl.compression(quantised).parameters == sl.compression(net).parameters
