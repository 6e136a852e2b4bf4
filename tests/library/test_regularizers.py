"""Penalties on activations and filters: what they sum, when they collect, and what they refuse."""

import contextlib
import copy

import pytest
import torch
from penalties import collected
from small_network import STRENGTHS, SmallNetwork
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import sparsity_lib as sl
from sparsity_lib import functional as f

PENALTIES = [sl.SparsityReg, sl.PerplexityReg, sl.VarianceReg, sl.ScaleFreeReg]
Kind = type[sl.SparsityReg] | type[sl.PerplexityReg] | type[sl.VarianceReg] | type[sl.ScaleFreeReg]


@pytest.fixture
def model() -> SmallNetwork:
    return SmallNetwork()


def at_positions(kind: Kind, activations: Tensor, dim: int = 1) -> Tensor:
    if kind is sl.SparsityReg:
        return -f.rfav_entropy(activations, dim)
    if kind is sl.ScaleFreeReg:
        return -f.rfav_entropy(f.standardize(activations, dim), dim)
    if kind is sl.PerplexityReg:
        return f.perplexity_sparsity(activations, dim)
    return f.variance(activations, dim) / 2


@pytest.mark.parametrize("kind", PENALTIES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_penalty_and_its_gradient_are_those_of_the_formula(
    kind: Kind, reduction: str, model: SmallNetwork, x: Tensor
) -> None:
    expected = {}
    for name, strength in STRENGTHS.items():
        term = at_positions(kind, model.outputs(x)[name])
        expected[name] = strength * (term.sum() / len(x) if reduction == "sum" else term.mean())
    with kind(model, STRENGTHS, reduction=reduction) as reg:
        model(x)
        penalty = reg()
    torch.testing.assert_close(penalty, sum(expected.values()))
    assert list(reg.losses) == list(STRENGTHS)
    for name, part in reg.losses.items():
        torch.testing.assert_close(part, expected[name].detach())
    weights = [model.conv1.weight, model.norm1.weight, model.conv2.bias, model.fc1.weight]
    gradients = [torch.autograd.grad(each, weights) for each in (penalty, sum(expected.values()))]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_perplexity_reg_refuses_a_layer_of_one_channel() -> None:
    with pytest.raises(ValueError, match="2 channels"):
        collected(sl.PerplexityReg, nn.Linear(4, 1), torch.randn(3, 4), {"": 1.0})


@pytest.mark.parametrize("kind", PENALTIES)
def test_a_penalty_without_the_bias_is_that_of_a_layer_without_one(kind: Kind, x: Tensor) -> None:
    layers = [(nn.Conv2d(3, 8, 3), x), (nn.Linear(6, 8), x), (nn.Linear(6, 8).double(), x.double())]
    for layer, of_layer in layers:
        layer.bias.data.normal_()
        bare = copy.deepcopy(layer)
        bare.bias = None
        expected = collected(kind, bare, of_layer, {bare: 1.0})
        subtracted = collected(kind, layer, of_layer, {layer: 1.0}, include_bias=False)
        torch.testing.assert_close(subtracted, expected)
        assert not torch.isclose(collected(kind, layer, of_layer, {layer: 1.0}), expected, rtol=1e-3)
        torch.testing.assert_close(collected(kind, bare, of_layer, {bare: 1.0}, include_bias=False), expected)


@pytest.mark.parametrize("kind", PENALTIES)
@pytest.mark.parametrize("how", ["autocast", "weights"])
@pytest.mark.parametrize("include_bias", [True, False])
def test_half_precision_is_reduced_in_float32(
    kind: Kind, how: str, include_bias: bool, model: SmallNetwork, x: Tensor
) -> None:
    if how == "weights":
        model, x = model.bfloat16(), x.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        activations = model.conv1(x)
        penalty = collected(kind, model, x, {"conv1": 1.0}, include_bias=include_bias)
    assert activations.dtype == torch.bfloat16
    assert penalty.dtype == torch.float32
    exact = activations.float() - (0 if include_bias else model.conv1.bias.float().view(-1, 1, 1))
    torch.testing.assert_close(penalty, at_positions(kind, exact).mean(), rtol=1e-6, atol=0)
    penalty.backward()
    assert model.conv1.weight.grad.isfinite().all()


def test_forward_passes_accumulate_and_a_call_consumes(model: SmallNetwork, x: Tensor) -> None:
    model.eval()
    separate = [collected(sl.SparsityReg, model, part, STRENGTHS) for part in (x[:2], x[2:])]
    with sl.SparsityReg(model, STRENGTHS) as reg:
        model(x[:2])
        model(x[2:])
        model(x[:0])  # an empty batch adds nothing
        torch.testing.assert_close(reg(), sum(separate))
        with pytest.raises(RuntimeError, match="conv1, conv2, fc1"):
            reg()


def test_a_layer_used_twice_counts_twice() -> None:
    layer, x = nn.Linear(4, 4), torch.randn(3, 4)
    first = layer(x)
    expected = -f.rfav_entropy(first).mean() - f.rfav_entropy(layer(first.tanh())).mean()
    twice = nn.Sequential(layer, nn.Tanh(), layer)
    for key in ("0", "2", "*", layer):
        torch.testing.assert_close(collected(sl.SparsityReg, twice, x, {key: 1.0}), expected)


@pytest.mark.parametrize("how", ["no_grad", "inference_mode", "reset"])
def test_passes_without_gradients_and_before_a_reset_are_dropped(
    how: str, model: SmallNetwork, x: Tensor
) -> None:
    def unwanted() -> None:
        with contextlib.nullcontext() if how == "reset" else getattr(torch, how)():
            model(x[:2])
        if how == "reset":
            reg.reset()

    model.eval()
    once = collected(sl.SparsityReg, model, x, STRENGTHS)
    with sl.SparsityReg(model, STRENGTHS) as reg:
        unwanted()
        with pytest.raises(RuntimeError, match="conv1, conv2, fc1"):
            reg()
        unwanted()
        model(x)
        if how != "reset":
            unwanted()
        torch.testing.assert_close(reg(), once)


def test_a_validation_pass_does_not_reach_the_next_training_step(model: SmallNetwork, x: Tensor) -> None:
    model.norm1.momentum = 0.0  # or training would change what follows
    step = collected(sl.SparsityReg, model.train(), x, STRENGTHS)
    validation = collected(sl.SparsityReg, model.eval(), x, STRENGTHS)
    with sl.SparsityReg(model, STRENGTHS) as reg:
        model.eval()
        model(x)
        model(x)
        torch.testing.assert_close(reg(), 2 * validation)  # of interest in evaluation itself
        model(x)
        model.train()
        model(x)
        torch.testing.assert_close(reg(), step)
        model(x)
        model.eval()
        model(x)  # a training pass is not dropped
        torch.testing.assert_close(reg(), step + validation)


def test_a_layer_that_did_not_run_is_named(model: SmallNetwork, x: Tensor) -> None:
    with sl.SparsityReg(model, STRENGTHS) as reg:
        model.conv1(x)
        with pytest.raises(RuntimeError, match=" conv2, fc1:"):
            reg()
        with pytest.raises(RuntimeError, match="conv1, conv2, fc1"):  # conv1 was consumed
            reg()


def test_calls_out_of_order_are_refused(model: SmallNetwork, x: Tensor) -> None:
    reg = sl.SparsityReg(model, STRENGTHS)
    with pytest.raises(RuntimeError, match=r"SparsityReg .*`with`"):
        reg()
    reg.attach()
    with pytest.raises(RuntimeError, match="already"):
        reg.attach()
    model(x)
    reg.remove()
    with pytest.raises(RuntimeError, match="not attached"):
        reg()
    with reg, pytest.raises(RuntimeError, match="conv1, conv2, fc1"):  # what was left has been dropped
        reg()


@pytest.mark.parametrize("center", f.CENTERS)
@pytest.mark.parametrize("penalty", f.PENALTIES)
def test_decorr_reg_is_the_weighted_decorrelation_of_the_weights_as_they_are(
    center: str, penalty: str, model: SmallNetwork
) -> None:
    reg = sl.DecorrReg(model, {"conv1": 1.0, "fc1": 0.5}, center=center, penalty=penalty)
    for _ in range(2):
        parts = [f.decorrelation(w, center, penalty) for w in (model.conv1.weight, model.fc1.weight)]
        torch.testing.assert_close(reg(), parts[0] + 0.5 * parts[1])
        torch.testing.assert_close(reg.losses, {"conv1": parts[0], "fc1": 0.5 * parts[1]}, check_device=False)
        torch.nn.init.normal_(model.conv1.weight)
    reg().backward()
    assert model.conv1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("groups", [1, 2])
def test_the_filters_of_a_transposed_convolution_are_its_output_channels(groups: int) -> None:
    layer = nn.ConvTranspose2d(4, 6, 3, groups=groups, bias=False)
    per_group = layer.weight.view(groups, 4 // groups, 6 // groups, 9)
    filters = torch.stack([per_group[g, :, d].flatten() for g in range(groups) for d in range(6 // groups)])
    torch.testing.assert_close(sl.DecorrReg(layer, {layer: 1.0})(), f.decorrelation(filters))


def test_decorr_reg_refuses_layers_without_two_filters_and_unknown_readings(model: SmallNetwork) -> None:
    with pytest.raises(ValueError, match="'', Linear"):
        sl.DecorrReg(nn.Linear(3, 1), {"": 1.0})
    with pytest.raises(ValueError, match=r"center 'mean'.* filters, components, none"):
        sl.DecorrReg(model, {"conv1": 1.0}, center="mean")
    with pytest.raises(ValueError, match=r"penalty 'l2'.* signed, absolute, squared, local"):
        sl.DecorrReg(model, {"conv1": 1.0}, penalty="l2")


def test_layers_may_lie_on_several_devices() -> None:
    devices = ("cuda:1", "cuda:0")
    with FakeTensorMode():
        model = nn.ModuleList([nn.Linear(4, 8, device=device) for device in devices])
        with sl.SparsityReg(model, {"*": 1.0}) as reg:
            reg._collected = {name: layer.weight.sum() for name, layer in model.named_children()}
            assert reg().device == torch.device(devices[0])
        assert sl.DecorrReg(model, {"*": 1.0})().device == torch.device(devices[0])
