"""The language model: an LSTM with Sparseout, an epoch of its training, and its observations."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparsity_lib import Sparseout
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.language import texts
from sparsity_lib.study.language.experiment import LanguageExperiment

Record = dict[str, float | np.ndarray]  # an epoch's values by their name in the run's file
State = list[tuple[Tensor, Tensor]]  # of each layer, (1, N, H) twice


class CharacterLSTM(nn.Module):
    """An embedding, LSTM layers and a decoder, with noise on the activations between them.

    The noise is on non-recurrent connections alone (Zaremba et al., 2014): the recurrent
    state has none.
    """

    def __init__(self, alphabet: int, hidden: int, layers: int, noise: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(alphabet, hidden)
        self.layers = nn.ModuleList(nn.LSTM(hidden, hidden) for _ in range(layers))
        self.noises = nn.ModuleList(noise() for _ in range(layers + 1))
        self.decoder = nn.Linear(hidden, alphabet)

    def forward(self, characters: Tensor, state: State | None = None) -> tuple[Tensor, list[Tensor], State]:
        """`characters`, int64 (T, N), and the state before them (None: zeros).

        Returns the logits (T, N, alphabet), each layer's outputs without noise (T, N, H), the state after.
        """
        inputs = self.noises[0](self.embedding(characters))
        outputs, after = [], []
        for i, (layer, noise) in enumerate(zip(self.layers, self.noises[1:], strict=True)):
            output, last = layer(inputs, state[i] if state else None)
            outputs.append(output)
            after.append(last)
            inputs = noise(output)
        return self.decoder(inputs), outputs, after


def build(experiment: LanguageExperiment, alphabet: int) -> CharacterLSTM:
    """The network, initialised as PyTorch does."""
    return CharacterLSTM(
        alphabet,
        experiment.hidden,
        experiment.layers,
        lambda: Sparseout(experiment.p, experiment.q, experiment.gradient),
    )


def streams(experiment: LanguageExperiment, text: texts.Text) -> tuple[Tensor, Tensor]:
    """Both parts of the text, int64 (T, batch_size): consecutive pieces as columns, without the remainder.

    Raises `StudyError` for a text too short to fill one context in training and one held-out step.
    """
    n, size = len(text.train) + len(text.validation), experiment.batch_size
    least = max(-(-size * (experiment.context + 1) * 10 // 9), 20 * size)
    if n < least:
        raise StudyError(
            f"the text {texts.name_of(experiment.text)} has {n:,} characters; at batch_size={size} and "
            f"context={experiment.context} it must have {least:,}"
        )
    train, validation = (
        part[: len(part) // size * size].view(size, -1).t().contiguous()
        for part in (text.train, text.validation)
    )
    return train, validation


def train_epoch(
    model: CharacterLSTM, optimizer: torch.optim.Optimizer, train: Tensor, experiment: LanguageExperiment
) -> float:
    """Train on the text once; returns the mean cross-entropy in nats, with noise."""
    model.train()
    losses, state = [], None
    for characters, following in steps(train, experiment.context):
        logits, _, state = model(characters, state)
        state = [(h.detach(), c.detach()) for h, c in state]
        loss = F.cross_entropy(logits.flatten(0, 1), following.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), experiment.clip)
        optimizer.step()
        losses.append(loss.detach() * following.numel())
    return float(torch.stack(losses).sum()) / train[1:].numel()


@torch.no_grad()
def observe(model: CharacterLSTM, validation: Tensor, experiment: LanguageExperiment) -> Record:
    """Read the held-out text without noise: bits per character, and of each layer's outputs h (layer,):

    - `mean_abs`: the mean of |h|, which an L1 penalty would charge;
    - `hoyer`: (√H - |h|₁/|h|₂)/(√H - 1), 0 if all are of one size, 1 if all but one are 0 (Hoyer, 2004);
    - `noise_to_signal`: the noise's variance over the mean of h², were the network training.

    Outputs are between -1 and 1 and of either sign. Hoyer's measure depends on their absolute values alone,
    and not on the scale. An activation entropy would not suit them: its softmax ranks -1 below 0 and limits
    the ratio of two units' shares to e². Exact zeros do not occur.
    """
    model.eval()
    loss = torch.zeros((), dtype=torch.float64)
    sums = torch.zeros(4, len(model.layers), dtype=torch.float64)  # |h|, Hoyer's measure, |h|^q, h²
    state = None
    for characters, following in steps(validation, experiment.context):
        logits, outputs, state = model(characters, state)
        loss += F.cross_entropy(logits.flatten(0, 1), following.flatten(), reduction="sum").cpu()
        for i, output in enumerate(outputs):
            h = output.abs()
            parts = h.sum(), hoyer(h).sum() * experiment.hidden, h.pow(experiment.q).sum(), h.square().sum()
            sums[:, i] += torch.stack(parts).cpu()
    mean_abs, hoyers, power, square = (sums / (validation[1:].numel() * experiment.hidden)).numpy()
    noise = experiment.p / (1 - experiment.p) * power
    return {
        "val_bits": float(loss) / validation[1:].numel() / math.log(2),
        "mean_abs": mean_abs,
        "hoyer": hoyers,
        "noise_to_signal": noise / square,
    }


def hoyer(magnitudes: Tensor) -> Tensor:
    """Hoyer's sparsity of non-negative (..., H) over the last axis, in [0, 1]; 0 if all are 0 or H is 1."""
    root = math.sqrt(magnitudes.shape[-1])
    if root == 1:
        return torch.zeros_like(magnitudes[..., 0])
    length = magnitudes.norm(dim=-1)
    return torch.where(length > 0, (root - magnitudes.sum(-1) / length) / (root - 1), 0.0)


def steps(stream: Tensor, context: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Pieces (up to context, N) of a stream (T, N), each with the characters that follow."""
    return zip(stream[:-1].split(context), stream[1:].split(context), strict=True)
