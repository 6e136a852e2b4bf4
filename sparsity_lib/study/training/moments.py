"""Four moments of a run: the images' losses at each, and layers measured again at two with kept weights."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from sparsity_lib import functional
from sparsity_lib.study.data import Split
from sparsity_lib.study.data.scaling import Prepare
from sparsity_lib.study.training.checkpoint import Record
from sparsity_lib.study.training.observation import BATCH, batches, layer_outputs

SHOWN = 2  # images whose activations are kept
SHOWN_ELEMENTS = 2**16  # of a layer and an image at most


def epochs_of(log: Mapping[str, Tensor]) -> list[int]:
    """The index of each of `MOMENTS` along the log's epochs, the first of which is before training.

    `log` has `val_loss` and `val_accuracy` (epochs,), `monitor_loss` and `monitor_accuracy` (epochs, SPLITS).
    The chosen epoch has the highest accuracy on monitor images; of several, the lowest loss (T18).
    """
    loss, accuracy = log["val_loss"][1:], log["val_accuracy"][1:]
    monitor_loss, monitor_accuracy = log["monitor_loss"][1:, 0], log["monitor_accuracy"][1:, 0]
    contenders = monitor_loss.where(monitor_accuracy == monitor_accuracy.max(), torch.inf)
    first_of = [loss.argmin(), accuracy.argmax(), contenders.argmin(), torch.tensor(len(loss) - 1)]
    return [1 + int(index) for index in first_of]


def outcomes_at(log: Mapping[str, Tensor], epochs: list[int]) -> Record:
    """`image_loss` and `image_correct`, (MOMENTS, images): each validation image at each moment.

    Losses, in nats, have the precision and the largest value of float16.
    """
    loss = log["val_image_loss"][epochs].clamp(max=torch.finfo(torch.float16).max)
    return {"image_loss": loss.half().float(), "image_correct": log["val_image_correct"][epochs]}


@torch.no_grad()
def layers_at(model: nn.Module, layers: Sequence[str], split: Split, prepare: Prepare) -> Record:
    """Layers of the model as it is, over the split's images, in evaluation mode.

    **Returns:** for each layer, `<layer>/channel_scaled_entropy`, the mean entropy in nats of activations
    with each channel divided by its own SD over samples and positions (0 where that is 0); and
    `<layer>/activations`, (SHOWN, D, *spatial), of the first images in the precision of float16, where an
    image has at most SHOWN_ELEMENTS of them.
    """
    model.eval()

    def outputs() -> Iterator[tuple[str, Tensor]]:  # (N, D, *spatial), batch by batch
        for x, _ in batches(split, prepare, BATCH):
            yield from ((name, each.float()) for name, each in layer_outputs(model, layers, x).items())

    moments: dict[str, Tensor] = {}
    record: Record = {}
    for layer, output in outputs():
        if layer not in moments:  # the first batch
            moments[layer] = torch.zeros(3, output.shape[1], dtype=torch.float64, device=output.device)
            if output[0].numel() <= SHOWN_ELEMENTS:
                record[f"{layer}/activations"] = output[:SHOWN].half().float()
        values = output.transpose(0, 1).flatten(1).double()
        moments[layer] += torch.stack([torch.ones_like(values).sum(1), values.sum(1), values.square().sum(1)])
    scales = {}
    for layer, (n, total, squares) in moments.items():
        sd = (squares / n - (total / n).square()).clamp_min(0).sqrt()
        scales[layer] = torch.where(sd > 0, 1 / sd, 0).float()
    entropies: dict[str, list[Tensor]] = {layer: [] for layer in layers}
    for layer, output in outputs():
        scaled = output * scales[layer].view(-1, *[1] * (output.dim() - 2))
        entropies[layer].append(functional.rfav_entropy(scaled).flatten())
    return record | {
        f"{layer}/channel_scaled_entropy": torch.cat(each).double().mean()
        for layer, each in entropies.items()
    }
