"""Strong L1 and L2 while gradients agree with those before (GCSR, as we read it)."""

import math
from collections.abc import Callable, Iterable, Iterator
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

from sparsity_lib._filters import exact_dtype, largest, power_of_two
from sparsity_lib._settings import require

__all__ = ["GradientCoherent"]

PART = 2**18  # elements of a weight that are worked on at a time


class GradientCoherent:
    """Shrinks an optimizer's weights after each of its steps whose gradient agrees with those before.

    ```python
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    coherent = sl.GradientCoherent(optimizer, l1=1e-4, rho=0.0)
    loss.backward()  # of the loss alone
    optimizer.step()
    coherent.coherence  # of this step, in [-1, 1]; float() reads it
    ```

    GCSR's abstract does not define coherence. Here it is the cosine between the gradient g that `step` is
    given and the average m of the gradients of the steps before, over all regularised weights together:

        c = g . m / (|g| |m|),  then  m <- decay m + (1 - decay) g,  from m = 0

    A cosine does not see the scale of m, so its start at 0 needs no correction. In the first step there is no
    c, and where g or m is zero it is NaN. Where c >= rho, each regularised weight w of a group with learning
    rate lr is, after the optimizer's own step, shrunk and soft-thresholded:

        w <- (1 - lr l2) w,  then  w <- sign(w) max(|w| - lr l1, 0)

    With `rho=-1` that is done in every step, the first included. Neither momentum nor Adam's averages see
    it: as in AdamW, lr is what the optimizer and its scheduler hold, and Adam's scale for each weight does
    not count. With momentum 0.9 the loss takes steps ten times as long, so l1 and l2 weigh a tenth as much
    against it as in plain SGD.

    - **Gradients** are as `step` finds them: accumulated, clipped, and with every penalty that was added to
        the loss. The optimizer's own `weight_decay` is not among them, and always on. A weight without a
        gradient is left as it is, and does not count; neither does its average change.
    - **Hooks** of the optimizer do all this, so schedulers and `zero_grad` need nothing. A copied or
        unpickled optimizer has lost them. Groups added later take part, unless `parameters` was given.
    - **GradScaler** works, since it unscales before it steps, and steps it skips do not count; not with
        `fused=True` optimizers, which are given scaled gradients.
    - **Closures**, which Lightning always passes, work where `step` evaluates them once; the gradients are
        those that it leaves. An optimizer that evaluates one again, as LBFGS does, is refused.
    - **Half precision**: averages are float32; weights should be, or rounding undoes small strengths.
    - **Devices**: regularised weights lie on one, or are sharded by `fully_shard`, and then all processes
        decide together. Nothing is read back from a device but the CPU.

    **Attributes:**

    - `coherence`: of the last step, a scalar on the device; `None` before the second step, and if no
        regularised weight had a gradient.
    - `applied`: whether the last step was to shrink weights, a boolean scalar on the device.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        l1: float = 0.0,
        l2: float = 0.0,
        rho: float = 0.0,
        decay: float = 0.9,
        start: int = 0,
        parameters: Iterable[Tensor] | None = None,
    ) -> None:
        """**Arguments:**

        - `optimizer`: any that looks at one gradient a step, and whose groups have a learning rate `lr`;
            with Accelerate, the one that `prepare` is given.
        - `l1`, `l2`: strengths, at least 0; l2 is that of (l2/2) |w|^2. With both 0, training is as without.
        - `rho`: the least coherence at which weights are shrunk, in [-1, 1]; -1: always.
        - `decay`: of the average, in [0, 1); 0: the gradient of the step before.
        - `start`: how many steps first pass without shrinking; the average begins at once.
        - `parameters`: which of the optimizer's to regularise; `None`: those of two or more dimensions, so
            neither biases nor the scales of norms.

        **Raises:** `TypeError` for the optimizer that `accelerator.prepare` returns; `ValueError` for a
        setting outside its range, for LBFGS, for a group without a learning rate, and if nothing is
        regularised, a regularised parameter is complex, or some of them are sharded (DTensors) and some are
        not. `step` raises it for a closure that is evaluated again, a sparse gradient or a scaled one; that
        step changes no average and is not counted.
        """
        for name, strength in (("l1", l1), ("l2", l2)):
            require(name, strength, Real, lambda x: 0 <= x < math.inf, "finite and at least 0")
        require("rho", rho, Real, lambda x: -1 <= x <= 1, "in [-1, 1]")
        require("decay", decay, Real, lambda x: 0 <= x < 1, "in [0, 1)")
        require("start", start, Integral, lambda x: x >= 0, "a whole number of at least 0 steps")
        if isinstance(optimizer, torch.optim.LBFGS):
            raise ValueError("LBFGS evaluates several gradients a step: which are coherent is undefined")
        if any(group.get("lr") is None for group in optimizer.param_groups):
            raise ValueError(f"{type(optimizer).__name__} has no learning rate lr to scale l1 and l2 by")
        self._optimizer = optimizer
        self._l1, self._l2, self._rho, self._decay, self._start = l1, l2, rho, decay, start
        self._chosen = None if parameters is None else self._own(parameters)
        regularised = [weight for group in optimizer.param_groups for weight in self._regularised(group)]
        if len({hasattr(weight, "full_tensor") for weight in regularised}) > 1:
            raise ValueError("some weights are sharded and some are not: choose either by parameters=")
        if not regularised:
            raise ValueError(
                "there is nothing to regularise: no parameter with elements has two or more dimensions"
            )
        self._steps = 0
        self._averages: dict[Tensor, Tensor] = {}
        self._closure: Callable[[], Any] | None = None
        # The gradients of the step that is going on, by identity and version, and held so that these last.
        self._given: tuple[list[tuple[int, int]], list[Tensor]] | None = None
        self.coherence: Tensor | None = None
        self.applied = torch.zeros((), dtype=torch.bool)
        try:
            self._handles = [
                optimizer.register_step_pre_hook(self._before_step),
                optimizer.register_step_post_hook(self._after_step),
            ]
        except AttributeError as error:  # a wrapper's, as Accelerate's
            raise TypeError(
                f"{type(optimizer).__name__} takes no hooks: give the optimizer before accelerator.prepare"
            ) from error

    def __repr__(self) -> str:
        rule = f"l1={self._l1}, l2={self._l2}, rho={self._rho}, decay={self._decay}, start={self._start}"
        return f"GradientCoherent({type(self._optimizer).__name__}, {rule})"

    def remove(self) -> None:
        """Remove the hooks from the optimizer."""
        for handle in self._handles:
            handle.remove()

    def state_dict(self) -> dict[str, Any]:
        """The state that a resumed training needs on top of the optimizer's; without the settings."""
        averages = {
            index: self._averages[parameter]
            for index, parameter in enumerate(self._parameters())
            if parameter in self._averages
        }
        return {"steps": self._steps, "averages": averages}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there, bit for bit.

        **Raises:** `ValueError` if it is no such state, or one of other parameters than the optimizer's.
        """
        if missing := sorted({"steps", "averages"} - state.keys()):
            raise ValueError(f"this is not a state of GradientCoherent: it lacks {', '.join(missing)}")
        parameters, averages = self._parameters(), {}
        for index, saved in state["averages"].items():
            if index >= len(parameters) or parameters[index].shape != saved.shape:
                raise ValueError(
                    f"the state has an average of {tuple(saved.shape)} for parameter {index}, "
                    "which the optimizer does not have in that shape"
                )
            averages[parameters[index]] = _zeros_like(parameters[index]).copy_(saved)
        self._steps, self._averages = state["steps"], averages

    def _before_step(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if getattr(optimizer, "found_inf", None) is not None:
            raise ValueError("GradScaler gives fused optimizers scaled gradients: make it with fused=False")
        if (closure := kwargs.get("closure", args[1] if len(args) > 1 else None)) is None:
            self._observe(optimizer)
        elif closure is not self._closure:
            self._closure = self._observing(closure)
            if "closure" in kwargs:
                return args, kwargs | {"closure": self._closure}
            return (args[0], self._closure, *args[2:]), kwargs
        return None

    def _observing(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        """A closure whose gradients are seen, and which refuses to be evaluated again."""
        self._forget()
        before = None

        def observed() -> Any:
            nonlocal before
            if before is not None:
                self._forget()
                self._steps, self._averages = before
                raise ValueError(
                    f"{type(self._optimizer).__name__} evaluated its closure a second time in one step: "
                    "GradientCoherent needs an optimizer that evaluates it once"
                )
            loss = closure()
            before = self._steps, dict(self._averages)
            self._observe(self._optimizer)
            return loss

        return observed

    @torch.no_grad()
    def _observe(self, optimizer: torch.optim.Optimizer) -> None:
        due: dict[Tensor, Tensor] = {}
        for group in optimizer.param_groups:
            due |= self._due(group)
        given = [(id(gradient), gradient._version) for gradient in due.values()]
        if self._given is not None and self._given[0] == given:
            return  # the step of a subclass calls that of its base, whose hooks run too
        self._forget()
        self._given = given, [*due.values()]
        if not due:
            return
        for weight in due:
            if weight not in self._averages:
                self._averages[weight] = _zeros_like(weight)
        averages = [self._averages[weight] for weight in due]
        gradients = [gradient.to(self._averages[weight].dtype) for weight, gradient in due.items()]
        coherence = _cosine_and_average_(gradients, averages, 1 - self._decay)
        if self._steps:
            self.coherence = coherence
        self.applied = self._gate(averages[0].device)
        self._steps += 1

    def _forget(self) -> None:
        """Begin a step: nothing is known of its gradients, and nothing will be shrunk."""
        self.coherence, self.applied, self._given = None, torch.zeros((), dtype=torch.bool), None

    @torch.no_grad()
    def _after_step(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if self._given is None:
            return
        self._given = self._closure = None
        for group in optimizer.param_groups:
            due = [*self._due(group)]
            # The gate is a factor, 0 or 1: asking another device for its value would wait for it.
            rate = self.applied.to(exact_dtype(self.applied.device)) * group["lr"]
            if any(map(_on_cpu, due)) and not (rate := float(rate)):
                continue
            factor, threshold = 1 - rate * self._l2, rate * self._l1
            for (part,) in _parts(due):
                if self._l2:
                    part.mul_(factor)
                if self._l1:
                    soft_threshold_(part, threshold)

    def _gate(self, device: torch.device) -> Tensor:
        if self._steps >= self._start:
            if self._rho == -1:
                return torch.ones((), dtype=torch.bool, device=device)
            if self.coherence is not None:
                return self.coherence >= self._rho
        return torch.zeros((), dtype=torch.bool, device=device)

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self._optimizer.param_groups for parameter in group["params"]]

    def _own(self, parameters: Iterable[Tensor]) -> set[Tensor]:
        chosen = set(parameters)
        if foreign := len(chosen.difference(self._parameters())):
            raise ValueError(
                f"{foreign} of the {len(chosen)} parameters to regularise are not the optimizer's"
            )
        return chosen

    def _regularised(self, group: dict[str, Any]) -> list[Tensor]:
        """The group's weights that may be shrunk."""
        chosen = self._chosen
        weights = [
            p for p in group["params"] if p.numel() and (p.dim() >= 2 if chosen is None else p in chosen)
        ]
        if any(weight.is_complex() for weight in weights):
            raise ValueError("complex parameters cannot be regularised: leave them out by parameters=")
        return weights

    def _due(self, group: dict[str, Any]) -> dict[Tensor, Tensor]:
        """The parameters that this step concerns, and their gradients."""
        due = {weight: weight.grad for weight in self._regularised(group) if weight.grad is not None}
        if any(gradient.is_sparse for gradient in due.values()):
            raise ValueError("sparse gradients are not supported: leave their parameters out by parameters=")
        return due


