"""Second derivatives and transforms of entropies and Sparseout, against softmax written out."""

import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

import sparsity_lib as sl
from sparsity_lib import functional as f
from sparsity_lib.sparseout import with_mask

# torch's own: its compiler's, and of forward mode, which it scripts itself
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning"),
]

Measure = Callable[[Tensor], Tensor]
func = torch.func


def written_out(logits: Tensor, dim: int = -1) -> Tensor:
    log_p = logits.log_softmax(dim)
    return -(log_p.exp() * log_p).sum(dim)


def noisy(exact: bool, q: float) -> Measure:
    """Sparseout at a fixed mask."""
    kept = torch.rand(5, generator=torch.Generator().manual_seed(1)) < 0.6
    return lambda a: with_mask(a, kept, 0.4, q, "exact" if exact else "reused")


def vectors() -> Tensor:
    """(4, 5) float64 of both signs and away from 0; a tie, and a logit that dominates."""
    a = torch.randn(4, 5, dtype=torch.float64)
    a += 0.1 * a.sign()
    a[0, :2] = 1.0
    a[1, 3] = 25.0
    return a.requires_grad_()


@pytest.mark.parametrize(
    "measure",
    [
        lambda a: f.rfav_entropy(a),
        lambda a: f.rfav_entropy(a, dim=0),
        lambda a: f.perplexity_sparsity(a),
        lambda a: f.standardize(a),
        lambda a: f.variance(a),
        *(noisy(exact, q) for exact in (True, False) for q in (0.0, 0.5, 1.0, 1.7, 2.5, 3.0, 5.0)),
    ],
)
def test_second_derivatives_are_true_in_every_mode(measure: Measure) -> None:
    a = vectors()
    batched = {"check_batched_grad": True, "fast_mode": True}
    assert gradgradcheck(measure, (a,), check_fwd_over_rev=True, **batched)
    assert gradcheck(lambda a: torch.autograd.grad(measure(a).sum(), a, create_graph=True)[0], (a,))


def test_first_derivatives_hold_in_forward_mode_too() -> None:
    for measure in (
        f.rfav_entropy,
        lambda a: f.rfav_entropy(a.view(2, 5, 2), 1),
        f.perplexity_sparsity,
        noisy(True, 1.0),
        noisy(True, 3.0),
    ):
        assert gradcheck(
            measure,
            (vectors(),),
            check_forward_ad=True,
            check_batched_grad=True,
            check_batched_forward_grad=True,
            fast_mode=True,
        )


@pytest.mark.parametrize(
    "transform",
    [
        func.grad,
        func.jacfwd,
        func.hessian,
        lambda h: func.jacrev(func.jacrev(h)),
        lambda h: func.jacfwd(func.jacfwd(h)),
        lambda h: func.jacrev(func.hessian(h)),
        lambda h: lambda z: torch.autograd.functional.hessian(h, z, vectorize=True),
        lambda h: lambda z: func.vmap(func.hessian(h))(torch.stack([z, 2 * z])),
    ],
)
def test_transforms_of_torch_func_agree_with_softmax_written_out(transform: Callable[..., Measure]) -> None:
    z = torch.randn(6, dtype=torch.float64)
    found = transform(lambda z: f.rfav_entropy(z, 0))(z)
    torch.testing.assert_close(found, transform(lambda z: written_out(z, 0))(z))


def test_mapped_entropies_are_the_same_to_the_bit() -> None:
    a = 3 * torch.randn(4, 6, 5)
    assert torch.equal(func.vmap(lambda z: f.rfav_entropy(z, 0))(a), f.rfav_entropy(a))


@pytest.mark.usefixtures("_fresh_compiler")
@pytest.mark.parametrize("measure", [f.rfav_entropy, noisy(True, 1.0)])
def test_traced_functions_have_second_derivatives(measure: Measure) -> None:
    a, second = vectors(), []
    for function in (measure, torch.compile(measure, backend="eager", fullgraph=True)):
        (first,) = torch.autograd.grad(function(a).sum() + a.pow(3).sum(), a, create_graph=True)
        second.append(torch.autograd.grad(first.square().sum(), a)[0])
    torch.testing.assert_close(*second)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.usefixtures("_fresh_compiler")
def test_a_compiled_entropy_bears_an_in_place_relu(backend: str) -> None:
    def measured(x: Tensor) -> Tensor:
        activations = 2 * x
        entropy = f.rfav_entropy(activations)
        return entropy.sum() + activations.relu_().sum()

    x = torch.randn(4, 6, requires_grad=True)
    gradients = [
        torch.autograd.grad(function(x), x)[0]
        for function in (measured, torch.compile(measured, backend=backend, fullgraph=True))
    ]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("regularizer", [sl.SparsityReg, sl.PerplexityReg, sl.VarianceReg, sl.ScaleFreeReg])
