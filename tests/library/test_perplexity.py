"""PerplexityReg: what it sums, its sign and gradient, and what it refuses."""

import pytest
import torch
from small_network import STRENGTHS, SmallNetwork
from torch import Tensor, nn

import sparsity_lib as sl
from sparsity_lib import functional as f


def collected(model: nn.Module, x: Tensor, layers: dict, **options: object) -> Tensor:
    with sl.PerplexityReg(model, layers, **options) as reg:
        model(x)
        return reg()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_penalty_is_the_weighted_perplexity_sparsity(
    reduction: str, model: SmallNetwork, x: Tensor
) -> None:
    expected = {}
    for name, strength in STRENGTHS.items():
        sparsity = f.perplexity_sparsity(model.outputs(x)[name])
        expected[name] = strength * (sparsity.sum() / len(x) if reduction == "sum" else sparsity.mean())
    with sl.PerplexityReg(model, STRENGTHS, reduction=reduction) as reg:
        model(x)
        torch.testing.assert_close(reg(), sum(expected.values()))
    for name, part in reg.losses.items():
        torch.testing.assert_close(part, expected[name].detach())


def test_it_lies_between_0_for_equal_channels_and_the_strength_for_a_single_one() -> None:
    layer = nn.Linear(4, 8)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    inputs = torch.randn(3, 4)
    assert collected(layer, inputs, {layer: 0.5}).item() == pytest.approx(0, abs=1e-6)
    layer.bias.data[2] = 200
    penalty = collected(layer, inputs, {layer: 0.5})
    assert penalty.item() == pytest.approx(0.5)
    penalty.backward()
    assert layer.weight.grad.isfinite().all()


def test_following_it_downhill_makes_activations_denser(model: SmallNetwork, x: Tensor) -> None:
    penalty = collected(model, x, {"conv1": 1.0})
    assert penalty > 0
    penalty.backward()
    torch.optim.SGD(model.conv1.parameters(), lr=0.1).step()
    assert f.perplexity_sparsity(model.conv1(x)).mean() < penalty


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_its_gradient_is_that_of_finite_differences(scale: float) -> None:
    layer = nn.Conv2d(2, 5, 3).double()
    x = scale * torch.randn(2, 2, 4, 4, dtype=torch.float64)

    def penalty(weight: Tensor, bias: Tensor) -> Tensor:
        layer._parameters |= {"weight": weight, "bias": bias}
        return collected(layer, x, {layer: 0.7})

    assert torch.autograd.gradcheck(penalty, (layer.weight, layer.bias))


def test_an_in_place_relu_after_the_layer_changes_nothing(x: Tensor) -> None:
    bare = nn.Sequential(nn.Conv2d(3, 8, 3))
    overwritten = nn.Sequential(bare[0], nn.ReLU(inplace=True))
    penalties = [collected(network, x, {"0": 1.0}) for network in (bare, overwritten)]
    torch.testing.assert_close(*penalties)
    gradients = [torch.autograd.grad(penalty, bare[0].weight)[0] for penalty in penalties]
    torch.testing.assert_close(*gradients)


def test_half_precision_is_reduced_in_float32(model: SmallNetwork, x: Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        activations = model.conv1(x)
        penalty = collected(model, x, {"conv1": 1.0})
    assert penalty.dtype == torch.float32
    torch.testing.assert_close(penalty, f.perplexity_sparsity(activations.float()).mean())


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # a machine may lack a compiler
def test_compiled_it_is_the_same_to_rounding() -> None:
    layer, x = nn.Linear(6, 8), torch.randn(5, 6)
    torch.testing.assert_close(
        collected(layer, x, {layer: 1.0}, compiled=True), collected(layer, x, {layer: 1.0})
    )


def test_a_layer_of_one_channel_is_refused(x: Tensor) -> None:
    with pytest.raises(ValueError, match="2 channels"):
        collected(nn.Conv2d(3, 1, 3), x, {"": 1.0})
