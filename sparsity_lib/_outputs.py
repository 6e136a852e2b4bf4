"""The part of a layer's output that is taken, and the positions of it that count."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sparsity_lib._entropy import transformed

# Part of torch that it does not promise to keep; torch.compiler.disable imports the compiler at once.
without_compiler = getattr(torch, "_disable_dynamo", torch.compiler.disable)

Output = int | str | Callable[[Any], Any] | None
Mask = str | Callable[..., Tensor] | None


def taken(name: str, module: nn.Module, output: Any, which: int | str | Callable[[Any], Any]) -> Any:
    """The requested part of a layer's output, samples first; an index into a tensor takes all of it."""
    part = _part(name, output, which)
    timed = isinstance(module, (nn.RNNBase, nn.MultiheadAttention)) and not module.batch_first
    if timed and isinstance(output, tuple) and part is output[0] and isinstance(part, Tensor):
        return part.transpose(0, 1) if part.dim() == 3 else part  # from (T, N, D)
    return part


def _part(name: str, output: Any, which: int | str | Callable[[Any], Any]) -> Any:
    if callable(which):
        return which(output)
    if isinstance(output, Tensor):
        return output
    try:
        return output[which]
    except (TypeError, LookupError):
        raise TypeError(
            f"layer {name!r} returned {type(output).__name__}, without a part {which!r}"
        ) from None


class MaskOfPass:
    """The mask of the current forward pass: an argument of the model, or a function of its arguments."""

    def __init__(self, model: nn.Module, mask: str | Callable[..., Tensor]) -> None:
        self.model, self._mask = model, mask
        self._signature = inspect.signature(model.forward)
        if not (isinstance(mask, str) or callable(mask)):
            raise TypeError(f"mask must be a name or a function, not {type(mask).__name__}")
        parameters = self._signature.parameters
        any_name = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
        if isinstance(mask, str) and mask not in parameters and not any_name:
            takes = ", ".join(parameters)
            raise ValueError(f"mask: the model's forward has no argument {mask!r}; it has {takes}")
        if isinstance(mask, str) and mask.endswith("key_padding_mask"):
            raise ValueError(
                f"mask: {mask} of torch is True where nothing counts: give a function that inverts it"
            )
        self._masks: list[Tensor | None] = []  # of the passes that are running, one in another

    def reset(self) -> None:
        """Forget passes that ended without their hooks, as by Ctrl-C."""
        self._masks.clear()

    def end(self, model: nn.Module, args: Any, output: Any) -> None:
        """Forget the mask of the pass that ends."""
        del self._masks[-1:]  # there is none where hooks were attached within the pass

    def begin(self, model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take the mask from the arguments of the pass that begins."""
        self._masks.append(None)
        given: Any
        if callable(self._mask):
            given = self._mask(*args, **kwargs)
        elif self._mask in self._signature.parameters:
            given = self._signature.bind(*args, **kwargs).arguments.get(self._mask)
        elif self._mask in kwargs:
            given = kwargs[self._mask]
        else:
            raise ValueError(f"mask: the model was called without {self._mask!r}; give it by name, or None")
        if given is not None and not isinstance(given, Tensor):
            raise TypeError(f"the mask must be a tensor or None, not {type(given).__name__}")
        if given is not None and (given.is_floating_point() or given.is_complex()):
            raise TypeError(f"the mask must be of truth values or integers, not {given.dtype}")
        self._masks[-1] = None if given is None else given.detach() != 0

    def of(self, name: str, output: Tensor, axis: int, cut: bool) -> Tensor | None:
        """The positions that the mask keeps, `(N, *spatial)` bool; None for all.

        An output without positions, `(N, D)`, counts whole unless the mask has one value a sample. `cut`: a
        mask may be longer.
        """
        if not self._masks:
            raise ValueError(f"layer {name!r} ran outside of its model's forward pass, which has the mask")
        if (mask := self._masks[-1]) is None:
            return None
        mask = mask.to(output.device)
        positions = (*output.shape[:axis], *output.shape[axis + 1 :])
        if cut and mask.dim() == 2:
            mask = mask[:, : positions[1]]
        if mask.shape == positions:
            return mask
        if len(positions) == 1 and mask.numel() == len(output):
            return mask.flatten()
        if len(positions) == 1 and len(mask) == len(output):
            return None
        raise ValueError(
            f"layer {name!r} has positions {positions}, to which the mask {tuple(mask.shape)} does not "
            "apply: leave the layer out by exclude=, or give a function as mask="
        )


@torch.no_grad()
def padded(name: str, output: Tensor) -> tuple[Tensor, Tensor]:
    """A nested tensor of sequences `(T_n, D)` as `(N, T, D)`, and its positions in that, `(N, T)` bool."""
    parts = output.unbind()
    if output.dim() != 3 or len({part.shape[1] for part in parts}) != 1:
        raise TypeError(f"layer {name!r} returned a nested tensor that is not of sequences (T_n, D)")
    lengths = torch.tensor([len(part) for part in parts], device=output.device)
    dense = nn.utils.rnn.pad_sequence([*parts], batch_first=True)
    return dense, torch.arange(dense.shape[1], device=output.device) < lengths[:, None]


def masked_sum(values: Tensor, mask: Tensor, factor: Tensor | int) -> Tensor:
    """The sum of the values where a mask is True, times a factor."""
    if transformed():
        return _masked_sum(values, mask, factor)
    summed: Tensor = _MaskedSum.apply(values, mask, factor)
    return summed


def _masked_sum(values: Tensor, mask: Tensor, factor: Tensor | int) -> Tensor:
    return torch.where(mask, values, 0).sum() * factor


class _MaskedSum(torch.autograd.Function):
    """`masked_sum` without saved tensors, as checkpointing, which repeats those, has no mask in backward."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, mask: Tensor, factor: Tensor | int) -> Tensor:
        ctx.mask, ctx.factor = mask, factor
        return _masked_sum(values, mask, factor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return torch.where(ctx.mask, gradient * ctx.factor, 0), None, None
