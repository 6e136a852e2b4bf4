"""Observations after each epoch: losses, layer statistics, filters, gradients of penalties."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsity_lib import ActivationMonitor, LayerStats, functional
from sparsity_lib._layers import channel_axis, known_widths, named_layers
from sparsity_lib.study.data import Split
from sparsity_lib.study.data.scaling import Prepare
from sparsity_lib.study.runs.dimensions import BINS, CENTERS, KNOCKED_OUT, MAPS, QUANTILES
from sparsity_lib.study.training.checkpoint import Record

DRAWS = 3  # random choices of channels, over which an accuracy is averaged
STATISTICS = (
    "entropy",
    "scale_free_entropy",
    "noise_entropy",
    "perplexity_sparsity",
    "mean",
    "sd",
    "max",
    "zero_share",
    "dead_channels",
    "effective_rank",
)
assert {*STATISTICS, *MAPS} <= {field.name for field in fields(LayerStats)}

# Per-image values of each curve of deterioration to the end, and the sign of a deterioration.
RISES = {
    "val_loss_rise": ("val_image_loss", 1.0),
    "val_loss_calibrated_rise": ("val_image_loss_calibrated", 1.0),
    "val_accuracy_drop": ("val_image_correct", -1.0),
}
LAST = 5  # epochs whose mean is the end (T18)
RESAMPLES, _PIECE = 1000, 100  # bootstrap samples of images; computed in pieces, to spare memory
BATCH = 256


@dataclass(frozen=True)
class Outcome:
    """Results of a pass over images: `logits` (N, classes), `loss` (N,) in nats, `correct` (N,) bool."""

    logits: Tensor
    loss: Tensor
    correct: Tensor


def batches(split: Split, prepare: Prepare, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The split's images, prepared, and labels, in order and in pieces of `size`."""
    for images, labels in zip(split.images.split(size), split.labels.split(size), strict=True):
        yield prepare(images), labels


@torch.no_grad()
def evaluate(model: nn.Module, split: Split, prepare: Prepare) -> Outcome:
    """Logits, cross-entropy and correctness of every image, in evaluation mode."""
    model.eval()
    logits = torch.cat([model(x).float() for x, _ in batches(split, prepare, BATCH)])
    loss = F.cross_entropy(logits, split.labels, reduction="none")
    return Outcome(logits, loss, logits.argmax(1) == split.labels)


@torch.no_grad()
def layer_outputs(model: nn.Module, layers: Sequence[str], inputs: Tensor) -> dict[str, Tensor]:
    """Outputs of the model's layers, by name, `(N, D, *spatial)`."""
    outputs: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, args: object, output: Tensor) -> None:
        axis = channel_axis(name, module, output, None, widths)
        outputs[name] = output.movedim(axis, 1).clone()  # a ReLU that works in place would overwrite it

    modules = named_layers(model)
    widths = known_widths(modules)
    handles = [modules[name].register_forward_hook(functools.partial(keep, name)) for name in layers]
    try:
        model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return outputs


def observe_activations(
    model: nn.Module, monitors: Sequence[ActivationMonitor], splits: Sequence[Split], prepare: Prepare
) -> tuple[Record, Outcome]:
    """Layer statistics, loss and accuracy on each of the splits (T16), stacked along a first axis of SPLITS.

    The record also has `<layer>/maps` and `<layer>/scale_free_maps`, (images, *spatial) in nats, of the first
    split's first images. Returns the record, and the outcome on the first split.
    """
    record: Record = {}
    stats: list[dict[str, LayerStats]] = []
    outcomes = []
    for monitor, split in zip(monitors, splits, strict=True):
        monitor.reset()
        with monitor:
            outcomes.append(evaluate(model, split, prepare))
        stats.append(monitor.compute())
    record["monitor_loss"] = torch.stack([outcome.loss.mean() for outcome in outcomes])
    record["monitor_accuracy"] = torch.stack([outcome.correct.float().mean() for outcome in outcomes])
    for layer in stats[0]:
        of_layer = [by_layer[layer] for by_layer in stats]
        for name in STATISTICS:
            record[f"{layer}/{name}"] = torch.tensor([float(getattr(s, name)) for s in of_layer])
        record[f"{layer}/entropy_quantile"] = torch.tensor(
            [[s.entropy_quantiles[q] for q in QUANTILES] for s in of_layer]
        )
        for name in MAPS:
            if (maps := getattr(of_layer[0], name)) is not None:
                record[f"{layer}/{name}"] = torch.from_numpy(maps)
    return record, outcomes[0]


@torch.no_grad()
def observe_filters(weights: dict[str, Tensor]) -> Record:
    """Histograms of pairwise filter correlations (TSR, Figure 7; T19), and the filters' norms.

    `<layer>/correlation_histogram` has the shape `(CENTERS, BINS)`: counts over the lower triangle,
    without its diagonal.
    """
    record: Record = {}
    for layer, weight in weights.items():
        histograms = []
        for center in CENTERS:
            correlation = functional.filter_correlation(weight.float(), center=center)
            below = torch.tril(torch.ones_like(correlation, dtype=torch.bool), diagonal=-1)
            bins = (correlation[below].clamp(-1, 1) * 100).round().long() + 100
            histograms.append(torch.bincount(bins, minlength=BINS))
        norms = weight.float().flatten(1).norm(dim=1)
        record[f"{layer}/correlation_histogram"] = torch.stack(histograms)
        record[f"{layer}/filter_norm_mean"] = norms.mean()
        record[f"{layer}/filter_norm_sd"] = norms.std(correction=0)
    return record


