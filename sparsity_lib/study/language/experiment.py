"""Configuration of one training of a language model: frozen, validated, and named by its hash."""

import hashlib
import json
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from sparsity_lib.study.configuration import Configuration, file_name
from sparsity_lib.study.language import texts
from sparsity_lib.study.language.texts import FILE, TEXTS, name_of

DROPOUT = "q = 2"  # label of the reference
NO_NOISE = "no noise"

_VARIED = ("q", "p", "gradient")  # compared within a setting


class LanguageExperiment(Configuration):
    """An LSTM that predicts the next character, with Sparseout where Zaremba et al. (2014) put dropout.

    Frozen and validated. Networks and texts of the paper (arXiv 1904.08050) are not known to us: all
    settings are our choice. Raises `StudyError` (one line) for an unknown field or value, naming what exists.
    """

    subfolder: ClassVar[str] = "language"
    network: ClassVar[str] = "LSTM"
    numerical_parts: ClassVar[tuple[str, ...]] = ("language", "sparseout")
    deterministic: ClassVar[bool] = False  # a CPU always gives the same bits

    text: str = "python-topics"  # see sparsity_lib.study.language.texts.TEXTS, or "file:PATH"
    limit: int | None = Field(None, ge=1)  # characters from the beginning; None is all of them
    seed: int = Field(0, ge=0)  # initialisation and noise; there is no other chance

    hidden: int = Field(64, ge=1)  # units of each layer, and of the embedding
    layers: int = Field(2, ge=1)
    q: float = Field(2.0, ge=0)  # 2 is dropout
    p: float = Field(0.25, ge=0, lt=1)  # probability of e = -1; TSR's dropout; 0 is no noise
    gradient: Literal["exact", "reused"] = "exact"

    epochs: int = Field(10, ge=1)
    lr: float = Field(0.002, gt=0)  # Adam's
    batch_size: int = Field(32, ge=1)  # streams of the text that are read side by side
    context: int = Field(64, ge=1)  # characters that the gradient goes back; the state is carried on
    clip: float = Field(1.0, gt=0)  # the longest that a gradient may be

    def __init__(self, /, **fields: Any) -> None:  # or type checkers would want every field
        super().__init__(**fields)

    @field_validator("text")
    @classmethod
    def _known_text(cls, name: str) -> str:
        if name not in TEXTS and not (name.startswith(FILE) and len(name) > len(FILE)):
            raise ValueError(f"unknown text '{name}'; known: {', '.join(TEXTS)}, or '{FILE}PATH'")
        return name

    def describe(self) -> dict[str, Any]:
        """All fields as JSON-able values; a file by its name, never by its path."""
        return self.model_dump() | {"text": name_of(self.text)}

    def data_digest(self) -> str:
        """The digest of the text, which its name does not identify; `StudyError` if it cannot be read."""
        return texts.digest(self.text)

    @property
    def dataset(self) -> str:
        """The text's name."""
        return name_of(self.text)

    @property
    def size(self) -> str:
        """The units of a layer."""
        return f"{self.hidden} units"

    @property
    def label(self) -> str:
        """Kind of noise: `q = 1.5`, or `no noise`."""
        if not self.p:
            return NO_NOISE
        return f"q = {self.q:g}" + ("" if self.gradient == "exact" else ", gradient reused")

    @property
    def setting(self) -> str:
        """Fields that the runs of a comparison share, as one line: `epochs=10 hidden=64 ...`."""
        shared = {k: v for k, v in self.describe().items() if k not in (*_VARIED, "seed", "device")}
        return " ".join(f"{name}={value}" for name, value in sorted(shared.items()))

    @property
    def digest(self) -> str:
        """Eight hex digits of the fields that determine the numbers, except fields at their default.

        A field added later then leaves the names of old runs unchanged.
        """
        inert = {"device"}
        inert |= {"q", "gradient"} if not self.p else {"gradient"} if self.q == 2 else set()
        named = {
            name: value
            for name, value in self.describe().items()
            if name not in inert and value != type(self).model_fields[name].default
        }
        return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def id(self) -> str:
        """The run's name: `LSTM-<text>-s<seed>-<digest>`."""
        return file_name(self.network, name_of(self.text), f"s{self.seed}", self.digest)
