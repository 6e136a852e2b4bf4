"""Gradient-coherent regularisation: what coherence is, when and how far weights are shrunk; compression."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from optimizers import every_optimizer, same, shrinking, step, train, weight
from small_network import SmallNetwork
from torch import nn

import sparsity_lib as sl
from sparsity_lib.gradient_coherence import soft_threshold_


def coherences(gradients: list[list[float]], **settings: float) -> list[float | None]:
    """The coherence after each step of a bare weight with these gradients."""
    _, optimizer, coherent = shrinking([0.0] * len(gradients[0]), lr=0.0, **settings)
    seen = []
    for gradient in gradients:
        step(optimizer, gradient)
        seen.append(None if coherent.coherence is None else float(coherent.coherence))
    return seen


def test_coherence_of_known_gradients() -> None:
    g, turned = [3.0, -4.0], [4.0, 3.0]
    assert coherences([g, g, [30.0, -40.0]]) == [None, pytest.approx(1), pytest.approx(1)]
    assert coherences([g, turned]) == [None, 0]
    for long in torch.randn(30, 50).tolist():  # rounding included
        assert all(abs(c or 0) <= 1 for c in coherences([long] * 3))


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
def test_coherence_is_that_of_a_slow_reference_over_all_weights_together(decay: float) -> None:
    gradients = torch.randn(12, 10, dtype=torch.float64)
    a, b, bias = (nn.Parameter(torch.zeros(shape)) for shape in ((2, 3), (1, 2, 2), (5,)))
    optimizer = torch.optim.SGD([{"params": [a, bias]}, {"params": [b], "lr": 0.3}], lr=0.1)
    coherent = sl.GradientCoherent(optimizer, decay=decay)
    for t, gradient in enumerate(gradients):
        parts = gradient.float().tolist()
        step(optimizer, parts[:6], [1e3] * 5, parts[6:])
        if t:
            ages = decay ** torch.arange(t - 1, -1, -1, dtype=torch.float64)
            expected = F.cosine_similarity(gradient, ages @ gradients[:t], dim=0)
            torch.testing.assert_close(coherent.coherence, expected, rtol=0, atol=1e-6)


def test_without_a_direction_coherence_is_not_a_number_and_nothing_is_shrunk() -> None:
    w, optimizer, coherent = shrinking([1.0, 1.0], l2=1.0, rho=-0.99)
    for _ in range(2):
        step(optimizer, [0.0, 0.0])
    assert coherent.coherence.isnan()
    assert not coherent.applied
    assert w.tolist() == [[1.0, 1.0]]


def test_weights_are_shrunk_from_rho_on_equality_included() -> None:
    cases = [
        ([[1.0, 0.0], [0.0, 1.0]], 0.0, True),  # orthogonal: exactly 0
        ([[1.0, 0.0], [0.0, 1.0]], 1e-6, False),
        ([[1.0, 0.0], [1.0, 0.0]], 1.0, True),
        ([[1.0, 0.0], [-1.0, 0.0]], -0.999, False),
        ([[1.0, 0.0], [-1.0, 0.0]], -1.0, True),
        ([[1.0, 0.0]], -0.999, False),  # a first step has no coherence
        ([[1.0, 0.0]], -1.0, True),
    ]
    for gradients, rho, expected in cases:
        w, optimizer, coherent = shrinking([5.0, 5.0], lr=0.0, l2=1.0, rho=rho)
        for gradient in gradients[:-1]:
            step(optimizer, gradient)
        optimizer.param_groups[0]["lr"] = 0.5
        before = w.detach() - 0.5 * torch.tensor([gradients[-1]])
        step(optimizer, gradients[-1])
        assert bool(coherent.applied) is expected
        assert torch.equal(w, before * (0.5 if expected else 1))


def test_soft_threshold_is_its_closed_form_with_exact_zeros() -> None:
    w = torch.cat([torch.randn(1000), torch.tensor([0.25, -0.25, 0.0, -0.0])])
    shrunk = w.clone()
    soft_threshold_(shrunk, 0.25)
    assert torch.equal(shrunk, w.sign() * (w.abs() - 0.25).clamp_min(0))
    assert (shrunk == 0).sum() == (w.abs() <= 0.25).sum() > 100
    untouched = w.clone()
    soft_threshold_(untouched, 0.0)
    assert torch.equal(untouched, w)


def test_each_group_is_shrunk_by_its_own_learning_rate_after_its_step() -> None:
    a, b = weight([1.0, -0.02]), weight([1.0, -0.02])
    optimizer = torch.optim.SGD([{"params": [a], "lr": 0.1}, {"params": [b], "lr": 0.01}])
    sl.GradientCoherent(optimizer, l1=0.5, l2=2.0, rho=-1)
    step(optimizer, [1.0, 0.0], [1.0, 0.0])
    torch.testing.assert_close(a.detach(), torch.tensor([[(1 - 0.1) * 0.8 - 0.05, 0.0]]))
    torch.testing.assert_close(b.detach(), torch.tensor([[(1 - 0.01) * 0.98 - 0.005, -0.02 * 0.98 + 0.005]]))
    assert a[0, 1] == 0


@every_optimizer
def test_without_strengths_training_is_bit_equal_to_the_bare_optimizers(
    optimizer: Callable[..., torch.optim.Optimizer],
) -> None:
    bare = SmallNetwork()
    watched = copy.deepcopy(bare)
    train(bare, optimizer(bare.parameters()), 6)
    with_hooks = optimizer(watched.parameters())
    coherent = sl.GradientCoherent(with_hooks, rho=-1)
    train(watched, with_hooks, 6)
    assert coherent.applied
    assert same(bare, watched)


def test_the_delay_holds_shrinking_back_while_the_average_begins() -> None:
    w, optimizer, coherent = shrinking([1.0, 1.0], l1=0.1, rho=-1, start=3)
    applied = []
    for _ in range(5):
        step(optimizer, [1.0, 0.0])
        applied.append(bool(coherent.applied))
    assert applied == [False, False, False, True, True]
    assert w[0, 1].item() == pytest.approx(1 - 2 * 0.1 * 0.1)


def test_a_learning_rate_may_be_a_tensor() -> None:
    w = weight([1.0])
    optimizer = torch.optim.Adam([w], lr=torch.tensor(0.1), capturable=False, foreach=False)
    sl.GradientCoherent(optimizer, l1=0.1, rho=-1)
    step(optimizer, [0.0])
    assert w.item() == pytest.approx(0.99)


def test_biases_and_norms_are_left_out_unless_they_are_chosen() -> None:
    model = SmallNetwork()
    before = copy.deepcopy(dict(model.named_parameters()))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sl.GradientCoherent(optimizer, l2=1.0, rho=-1)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name] * (0.9 if parameter.dim() > 1 else 1)), name

    a, b, bias = weight([1.0]), weight([1.0]), nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([a, b, bias], lr=0.1)
    sl.GradientCoherent(optimizer, l2=1.0, rho=-1, parameters=(p for p in (a, bias)))
    step(optimizer, [0.0], [0.0], [0.0])
    assert [a.item(), b.item(), bias.item()] == pytest.approx([0.9, 1, 0.9])


def test_weights_without_elements_are_left_out() -> None:
    optimizer = torch.optim.SGD([weight([1.0, 2.0]), weight([])], lr=0.0)
    for parameters in (None, optimizer.param_groups[0]["params"]):
        coherent = sl.GradientCoherent(optimizer, l1=1.0, parameters=parameters)
        step(optimizer, [1.0, 0.0], [])
        step(optimizer, [1.0, 1.0], [])
        assert float(coherent.coherence) == pytest.approx(0.5**0.5)
    with pytest.raises(ValueError, match="nothing"):
        sl.GradientCoherent(torch.optim.SGD([weight([])], lr=0.1))


def test_a_weight_without_gradient_is_left_alone_and_later_groups_take_part() -> None:
    a, b, late = weight([1.0, 1.0]), weight([1.0]), weight([1.0])
    optimizer = torch.optim.SGD([a, b], lr=0.1)
    coherent = sl.GradientCoherent(optimizer, l2=1.0, rho=0.5)
    step(optimizer, None, None)  # does not count
    assert coherent.state_dict()["steps"] == 0
    step(optimizer, [1.0, 0.0], [5.0])
    step(optimizer, [1.0, 0.0], None)
    assert coherent.coherence == pytest.approx(1)
    assert b.item() == pytest.approx(0.5)  # from the first step's gradient alone
    optimizer.add_param_group({"params": [late]})
    step(optimizer, [1.0, 0.0], None, [0.0])
    assert late.item() == pytest.approx(0.9)
    step(optimizer, None, None, None)
    assert (coherent.coherence, bool(coherent.applied)) == (None, False)


def test_weights_of_several_dtypes_are_each_shrunk_in_their_own_with_float32_averages() -> None:
    half, single = nn.Parameter(torch.ones(2, 2, dtype=torch.bfloat16)), nn.Parameter(torch.ones(2, 2))
    optimizer = torch.optim.SGD([half, single], lr=0.1)
    coherent = sl.GradientCoherent(optimizer, l1=1.0, l2=1.0, rho=-1)
    for _ in range(2):
        for parameter in (half, single):
            parameter.grad = torch.full_like(parameter, 0.001)
        optimizer.step()
    assert coherent.state_dict()["averages"][0].dtype == torch.float32
    assert coherent.coherence == pytest.approx(1)
    torch.testing.assert_close(single.detach(), torch.full((2, 2), 0.9 * (0.9 * 0.9999 - 0.1 - 0.0001) - 0.1))
    torch.testing.assert_close(half.float(), single, rtol=0, atol=0.01)
    assert half.dtype == torch.bfloat16


def test_bad_settings_are_refused() -> None:
    optimizer = torch.optim.SGD([weight([1.0])], lr=0.1)
    of_biases = torch.optim.SGD([nn.Parameter(torch.ones(3))], lr=0.1)
    of_complex = torch.optim.SGD([nn.Parameter(torch.ones(2, 2, dtype=torch.complex64))], lr=0.1)
    wrong = {"rho": (1.1, math.nan), "l1": (-1.0, "strong"), "l2": (math.inf,), "decay": (1.0,)}
    cases: list[tuple[torch.optim.Optimizer, dict[str, Any], str]] = [
        (optimizer, {name: value}, f"^{name} .*{value!r}$")
        for name, values in (wrong | {"start": (-1, 1.5)}).items()
        for value in values
    ]
    cases += [
        (optimizer, {"parameters": []}, "nothing"),
        (optimizer, {"parameters": [weight([2.0])]}, "1 of the 1 parameters"),
        (of_biases, {}, "nothing"),
        (of_complex, {}, "complex"),
    ]
    for one, settings, message in cases:
        with pytest.raises(ValueError, match=message):
            sl.GradientCoherent(one, **settings)
        assert not one._optimizer_step_pre_hooks
    optimizer.param_groups[0]["lr"] = None  # as Adafactor's may be
    with pytest.raises(ValueError, match=r"SGD .*lr"):
        sl.GradientCoherent(optimizer)

    class Wrapper(torch.optim.Optimizer):
        """As Accelerate's: without what Optimizer makes."""

        def __init__(self, wrapped: torch.optim.Optimizer) -> None:
            self.param_groups = wrapped.param_groups

    optimizer.param_groups[0]["lr"] = 0.1
    with pytest.raises(TypeError, match=r"Wrapper .*accelerator\.prepare"):
        sl.GradientCoherent(Wrapper(optimizer))


