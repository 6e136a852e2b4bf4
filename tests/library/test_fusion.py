"""Compiled or in pieces, entropies are the same; without a compiler there is a warning, and no more."""

import copy
import functools
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from penalties import collected
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import sparsity_lib as sl
from sparsity_lib import _fusion
from sparsity_lib import functional as f

CPU = torch.device("cpu")
COMPILE = torch.compile


@pytest.fixture
def compile_with(monkeypatch: pytest.MonkeyPatch, _fresh_compiler: None) -> Iterator[Callable[..., None]]:
    """Have `fused` compile by something else than the real compiler, which takes seconds."""
    _fusion.fused.cache_clear()
    yield lambda compiler: monkeypatch.setattr(torch, "compile", compiler)
    _fusion.fused.cache_clear()


def entropy_and_gradient(activations: Tensor, dim: int = 1, compiled: bool = False) -> tuple[Tensor, Tensor]:
    leaf = activations.detach().requires_grad_()
    entropy = f.rfav_entropy(leaf, dim, compiled=compiled)
    (gradient,) = torch.autograd.grad(entropy.sin().sum(), leaf)
    return entropy.detach(), gradient


@pytest.mark.parametrize(
    "backend",
    ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
def test_compiled_entropy_has_the_same_values_and_gradients(backend, compile_with) -> None:
    compile_with(functools.partial(COMPILE, backend=backend))
    graphs = torch._dynamo.utils.counters["stats"]
    graphs.clear()
    channels_last = torch.randn(3, 6, 5, 4).to(memory_format=torch.channels_last)
    for activations in (torch.randn(50, 7), channels_last, torch.randn(40, 9)):
        compiled = entropy_and_gradient(activations, compiled=True)
        torch.testing.assert_close(compiled, entropy_and_gradient(activations))
    assert graphs["unique_graphs"] == 1  # for all shapes
    for rare in (torch.randn(9), torch.randn(0, 4), torch.randn(5, 1)):
        dim = rare.dim() - 1
        compiled = entropy_and_gradient(rare, dim, compiled=True)
        torch.testing.assert_close(compiled, entropy_and_gradient(rare, dim))


def test_a_compiled_monitor_sees_the_same(compile_with) -> None:
    compile_with(functools.partial(COMPILE, backend="aot_eager"))
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(180, 4), nn.Linear(4, 2))
    batches, seen = torch.randn(2, 7, 3, 8, 8), []
    for compiled in (False, True):
        with torch.no_grad(), sl.ActivationMonitor(model, maps=2, compiled=compiled) as monitor:
            for batch in batches:
                model(batch)
        seen.append(monitor.to_dataframe())
    assert abs(seen[0] - seen[1]).max().max() < 1e-4


@pytest.mark.parametrize("kind", [sl.SparsityReg, sl.PerplexityReg])
def test_a_compiled_penalty_is_the_penalty(kind, compile_with) -> None:
    compile_with(functools.partial(COMPILE, backend="aot_eager"))
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, 3))
    x, found = torch.randn(8, 6), []
    for compiled in (False, True):
        penalty = collected(kind, model, x, {"0": 0.3, "2": 0.1}, compiled=compiled)
        found.append((penalty, torch.autograd.grad(penalty, list(model.parameters()))))
    torch.testing.assert_close(*found)


def test_without_a_compiler_a_warning_says_why_once(compile_with) -> None:
    def broken(function: Callable[..., object], **options: object) -> Callable[..., object]:
        def fail(*inputs: Tensor) -> None:
            raise RuntimeError("no C++ compiler\nwas found")

        return fail

    compile_with(broken)
    activations = torch.randn(4, 3)
    with pytest.warns(RuntimeWarning, match="no C\\+\\+ compiler$"):
        entropy = f.rfav_entropy(activations, compiled=True)
    torch.testing.assert_close(entropy, f.rfav_entropy(activations))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f.rfav_entropy(activations, compiled=True)
    with pytest.warns(RuntimeWarning, match="torch.compile"):
        assert not _fusion.compiles(CPU)


@pytest.mark.parametrize("channels_last", [True, False])
def test_large_activations_in_pieces_are_as_exact(channels_last: bool) -> None:
    activations = 3 * torch.randn(5, 12, 130, 130)
    if channels_last:
        activations = activations.to(memory_format=torch.channels_last)
    exact, exact_gradient = entropy_and_gradient(activations.double())
    entropy, gradient = entropy_and_gradient(activations)
    torch.testing.assert_close(entropy, exact.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient, exact_gradient.float(), rtol=1e-4, atol=1e-6)


def test_a_kept_graph_gives_the_same_gradient_again_whatever_became_of_the_first() -> None:
    activations = torch.randn(6, 5, requires_grad=True)
    entropy = f.rfav_entropy(activations).sum()
    (first,) = torch.autograd.grad(entropy, activations, retain_graph=True)
    expected = first.clone()
    first.zero_()
    for times in (1, 2):
        entropy.backward(retain_graph=True)
        torch.testing.assert_close(activations.grad, times * expected)
    activations.grad.data.zero_()
    (last,) = torch.autograd.grad(3 * entropy, activations)
    torch.testing.assert_close(last, 3 * expected)


def test_gradients_are_taken_of_batches_and_of_fake_tensors() -> None:
    activations = torch.randn(6, 5, requires_grad=True)
    entropy = f.rfav_entropy(activations).sum()
    weights = torch.tensor([1.0, 2.0])
    (batch,) = torch.autograd.grad(entropy, activations, weights, is_grads_batched=True)
    torch.testing.assert_close(batch[1], 2 * batch[0])
    with FakeTensorMode():
        fake = torch.empty(6, 5, requires_grad=True)
        f.rfav_entropy(fake).sum().backward()
        assert fake.grad.shape == (6, 5)


def test_a_weak_penalty_has_a_gradient_in_float16_with_a_scaled_loss() -> None:
    layer = nn.Linear(6, 64).half()
    x = torch.randn(32, 6).half()
    reference = copy.deepcopy(layer).float()
    gradient, expected = (
        torch.autograd.grad(2.0**16 * collected(sl.SparsityReg, each, inputs, {each: 1e-5}), each.weight)[0]
        for each, inputs in ((layer, x), (reference, x.float()))
    )
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(gradient.float(), expected, rtol=0.02, atol=2e-4)
