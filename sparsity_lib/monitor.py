"""ActivationMonitor: streaming statistics of layers' outputs in any torch model."""

import copy
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from sparsity_lib._entropy import exact_float
from sparsity_lib._hooks import Attachable, Hook, in_backward, is_transformed
from sparsity_lib._layers import Axes, Key, chosen_layers, default_layers, excluded, is_linear, named_layers
from sparsity_lib._outputs import Mask, Output
from sparsity_lib._settings import needs, require
from sparsity_lib._statistics import LayerStats, Sums

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ActivationMonitor", "LayerStats"]


class ActivationMonitor(Attachable):
    """Statistics of layers' outputs over all forward passes while attached.

    ```python
    with sl.ActivationMonitor(model, layers=["conv*", "fc1"]) as monitor:  # one monitor per set of images
        model(x)
    stats = monitor.compute()
    ```

    Nothing is kept per batch: sums stay on the layer's device until `compute`. It sees a layer's output
    before an in-place ReLU can overwrite it, changes neither outputs nor random state, and works under
    `no_grad` and in training. Passes that activation checkpointing repeats in backward are not counted again,
    and passes without data are not counted at all: exporting, tracing, the meta device, `vmap` and
    other transforms of `torch.func`, and the capture of a CUDA graph, whose replays no hook sees.
    torch.compile breaks its graph at each of the layers (with fullgraph=True it refuses); nn.DataParallel is
    refused. Nested tensors, as of `nn.TransformerEncoder` in evaluation, count with the tokens they have.
    """

    _takes_nested = True

    def __init__(
        self,
        model: nn.Module,
        layers: Sequence[Key] | None = None,
        *,
        exclude: Sequence[Key] = (),
        every: int = 1,
        maps: int = 0,
        rank_channels: int = 4096,
        dim: Axes = None,
        output: Output = None,
        mask: Mask = None,
        compiled: bool = False,
    ) -> None:
        """**Arguments:**

        - `model`: any module; wrappers' name prefixes (`module.`, `_orig_mod.`) may be left out or kept.
        - `layers`: a list, whose entries may be mixed: a dotted name (`"block.conv1"`), a module
            (`model.fc1`), a type of module (`nn.ReLU`), or a glob (`"conv*"`). A glob means the convolution,
            linear and norm layers that match; where none does, the matching modules without children.
            `None`: all convolution, linear and norm layers that run, but for the linear layer that gives the
            model's output (its output is returned, or no other such layer runs after it).
        - `exclude`: a list of names, modules, types or globs of layers that are left out again, with all
            modules in them.
        - `every`: each layer's first, then every n-th output counts; a module that a pass uses several times
            has several.
        - `maps`: of how many samples, from the first on, the maps of both entropies are kept; samples where
            nothing counts are among them, and each sample as often as a pass uses the module.
        - `rank_channels`: the largest number of channels D for which a layer's effective rank is computed; of
            wider layers it is NaN. It takes the covariance of all pairs of channels, 8 D^2 bytes a layer.
            0: for no layer, which saves time.
        - `dim`: the channel axis of all these layers' outputs, or `{layer: axis}`; `None`: the axis whose
            length is the module's channel count (the last of linear, layer norm, recurrent layers and
            attention); for activation functions and others without a count, the axis where layers of the
            model have theirs, or 1.
        - `output`: of outputs that are not one tensor, the part to take: an index or key; or a function that
            is given each output and returns the tensor. `0` fits `nn.LSTM` and `nn.MultiheadAttention`,
            whose samples are found by their `batch_first`; axis 0 of all other outputs must be samples, so
            `nn.TransformerEncoderLayer` needs `batch_first=True`.
        - `mask`: the positions that count, such as tokens that are no padding: the name of an argument of
            the model's `forward`, `"attention_mask"`, given by name where `forward` takes any; or a
            function of its arguments; bool or 0 and 1, `(N, *spatial)` as the outputs without their
            channels. Outputs `(N, D)` count whole unless the mask has one value a sample, outputs
            `(N*T, D)` have a mask `(N, T)` sample by sample, and samples where nothing counts are no
            samples. One mask applies to all layers: where encoder and decoder have different masks, name
            the layers of one. On a GPU, the pass waits for the mask. Do not run the model in several
            threads at once.
        - `compiled`: fuse the computation by torch.compile: faster, after some seconds the first time.
            Without a working compiler: a warning, and the same values to rounding.

        **Raises:** `ValueError` for an unknown layer, axis or mask, and unless `every` >= 1, `maps` >= 0 and
        `rank_channels` >= 0 are whole numbers; `TypeError` for `nn.DataParallel`. Where `layers` are given,
        the forward pass raises `ValueError` for an output in which the channel axis cannot be found, that the
        mask does not fit, or whose number of channels changed, and `TypeError` for one that is not a dense
        tensor of floating point.
        """
        require("every", every, Integral, lambda x: x >= 1, "a whole number of at least 1")
        require("maps", maps, Integral, lambda x: x >= 0, "a whole number of at least 0")
        require("rank_channels", rank_channels, Integral, lambda x: x >= 0, "a whole number of at least 0")
        chosen = chosen_layers(model, layers, exclude)
        self._guess = list(chosen) if layers is None else None
        known = named_layers(model)
        without = excluded(known, exclude)
        listened = default_layers(known) if layers is None else chosen
        # Layers left out have hooks all the same: one of them may give the model's output.
        self._without = {name for name, module in listened.items() if module in without}
        super().__init__(model, listened, dim, output, mask)
        self._settings |= {"every": every, "maps": maps}
        if layers is None:
            self._hooks.append((known[""], Hook(self._model_ran)))
        self._every = every
        self._maps = maps
        self._rank_channels = rank_channels
        self._compiled = compiled
        self._warned = False
        self.reset()

    def reset(self) -> None:
        """Drop all statistics."""
        self._sums: dict[str, Sums] = {}
        self._seen = dict.fromkeys(self._modules, 0)
        self._refused: dict[str, Exception] = {}  # where no layers were named
        self._returned: dict[str, weakref.ref[Tensor]] = {}  # the last output of each linear layer
        # Of the linear layer that ran last in the current pass, not yet added.
        self._last: tuple[str, Tensor, int, Tensor | None] | None = None
        self._heads: set[str] = set()  # the linear layers that give the model's output
        self._whole = False  # whether a pass of the whole model has ended

    @property
    def layers(self) -> list[str]:
        """The names of the layers that `compute` returns.

        Where none were named, the model must run first; before, they are all but the last linear layer.
        """
        if self._guess is None:
            return list(self._modules)
        if not (self._refused or any(self._seen.values())):
            return self._guess
        others = self._giving_output() | self._refused.keys()
        return [name for name in self._modules if name in self._seen_data() and name not in others]

    def _seen_data(self) -> set[str]:
        """The layers of which any position counted."""
        return {name for name, sums in self._sums.items() if sums.vectors}

    @torch.inference_mode(False)
    @torch.no_grad()
    def _giving_output(self) -> set[str]:
        """The linear layers that give the model's output: that which ran last, if the model never did."""
        if self._last and self._whole:  # its pass failed, or was of a part of the model
            self._add(*self._last)
            self._last = None
        return self._heads | {self._last[0]} if self._last else self._heads

    def compute(self) -> dict[str, LayerStats]:
        """The statistics since the last reset, by layer in the network's order.

        Where no layers were named, a warning, given once, names those that did not run or cannot be used.

        **Raises:** `RuntimeError` naming the layers that did not run, or if none ran whose output is not the
        model's; `ValueError` for maps of several sizes.
        """
        return self._statistics(True)

    def _statistics(self, with_maps: bool) -> dict[str, LayerStats]:
        if missing := [name for name in self.layers if name not in self._seen_data()]:
            raise RuntimeError(
                f"no output was seen from {', '.join(missing)}: the model did not run them while attached; "
                "layers whose weights it reads without calling them are left out by exclude="
            )
        known = self._seen_data() | self._refused.keys() | self._giving_output() | self._without
        unused = [name for name in self._modules if name not in known]
        reasons = [f"{', '.join(unused)} did not run"] if unused else []
        reasons += map(str, self._refused.values())
        if not self.layers:
            raise RuntimeError("; ".join(["no layer can be reported but the model's output", *reasons]))
        if self._guess is not None and reasons and not self._warned:
            self._warned = True
            warnings.warn(f"not monitored: {'; '.join(reasons)}", RuntimeWarning, stacklevel=3)
        return {name: self._sums[name].stats(with_maps) for name in self.layers}

    def scalars(self) -> dict[str, float]:
        """`compute()` as numbers by `quantity/layer`, for loggers: `{"entropy/conv1": 2.3, ...}`.

        All fields of `LayerStats` but counts of data, quantiles and maps; entropies in nats. NaN stays.

        **Raises:** `RuntimeError` as `compute`.
        """
        left_out = {"samples", "positions", "channels", "entropy_quantiles", "maps", "scale_free_maps"}
        names = [f.name for f in fields(LayerStats) if f.name not in left_out]
        statistics = self._statistics(False)
        return {f"{n}/{layer}": float(getattr(s, n)) for n in names for layer, s in statistics.items()}

    def merge(self, other: "ActivationMonitor") -> Self:
        """Add another monitor's statistics of such a model: equals one monitor of both, up to rounding.

        Monitors can be pickled, and arrive in other processes without their model: each process of a
        distributed evaluation may send its own to one of them (`torch.distributed.gather_object`).

        **Arguments:**

        - `other`: a monitor of the same layers; its activations follow those of this one in the maps.

        **Returns:** this monitor.

        **Raises:** `ValueError` for a monitor of other layers, or of other numbers of channels.
        """
        if (theirs := [*other._modules]) != [*self._modules] or (self._guess is None) != (
            other._guess is None
        ):
            raise ValueError(
                f"a monitor of {', '.join(theirs)} cannot be merged into one of {', '.join(self._modules)}"
            )
        if other._rank_channels != self._rank_channels:
            raise ValueError(
                f"monitors of rank_channels {other._rank_channels} and {self._rank_channels} cannot be merged"
            )
        other._whole |= self._whole  # then its last linear layer did not give the output of its model
        giving_output = other._giving_output()
        for name, sums in other._sums.items():
            if name in self._sums and sums.channels != (was := self._sums[name].channels):
                raise ValueError(f"layer {name!r} has {sums.channels} channels there, and {was} here")
        for name, sums in other._sums.items():
            if name in self._sums:
                self._sums[name].merge(sums)
            else:
                self._sums[name] = copy.deepcopy(sums)
        self._seen = {name: seen + other._seen[name] for name, seen in self._seen.items()}
        self._refused |= other._refused
        self._heads |= giving_output
        self._whole |= other._whole
        for name in self._heads & self._sums.keys():
            del self._sums[name]
        return self

    def __getstate__(self) -> dict[str, Any]:
        """All but the model, its hooks, and the state of an unfinished pass."""
        kept: dict[str, Any] = {"_modules": dict.fromkeys(self._modules), "_mask": None}
        kept |= {"_heads": self._giving_output(), "_last": None, "_returned": {}, "_output": None}
        kept["_settings"] = {"every": self._every, "maps": self._maps}  # others may hold modules or functions
        return super().__getstate__() | kept

    def to_dataframe(self) -> "pd.DataFrame":
        """`compute()` as a pandas table, a row per layer; quantiles as columns, maps left out.

        **Raises:** `RuntimeError` as `compute`.
        """
        with needs("study"):
            import pandas as pd

        rows = {}
        for layer, stats in self._statistics(False).items():
            row = {f.name: getattr(stats, f.name) for f in fields(stats)}
            del row["maps"], row["scale_free_maps"]
            quantiles = row.pop("entropy_quantiles")
            rows[layer] = row | {f"entropy_q{100 * q:02.0f}": value for q, value in quantiles.items()}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("layer")

    @torch.inference_mode(False)  # its tensors could not be added to outside of it
    @torch.no_grad()
    def _receive(self, name: str, module: nn.Module, output: Tensor, axis: int) -> None:
        captured = output.is_cuda and torch.cuda.is_current_stream_capturing()
        if in_backward() or is_transformed(output) or captured:
            return
        try:
            mask = None if name in self._without else self._counted(name, output, axis)
        except ValueError as error:
            return self._refuse(name, error)
        if self._last:  # before this output is counted: it may be of the same layer
            self._add(*self._last)
            self._last = None
        self._seen[name] += 1
        if self._guess is not None and is_linear(module):
            self._returned[name] = weakref.ref(output)
            # A copy, as it may be overwritten before the next layer runs.
            last = output[:0] if name in self._heads | self._without else output.clone()
            self._last = name, last, axis, mask
        else:
            self._add(name, output, axis, mask)

    def _add(self, name: str, output: Tensor, axis: int, mask: Tensor | None) -> None:
        if (self._seen[name] - 1) % self._every or not output.numel() or name in self._without:
            return
        channels = output.shape[axis]
        if name in self._sums and self._sums[name].channels != channels:
            was = self._sums[name].channels
            return self._refuse(
                name, ValueError(f"layer {name!r} returned {channels} channels, and {was} before")
            )
        # In pieces that stay in a CPU's cache (twice as fast), and that bound the memory elsewhere.
        elements = 2**18 if output.device.type == "cpu" else 2**26
        size = max(1, elements // output[0].numel())
        pieces = output.movedim(axis, -1).split(size)
        masks = [None] * len(pieces) if mask is None else mask.split(size)
        for samples, counted in zip(pieces, masks, strict=True):
            exact = samples.to(exact_float(samples))
            if name not in self._sums:
                self._sums[name] = Sums(exact, self._maps, self._compiled, channels <= self._rank_channels)
            self._sums[name].add(exact, counted)

    def _refuse(self, name: str, error: Exception) -> None:
        if self._guess is None:
            raise error
        if name not in self._without:
            self._refused[name] = error

    def _model_ran(self, model: nn.Module, inputs: Any, output: Any) -> None:
        """Take note of the linear layers that gave the model's output."""
        if in_backward():
            return
        returned = [*_tensors(output)]
        self._heads |= {n for n, last in self._returned.items() if any(last() is each for each in returned)}
        if self._last:
            self._heads.add(self._last[0])
        self._last = None
        self._whole = True
        for name in self._heads & self._sums.keys():
            del self._sums[name]


def _tensors(output: Any) -> Iterator[Tensor]:
    """All tensors in what a model returned."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        yield from _tensors([*output.values()])
    elif isinstance(output, Sequence) and not isinstance(output, str):
        for each in output:
            yield from _tensors(each)
    elif is_dataclass(output):
        yield from _tensors([getattr(output, each.name) for each in fields(output)])