def test_a_gradient_penalty_through_a_penalty_is_exact(regularizer: type) -> None:
    """As in WGAN-GP; GELU keeps what it is given."""
    net = nn.Sequential(nn.Linear(4, 3), nn.GELU(), nn.Linear(3, 3)).double()
    x = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    of_vectors = {
        sl.SparsityReg: lambda z: -written_out(z),
        sl.PerplexityReg: lambda z: 1 - written_out(z).expm1() / 2,
        sl.VarianceReg: lambda z: z.var(-1, correction=0) / 2,
        sl.ScaleFreeReg: lambda z: -written_out(torch.nn.functional.layer_norm(z, z.shape[-1:], eps=0)),
    }[regularizer]

    def weights_gradient(penalty: Callable[[Tensor], Tensor]) -> list[Tensor]:
        z = net(x)
        (of_x,) = torch.autograd.grad(z.square().mean() + penalty(z), x, create_graph=True)
        return list(torch.autograd.grad(of_x.square().sum(), [*net.parameters()][:4]))

    with regularizer(net, {"0": 0.5, "2": 1.0}) as reg:
        found = weights_gradient(lambda z: reg())
    expected = weights_gradient(lambda z: 0.5 * of_vectors(net[0](x)).mean() + of_vectors(z).mean())
    torch.testing.assert_close(found, expected)


def test_without_its_activations_a_second_derivative_is_refused_not_wrong() -> None:
    x = torch.randn(5, 4, requires_grad=True)
    activations = 2 * x
    entropy = f.rfav_entropy(activations)
    (expected,) = torch.autograd.grad(entropy.sum(), x, retain_graph=True)
    activations.relu_()
    (after,) = torch.autograd.grad(entropy.sum(), x, retain_graph=True)
    assert torch.equal(after, expected)
    with pytest.raises(RuntimeError, match="overwritten"):
        torch.autograd.grad(entropy.sum(), x, create_graph=True)
    for activation, lost in ((nn.ReLU(), "freed"), (nn.ReLU(inplace=True), "overwritten")):
        net = nn.Sequential(nn.Linear(4, 3), activation, nn.Linear(3, 2))
        with sl.SparsityReg(net, {"0": 1.0}) as reg:
            loss = net(x).sum() + reg()
            with pytest.raises(RuntimeError, match=lost):
                torch.autograd.grad(loss, x, create_graph=True)
    kept = []
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    net[0].register_forward_hook(lambda layer, inputs, output: kept.append(output))
    with sl.SparsityReg(net, {"0": 1.0}) as reg:
        (of_x,) = torch.autograd.grad(net(x).sum() + reg(), x, create_graph=True)
    assert of_x.requires_grad


def test_a_penalty_keeps_no_activations() -> None:
    outputs = []
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    net[0].register_forward_hook(lambda layer, inputs, output: outputs.append(weakref.ref(output)))
    with sl.SparsityReg(net, {"0": 1.0}) as reg:
        loss = net(torch.randn(5, 4)).sum() + reg()
    assert outputs[0]() is None
    loss.backward()
    activations = 2 * torch.randn(5, 4, requires_grad=True)
    seen = weakref.ref(activations)
    entropy = f.rfav_entropy(activations).sum()
    del activations
    assert seen() is not None
    entropy.backward()
    if not hasattr(torch._C._autograd, "_get_current_graph_task_keep_graph"):
        del entropy  # torch 2.4 cannot tell that the graph is not used again
    assert seen() is None


def test_at_zero_traced_sparseout_has_the_gradient_of_the_other() -> None:
    for q in (0.0, 0.5, 1.0, 1.7, 2.5, 3.0):
        for gradient in ("exact", "reused"):
            a = torch.tensor([0.0, -0.0, 0.3, -2.0], requires_grad=True)
            kept = torch.tensor([True, False, True, False])

            def summed(a: Tensor, kept=kept, q=q, gradient=gradient) -> Tensor:
                return with_mask(a, kept, 0.4, q, gradient).sum()

            (expected,) = torch.autograd.grad(summed(a), a)
            torch.testing.assert_close(func.grad(summed)(a.detach()), expected)
            (again,) = torch.autograd.grad(summed(a), a, create_graph=True)
            (second,) = torch.autograd.grad(again.sum(), a)
            torch.testing.assert_close(again, expected)
            assert second.isfinite().all()
            assert (second[:2] == 0).all()