@pytest.mark.parametrize("scale", [1e-41, 1e-38, 1e-23, 1e-20, 1.0, 1e19, 1e37])
def test_coherence_does_not_depend_on_the_gradients_scale(scale: float) -> None:
    gradients = torch.randn(4, 50, dtype=torch.float64)
    expected = coherences(gradients.tolist())[1:]
    assert coherences((scale * gradients).tolist())[1:] == pytest.approx(expected, abs=2e-3)


def test_sparse_and_scaled_gradients_are_refused() -> None:
    embedding = nn.Embedding(4, 2, sparse=True)
    optimizer = torch.optim.SGD(embedding.parameters(), lr=0.1)
    sl.GradientCoherent(optimizer)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match="sparse"):
        optimizer.step()

    w = weight([1.0])
    fused = torch.optim.SGD([w], lr=0.1, fused=True)
    sl.GradientCoherent(fused)
    scaler = torch.amp.GradScaler("cpu")
    scaler.scale(w.sum()).backward()
    with pytest.raises(ValueError, match=r"GradScaler .*fused"):
        scaler.step(fused)


def test_compression_counts_zeros_in_all_and_by_layer() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
        model[0].weight[:, :2] = 0
        model[2].weight.zero_()
        model[2].bias.zero_()
    found = sl.compression(model)
    assert (found.parameters, found.nonzero, found.ratio) == (11, 4, 11 / 4)
    assert found.layers == {"0": sl.Compression(8, 4), "2": sl.Compression(3, 0)}
    assert found.layers["2"].ratio == math.inf
    model[2].weight = model[0].weight
    assert sl.compression(model).layers["2"] == sl.Compression(1, 0)
    with pytest.raises(ValueError, match="no parameters"):
        sl.compression(nn.ReLU())
