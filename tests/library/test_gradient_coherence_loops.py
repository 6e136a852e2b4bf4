"""Gradient-coherent regularisation in training loops: resumed, accumulated, scaled, with closures."""

import copy
import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from devices import no_value_read
from optimizers import every_optimizer, same, shrinking, step, train, weight
from small_network import SmallNetwork
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import sparsity_lib as sl
from sparsity_lib import gradient_coherence


@every_optimizer
def test_a_resumed_training_goes_on_bit_for_bit(optimizer: Callable[..., torch.optim.Optimizer]) -> None:
    def started(model: nn.Module) -> tuple[torch.optim.Optimizer, sl.GradientCoherent]:
        one = optimizer(model.parameters())
        return one, sl.GradientCoherent(one, l1=1e-2, l2=1e-2, rho=0.05, start=1)

    model = SmallNetwork().to(memory_format=torch.channels_last)
    one, coherent = started(model)
    train(model, one, 4)
    file = io.BytesIO()
    torch.save([model.state_dict(), one.state_dict(), coherent.state_dict()], file)
    train(model, one, 5, seed=2)

    file.seek(0)
    of_model, of_optimizer, of_coherence = torch.load(file, weights_only=True)
    resumed = SmallNetwork().to(memory_format=torch.channels_last)
    other, also = started(resumed)
    resumed.load_state_dict(of_model)
    other.load_state_dict(of_optimizer)
    also.load_state_dict(of_coherence)
    train(resumed, other, 5, seed=2)
    assert same(model, resumed)
    assert torch.equal(coherent.coherence, also.coherence)


def test_a_state_of_other_parameters_is_refused() -> None:
    (_, optimizer, coherent), (_, _, other) = (shrinking([0.0] * n) for n in (2, 3))
    step(optimizer, [1.0, 1.0])
    with pytest.raises(ValueError, match=r"\(1, 2\) .*parameter 0"):
        other.load_state_dict(coherent.state_dict())
    with pytest.raises(ValueError, match="averages, steps"):
        coherent.load_state_dict({})


def test_a_grad_scaler_scales_neither_coherence_nor_shrinking() -> None:
    model = SmallNetwork()
    scaled = copy.deepcopy(model)
    both = []
    for network in (model, scaled):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        coherent = sl.GradientCoherent(optimizer, l1=0.01, rho=-0.5)
        scaler = torch.amp.GradScaler("cpu", enabled=network is scaled, init_scale=1024.0, growth_interval=2)
        for t in range(5):
            x = torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(t))
            optimizer.zero_grad()
            loss = network(x).square().mean()
            if network is scaled and t == 2:  # one that overflows is skipped and does not count
                scaler.scale(loss * math.inf).backward()
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
                loss = network(x).square().mean()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        both.append(coherent)
    assert both[0].state_dict()["steps"] == both[1].state_dict()["steps"] == 5
    torch.testing.assert_close(both[0].coherence, both[1].coherence, rtol=0, atol=1e-4)


@every_optimizer
@pytest.mark.parametrize("by_name", [True, False])
def test_a_closure_trains_bit_for_bit_as_without(
    optimizer: Callable[..., torch.optim.Optimizer], by_name: bool
) -> None:
    """Lightning always passes one."""
    model = SmallNetwork()
    other = copy.deepcopy(model)
    seen = []
    for network in (model, other):
        one = optimizer(network.parameters())
        coherent = sl.GradientCoherent(one, l1=1e-2, l2=1e-2, rho=0.05)
        by = (lambda closure, one=one: one.step(closure=closure)) if by_name else one.step
        train(network, one, 5, step_by=None if network is model else by)
        seen.append(coherent)
    assert same(model, other)
    assert torch.equal(seen[0].coherence, seen[1].coherence)
    assert seen[1].state_dict()["steps"] == 5


def test_an_optimizer_that_evaluates_its_closure_again_is_refused_and_nothing_is_left() -> None:
    class Twice(torch.optim.SGD):
        def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
            with torch.enable_grad():
                closure()
                return closure()

    w = weight([1.0, -2.0])
    optimizer = Twice([w], lr=0.1)
    coherent = sl.GradientCoherent(optimizer, l1=0.1, rho=-1)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = w.square().sum()
        loss.backward()
        return loss

    for _ in range(2):
        with pytest.raises(ValueError, match=r"Twice.* a second time") as caught:
            optimizer.step(closure)
        assert "\n" not in str(caught.value)
        assert w.tolist() == [[1.0, -2.0]]
        assert coherent.state_dict() == {"steps": 0, "averages": {}}
        assert not coherent.applied
    with pytest.raises(ValueError, match="LBFGS"):
        sl.GradientCoherent(torch.optim.LBFGS([w]))


def test_a_closure_that_fails_leaves_nothing_and_the_next_step_counts() -> None:
    w, optimizer, coherent = shrinking([1.0, -2.0], l2=1.0, rho=-1)

    def closure() -> Tensor:
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        optimizer.step(closure)
    assert w.tolist() == [[1.0, -2.0]]
    step(optimizer, [0.0, 0.0])
    assert coherent.state_dict()["steps"] == 1
    torch.testing.assert_close(w.detach(), torch.tensor([[0.9, -1.8]]))


@pytest.mark.parametrize("closures", [True, False])
def test_a_subclass_that_calls_its_bases_step_shrinks_once(closures: bool) -> None:
    class Derived(torch.optim.SGD):
        def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
            return super().step(closure)

    torch.optim.SGD([weight([0.0])], lr=0.1)  # from now on hooks run in the base's step too
    models = [SmallNetwork()]
    models.append(copy.deepcopy(models[0]))
    for model, kind in zip(models, (torch.optim.SGD, Derived), strict=True):
        optimizer = kind(model.parameters(), lr=0.05, momentum=0.9)
        coherent = sl.GradientCoherent(optimizer, l1=1e-2, l2=0.1, rho=0.0)
        train(model, optimizer, 4, step_by=optimizer.step if closures else None)
        assert coherent.state_dict()["steps"] == 4
    assert same(*models)


@pytest.mark.parametrize("refusing", [no_value_read, FakeTensorMode])  # the latter inside torch too
def test_a_step_needs_no_values(refusing: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradient_coherence, "_on_cpu", lambda tensor: False)
    with refusing():
        model = SmallNetwork()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        coherent = sl.GradientCoherent(optimizer, l1=1e-3, l2=1e-3)
        for _ in range(3):
            for parameter in model.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
        assert coherent.coherence.shape == coherent.applied.shape == ()


def test_steps_on_a_cpu_are_those_on_other_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = torch.randn(5, 600, 500)
    results = []
    for on_cpu in (True, False):
        monkeypatch.setattr(gradient_coherence, "_on_cpu", lambda tensor, on_cpu=on_cpu: on_cpu)
        w = nn.Parameter(torch.ones(600, 500))
        optimizer = torch.optim.SGD([w], lr=0.1)
        coherent = sl.GradientCoherent(optimizer, l1=1e-2, l2=1e-2)
        for t, gradient in enumerate(steps):
            w.grad = gradient + t
            optimizer.step()
        results.append((w.detach(), coherent.coherence, coherent.state_dict()["averages"][0]))
    assert results[0][0].numel() > gradient_coherence.PART
    torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-6)


def test_removal_leaves_the_optimizer_bare() -> None:
    w, optimizer, coherent = shrinking([1.0], l2=1.0, rho=-1)
    coherent.remove()
    step(optimizer, [0.0])
    assert w.item() == 1
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