@torch.no_grad()
def observe_gradient_norms(weights: dict[str, Tensor], l1: float, l2: float) -> Record:
    """Norms of the gradients of the loss and of l1 |w| + l2/2 |w|^2: `loss_gradient_norm`, `shrinkage_norm`.

    The gradient of the loss is from the last step.
    """
    of_loss = [w.grad.norm() for w in weights.values() if w.grad is not None]
    of_terms = [(l1 * w.sign() + l2 * w).norm() for w in weights.values()]
    norms = {"loss_gradient_norm": of_loss, "shrinkage_norm": of_terms}
    return {name: torch.stack(parts).norm() for name, parts in norms.items()}


@torch.no_grad()
def ablate_channels(
    model: nn.Module, layers: Sequence[str], split: Split, prepare: Prepare, generator: torch.Generator
) -> Record:
    """`<layer>/knockout_accuracy`, (KNOCKED_OUT,): accuracy with these shares of a layer's channels ablated.

    Measures the capacity that a network uses, which TSR names and does not measure: a network that uses more
    of it loses accuracy at a smaller share (compare Morcos et al., arXiv 1803.06959). Randomly chosen
    channels are set to 0 after the layer's ReLU, `<layer>_relu`, or after the layer if there is none.
    """
    modules = named_layers(model)
    record: Record = {}
    for layer in layers:
        silenced = modules.get(f"{layer}_relu", modules[layer])
        if not (channels := _channels(modules[layer])):  # a norm has the channels of the layer before it
            continue
        accuracies = []
        for share in KNOCKED_OUT:
            correct = []
            for _ in range(DRAWS if share else 1):
                kept = torch.ones(channels, device=split.images.device)
                kept[torch.randperm(channels, generator=generator)[: round(share * channels)]] = 0
                handle = silenced.register_forward_hook(functools.partial(_silence, kept, modules[layer]))
                try:
                    correct.append(evaluate(model, split, prepare).correct.float().mean())
                finally:
                    handle.remove()
            accuracies.append(torch.stack(correct).mean())
        record[f"{layer}/knockout_accuracy"] = torch.stack(accuracies)
    return record


def _channels(layer: nn.Module) -> int:
    return int(getattr(layer, "out_channels", 0) or getattr(layer, "out_features", 0))


def _silence(kept: Tensor, layer: nn.Module, module: nn.Module, inputs: object, output: Tensor) -> Tensor:
    shape = (-1,) if isinstance(layer, nn.Linear) else (-1, *[1] * (output.dim() - 2))
    return output * kept.view(shape).to(output.dtype)


def observe_gradients(
    model: nn.Module, penalty: Callable[[], Tensor], weights: dict[str, Tensor], x: Tensor, y: Tensor
) -> Record:
    """`<layer>/penalty_gradient_ratio`: |d penalty / d W| over |d loss / d W| on a batch, evaluation mode."""
    model.eval()
    loss = F.cross_entropy(model(x).float(), y)
    of_penalty = torch.autograd.grad(penalty(), list(weights.values()), retain_graph=True)
    of_loss = torch.autograd.grad(loss, list(weights.values()))
    return {
        f"{layer}/penalty_gradient_ratio": p.norm() / q.norm()
        for layer, p, q in zip(weights, of_penalty, of_loss, strict=True)
    }


def rise_to_end(values: Tensor, sign: float) -> Tensor:
    """Deterioration from each epoch to the end, with a 95 % bootstrap interval over images (T10).

    **Arguments:** `values` (epochs, images), a loss (`sign=1`) or correctness (`sign=-1`) of each image, the
    first epoch being the untrained network's, which is no part of the end.

    **Returns:** (3, epochs): the mean over images of `sign * (mean of the last epochs - this epoch)`, and the
    interval's two ends. Images are redrawn with a fixed seed.
    """
    values = values.double().cpu()
    worse = sign * (values[1:][-LAST:].mean(0) - values)  # (epochs, images)
    images = worse.shape[1]
    generator = torch.Generator().manual_seed(0)
    means = []
    for size in torch.zeros(RESAMPLES).split(_PIECE):
        drawn = torch.randint(images, (len(size), images), generator=generator)
        counts = torch.zeros(len(size), images, dtype=torch.double)
        counts.scatter_add_(1, drawn, torch.ones_like(counts))
        means.append(counts @ worse.T / images)  # (_PIECE, epochs)
    ends = torch.quantile(torch.cat(means), torch.tensor([0.025, 0.975], dtype=torch.double), dim=0)
    return torch.cat([worse.mean(1)[None], ends])
