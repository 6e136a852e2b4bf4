"""Sparseout: its noise, its two gradients, what it leaves alone, and the penalty that it amounts to."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sparsity_lib as sl
from sparsity_lib.sparseout import sparseout, with_mask

EXPONENTS = (0.0, 0.5, 1.0, 1.5, 1.7, 2.0, 2.01, 2.5, 3.0, 4.0, 5.0)
GRADIENTS = ("exact", "reused")


def away_from_zero(*shape: int) -> Tensor:
    """Values of both signs, between 0.1 and 4 in magnitude, float64."""
    sign = torch.randint(2, shape) * 2 - 1
    return sign * (0.1 + 3.9 * torch.rand(shape, dtype=torch.float64))


def noise_of(kept: Tensor, p: float) -> Tensor:
    return kept.double() / (1 - p) - 1


@pytest.mark.parametrize("q", EXPONENTS)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_values_are_the_formula(p: float, q: float) -> None:
    a, kept = away_from_zero(500), torch.rand(500) < 1 - p
    expected = a + a.sign() * a.abs() ** (q / 2) * noise_of(kept, p)
    torch.testing.assert_close(with_mask(a, kept, p, q, "exact"), expected, rtol=1e-12, atol=1e-12)
    in_float32 = with_mask(a.float(), kept, p, q, "exact")
    torch.testing.assert_close(in_float32, expected.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("q", EXPONENTS)
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_gradients_are_their_closed_forms(q: float, gradient: str) -> None:
    a, kept = away_from_zero(500).requires_grad_(), torch.rand(500) < 0.7
    incoming = torch.randn(500, dtype=torch.float64)
    (found,) = torch.autograd.grad(with_mask(a, kept, 0.3, q, gradient), a, incoming)
    slope = q / 2 if gradient == "exact" else 1
    factor = 1 + slope * a.detach().abs() ** ((q - 2) / 2) * noise_of(kept, 0.3)
    torch.testing.assert_close(found, incoming * factor, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("q", [1.0, 1.5, 2.5, 3.0])
@pytest.mark.parametrize("p", [0.01, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_noise_is_unbiased_and_its_variance_is_the_power_q(p: float, q: float, dtype: torch.dtype) -> None:
    """Correct noise would fail for about one seed in a million: that often a share is five SDs off."""
    n, a = 200_000, 1.75
    drawn = sparseout(torch.full((n,), a, dtype=dtype), p, q=q).double()
    low, high = drawn.unique().tolist()
    share = (drawn == high).double().mean().item()
    assert abs(share - (1 - p)) < 5 * math.sqrt(p * (1 - p) / n)
    rounding = 8 * torch.finfo(dtype).eps
    assert (1 - p) * high + p * low == pytest.approx(a, rel=rounding)
    assert p * (1 - p) * (high - low) ** 2 == pytest.approx(a**q * p / (1 - p), rel=rounding / (1 - p))


def test_neighbours_are_drawn_independently() -> None:
    """As above, five SDs: the share of equal neighbours is 1/2 at p = 1/2."""
    drawn = sparseout(torch.ones(200_000), 0.5, q=1.0) > 1
    equal = (drawn[1:] == drawn[:-1]).double().mean().item()
    assert abs(equal - 0.5) < 5 * 0.5 / math.sqrt(200_000)


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_q_of_2_is_dropout_bit_for_bit(gradient: str) -> None:
    a = torch.randn(3, 5, 7, requires_grad=True)
    torch.manual_seed(1)
    expected = F.dropout(a, 0.3)
    torch.manual_seed(1)
    found = sparseout(a, 0.3, q=2.0, gradient=gradient)
    assert torch.equal(found, expected)
    assert torch.equal(*(torch.autograd.grad(y.sin().sum(), a)[0] for y in (found, expected)))


def test_sparseout_without_noise_returns_its_input() -> None:
    a = torch.randn(4, 5)
    assert sparseout(a, 0.5, False, q=1.0) is a
    assert sparseout(a, 0.0, q=1.0) is a
    layer = sl.Sparseout(q=1.0)
    assert layer(a) is not a
    assert layer.eval()(a) is a
    with pytest.raises(TypeError):
        sparseout(a, 0.3, True, 1.0)  # q by name alone


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("q", EXPONENTS)
def test_zero_stays_zero_and_has_a_gradient(q: float, gradient: str, dtype: torch.dtype) -> None:
    a = torch.tensor([0.0, -0.0] * 20, dtype=dtype, requires_grad=True)
    kept = torch.rand(40) < 0.5
    noisy = with_mask(a, kept, 0.5, q, gradient)
    noisy.backward(torch.full_like(a, 3))
    assert (noisy == 0).all()
    if q == 2:
        torch.testing.assert_close(a.grad, 6 * kept.to(dtype))
    else:
        assert (a.grad == (3 if q > 2 else 0)).all()


@pytest.mark.parametrize("q", [*EXPONENTS, 0.01])
@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("p", [0.5, 0.9, 1 - 1e-6])
def test_tiny_and_large_activations_stay_finite(p: float, q: float, gradient: str) -> None:
    a = torch.tensor([0.0, 1e-45, 1e-38, 1e-20, 1e7], requires_grad=True)
    for kept in (torch.ones(5, dtype=torch.bool), torch.zeros(5, dtype=torch.bool)):
        noisy = with_mask(a, kept, p, q, gradient)
        (of_it,) = torch.autograd.grad(noisy.sum(), a)
        assert torch.isfinite(noisy).all()
        assert torch.isfinite(of_it).all()


def test_nan_stays_nan() -> None:
    a = torch.tensor([float("nan"), 1.0], requires_grad=True)
    for q in (1.0, 1.7, 3.0):
        noisy = sparseout(a, 0.5, q=q)
        (of_it,) = torch.autograd.grad(noisy.sum(), a)
        assert noisy.isnan().tolist() == of_it.isnan().tolist() == [True, False]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        *(({"p": p}, f"^p .*{p!r}$") for p in (1.0, -0.1, math.nan, "half")),
        *(({"q": q}, f"^q .*{q}$") for q in (-1.0, math.inf, math.nan)),
        ({"gradient": "true"}, "'true'.* exact, reused$"),
    ],
)
def test_bad_settings_are_refused_in_one_line(arguments: dict[str, float], line: str) -> None:
    for make in (sl.Sparseout, lambda **arguments: sparseout(torch.ones(3), **arguments)):
        with pytest.raises(ValueError, match=line):
            make(**arguments)


@pytest.mark.parametrize("training", [1, "yes", None, 0.5])
def test_training_is_a_bool(training: object) -> None:
    with pytest.raises(ValueError, match="training"):
        sparseout(torch.ones(3), 0.5, training)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("q", [1.0, 1.7, 3.0])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype, q: float) -> None:
    a, kept = away_from_zero(500).to(dtype).requires_grad_(), torch.rand(500) < 0.5
    exact = a.detach().float().requires_grad_()
    outputs = [with_mask(x, kept, 0.5, q, "exact") for x in (a, exact)]
    gradients = [torch.autograd.grad(y.sum(), x)[0] for y, x in zip(outputs, (a, exact), strict=True)]
    for found, expected in (outputs, gradients):
        assert found.dtype == dtype
        assert torch.equal(found, expected.to(dtype))


def test_under_autocast_the_layers_dtype_is_kept() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), sl.Sparseout(q=1.0), nn.Linear(8, 1))
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model[:3](torch.randn(20, 6))
        loss = model[3](hidden).float().square().mean()
    assert hidden.dtype == torch.bfloat16
    loss.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=[pytest.mark.slow])])
@pytest.mark.parametrize("q", [1.0, 1.7, 2.0])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
@pytest.mark.usefixtures("_fresh_compiler")
def test_compiled_sparseout_is_one_graph_with_the_same_values(q: float, backend: str) -> None:
    kept = torch.rand(4, 6) < 0.7
    a = torch.randn(4, 6, requires_grad=True)
    compiled = torch.compile(with_mask, fullgraph=True, backend=backend)
    outputs = [function(a, kept, 0.3, q, "exact") for function in (compiled, with_mask)]
    torch.testing.assert_close(*outputs)
    torch.testing.assert_close(*(torch.autograd.grad(y.sin().sum(), a)[0] for y in outputs))
    layer = torch.compile(nn.Sequential(nn.ReLU(), sl.Sparseout(0.3, q)), fullgraph=True, backend=backend)
    (of_it,) = torch.autograd.grad(layer(a).sum(), a)
    assert not of_it[a < 0].any()
    assert torch.equal(layer.eval()(a), a.relu())


TRACERS = {
    "symbolic": lambda net, x: torch.fx.symbolic_trace(net),
    "script": lambda net, x: torch.jit.script(net),
    "trace": lambda net, x: torch.jit.trace(net, (x,), check_trace=False),
    "export": lambda net, x: torch.export.export(net, (x.detach(),)).module(),
}


@pytest.mark.parametrize("how", TRACERS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:`torch.jit:FutureWarning")
def test_sparseout_is_the_same_traced_scripted_and_exported(how: str) -> None:
    a = torch.randn(5, 6, requires_grad=True)
    for q, gradient in ((0.0, "exact"), (1.0, "exact"), (1.7, "reused"), (2.0, "exact"), (3.0, "reused")):
        net = nn.Sequential(nn.ReLU(), sl.Sparseout(0.3, q, gradient))
        outputs = []
        for network in (net, TRACERS[how](net, a)):
            torch.manual_seed(1)
            outputs.append(network(a))
        torch.testing.assert_close(*outputs)
        torch.testing.assert_close(*(torch.autograd.grad(y.sum(), a)[0] for y in outputs))


@pytest.mark.parametrize("how", ["symbolic", "script"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:`torch.jit:FutureWarning")
def test_a_traced_layer_obeys_train_and_eval(how: str) -> None:
    a = torch.rand(50)
    for made_in in (True, False):
        traced = TRACERS[how](nn.Sequential(sl.Sparseout(0.5, 1.0)).train(made_in), a)
        assert torch.equal(traced.eval()(a), a)
        assert not torch.equal(traced.train()(a), a)


def test_the_function_is_traced_as_a_call() -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return sparseout(x, 0.5, self.training, q=1.0)

    traced = torch.fx.symbolic_trace(Net())
    assert sparseout in [node.target for node in traced.graph.nodes]
    assert not torch.equal(traced(torch.ones(50)), torch.ones(50))


def test_mapped_sparseout_is_random_as_dropout() -> None:
    a = torch.ones(4, 30)
    drawn = torch.func.vmap(lambda a: sparseout(a, 0.5, q=1.0), randomness="different")(a)
    assert len(drawn.unique(dim=0)) == 4
    with pytest.raises(RuntimeError, match="random"):
        torch.func.vmap(lambda a: sparseout(a, 0.5, q=1.0))(a)


@pytest.mark.parametrize("q", [1.0, 1.7, 3.0])
def test_memory_format_is_kept(q: float) -> None:
    a = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last).requires_grad_()
    noisy = sparseout(a, 0.5, q=q)
    noisy.sum().backward()
    assert noisy.is_contiguous(memory_format=torch.channels_last)
    assert a.grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("a", [torch.randn(6, 4).T, torch.tensor(1.5), torch.zeros(0, 3)])
def test_shapes_are_kept_in_any_layout(a: Tensor) -> None:
    leaf = a.detach().requires_grad_()
    noisy = sparseout(leaf, 0.5, q=1.0)
    noisy.sum().backward()
    assert noisy.shape == leaf.grad.shape == a.shape


def test_the_input_and_a_byte_per_activation_are_kept() -> None:
    kept = []
    a = torch.randn(100, requires_grad=True).relu()
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda x: x):
        sparseout(a, 0.5, q=1.0)
    own = [tensor for tensor in kept if tensor.data_ptr() != a.data_ptr()]
    assert len(kept) == 2
    assert [tensor.nbytes for tensor in own] == [100]


def test_the_input_is_not_changed_and_the_output_may_be() -> None:
    a = torch.randn(50, requires_grad=True)
    before = a.detach().clone()
    noisy = sparseout(a, 0.5, q=1.0)
    noisy.mul_(2).sum().backward()
    assert torch.equal(a, before)
    assert torch.isfinite(a.grad).all()