def soft_threshold_(weight: Tensor, threshold: Any) -> None:
    """w <- sign(w) max(|w| - threshold, 0) in place, by a number or scalar; zeros are exact."""
    weight.sub_(weight.clamp(-threshold, threshold))


def _cosine_and_average_(gradients: list[Tensor], averages: list[Tensor], rate: float) -> Tensor:
    """Cosine of the angle between two lists, each taken as one vector; averages <- their mix with gradients.

    It is NaN if one is zero.
    """
    exact = exact_dtype(averages[0].device)
    if all(map(_on_cpu, averages)):
        length = other = product = 0.0
        for gradient, average in _parts(gradients, averages):
            a, b, ab = _products(gradient, average)
            length, other, product = math.hypot(length, a), math.hypot(other, b), product + ab
            average.lerp_(gradient, rate)  # while it is in the cache
        cosine = product / length / other if length and other else math.nan
        return torch.tensor(cosine, dtype=exact).clamp_(-1, 1)
    # Divided by powers of two, so that no square leaves the type's range.
    lists = (gradients, averages)
    units = [power_of_two(torch.stack([*map(largest, each)]).max()) for each in lists]
    scaled = [[part / unit.to(part.dtype) for part in each] for each, unit in zip(lists, units, strict=True)]
    norms = [torch.stack([*map(torch.linalg.vector_norm, each)]).to(exact).norm() for each in scaled]
    products = [(one * other).sum(dtype=exact) for one, other in zip(*scaled, strict=True)]
    torch._foreach_lerp_(averages, gradients, rate)
    return (torch.stack(products).sum() / torch.stack(norms).prod()).clamp(-1, 1)


