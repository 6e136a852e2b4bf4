"""Texts as numbers, character by character; the first nine tenths are for training, the rest is held out."""

import hashlib
import math
import pydoc_data.topics
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sparsity_lib.study import files
from sparsity_lib.study.errors import StudyError

if TYPE_CHECKING:
    from torch import Tensor

TOPICS, SHAKESPEARE, FILE = "python-topics", "shakespeare", "file:"
TEXTS = (TOPICS, SHAKESPEARE)
SHAKESPEARE_FILE = "tinyshakespeare.txt"


@dataclass(frozen=True)
class Text:
    """A text divided in two contiguous parts, int64 (N,) and (M,): places in the alphabet.

    `alphabet` has every character of the whole text: a held-out character that does not occur in training has
    a small probability, not zero. `digest` is a SHA-256 of the whole text in UTF-8.
    """

    alphabet: str
    digest: str
    train: "Tensor"
    validation: "Tensor"

    def unigram_bits(self) -> float:
        """Bits per held-out character under the training frequencies of characters.

        One is added to every count, for characters that do not occur in training.
        """
        import torch  # here, for names of texts alone need no torch

        counts = torch.bincount(self.train, minlength=len(self.alphabet)) + 1.0
        return float(-(counts / counts.sum()).log()[self.validation].mean()) / math.log(2)


def load(text: str, limit: int | None = None) -> Text:
    """The text of that name, or the first `limit` characters of it.

    `python-topics`: the documentation topics that every Python carries, in order of their names; they
    differ between Python's versions. `shakespeare`: tinyshakespeare.txt in the folder that SPARSITY_DATA
    names, or else the project's `data`. `"file:PATH"`: any text in UTF-8.

    Raises `StudyError` for a name or file that cannot be used, and for a text shorter than `limit`.
    """
    import torch

    whole = _read(text)
    if limit is not None and limit > len(whole):
        raise StudyError(f"limit = {limit:,}: the text {name_of(text)} has only {len(whole):,} characters")
    alphabet = "".join(sorted(set(whole)))
    place = {character: at for at, character in enumerate(alphabet)}
    numbers = torch.tensor([place[character] for character in whole[:limit]], dtype=torch.int64)
    cut = len(numbers) * 9 // 10
    return Text(alphabet, hashlib.sha256(whole.encode()).hexdigest(), numbers[:cut], numbers[cut:])


def digest(text: str) -> str:
    """SHA-256 of the text of that name."""
    return hashlib.sha256(_read(text).encode()).hexdigest()


def name_of(text: str) -> str:
    """The text's name: `file:<last part>` for a file."""
    return FILE + Path(text.removeprefix(FILE)).name if text.startswith(FILE) else text


def _read(text: str) -> str:
    if text == TOPICS:
        return "\n".join(topic for _, topic in sorted(pydoc_data.topics.topics.items()))
    path = Path(text.removeprefix(FILE)).expanduser()
    if text == SHAKESPEARE:
        path = files.folder("data", "SPARSITY_DATA") / SHAKESPEARE_FILE
        if not path.exists():
            raise StudyError(f"shakespeare is not at {path}: put the file there, or choose {TOPICS}")
    try:
        return files.content_of(path).decode()
    except UnicodeDecodeError as error:
        raise StudyError(f"{path} is not UTF-8 text: byte {error.start:,} cannot be read") from None