def _products(one: Tensor, other: Tensor) -> tuple[float, float, float]:
    """The lengths of two parts, and the product of one with the other."""
    one, other = one.flatten(), other.flatten()
    lengths = [torch.dot(each, each).sqrt().item() for each in (one, other)]
    if all(1e-12 < length < 1e12 for length in lengths):
        return lengths[0], lengths[1], torch.dot(one, other).item()
    units = [power_of_two(largest(each)) for each in (one, other)]  # or squares could leave the type's range
    one, other = one / units[0], other / units[1]
    a, b = (unit.item() for unit in units)
    lengths = [torch.linalg.vector_norm(each).item() for each in (one, other)]
    return a * lengths[0], b * lengths[1], a * b * (one * other).sum().item()


def _parts(*lists: list[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Views of the lists' tensors side by side, small enough for a CPU's cache; elsewhere whole."""
    for tensors in zip(*lists, strict=True):
        first = tensors[0]
        if first.numel() <= PART or not _on_cpu(first):
            yield tensors
        elif all(tensor.is_contiguous() for tensor in tensors):
            yield from zip(*(tensor.view(-1).split(PART) for tensor in tensors), strict=True)
        else:
            rows = max(1, PART * len(first) // first.numel())
            yield from zip(*(tensor.split(rows) for tensor in tensors), strict=True)


def _on_cpu(tensor: Tensor) -> bool:
    """Whether it lies on the CPU, and whole."""
    return tensor.is_cpu and not hasattr(tensor, "full_tensor")


def _zeros_like(parameter: Tensor) -> Tensor:
    """An average's start, in the parameter's memory layout and at least float32."""
    return torch.zeros_like(parameter, dtype=torch.promote_types(parameter.dtype, torch.float32))
