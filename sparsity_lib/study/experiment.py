"""Configuration of one training run, with an id from its hash."""

import functools
import hashlib
import json
import math
import pkgutil
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from sparsity_lib.study import recipes
from sparsity_lib.study.configuration import Configuration, file_name, is_plain
from sparsity_lib.study.data import DATASETS
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.language import LanguageExperiment
from sparsity_lib.study.recipes import NETWORKS, Recipe, layers_of, sizes_of

if TYPE_CHECKING:
    from torch import nn

Strengths = dict[str, float]

# Fields that set where and how fast a run is computed, not its numbers; not part of its id.
MACHINE_FIELDS = frozenset({"device", "deterministic", "compiled"})

# Networks that a field applies to.
_WITH_SPARSEOUT = tuple(name for name in NETWORKS if name.startswith("sparseout"))
_WITH_DROPOUT = (*(name for name in NETWORKS if name.startswith("drop")), *_WITH_SPARSEOUT)
FIELD_NETWORKS = {
    "norm_placement": ("normNet",),
    "batch_norm": tuple(name for name in NETWORKS if name.startswith("norm")),
    "dropout_placement": ("dropNet", "sparseoutNet"),
    "dropout": _WITH_DROPOUT,
    "q": _WITH_SPARSEOUT,
    "sparseout_gradient": _WITH_SPARSEOUT,
}


class Experiment(Configuration):
    """Description of a training run: network, data, training, penalties and readings.

    ```python
    experiment = study.Experiment(network="sr2Net", dataset="digits", lr=0.1, epochs=20)
    ```

    Frozen and validated. Defaults are TSR's settings (arXiv 2002.09237, section 4) and, where the paper
    is silent, the readings T1..T19 of the book's page "Choices left open". `sr1Net`, `sr2Net`,
    `sr3Net`, `varNet` and `sfNet` are recipes: vanillaNet with strengths by layer. `sparsity`, `variance`,
    `scale_free` and `decorrelation` give strengths explicitly.

    Raises `StudyError` (one line) for an unknown field or value, with the known ones.
    """

    network: str = "vanillaNet"  # a name of recipes.NETWORKS, or "package.module:factory"
    size: str = "s"  # widths of TSR's Table 1; for LeNet and AlexNet a share of the original widths
    dataset: str = "digits"  # a name of data.DATASETS, or "folder:PATH"
    seed: int = Field(0, ge=0)  # initialisation, order of the samples, dropout
    data_seed: int = Field(0, ge=0)  # subset, label noise and split; equal for all runs of a comparison
    limit: int | None = Field(None, ge=1)  # training images; None is all of them
    held_out: int | None = Field(None, ge=2)  # held-out images, a quarter for the monitor; None is all
    label_noise: float = Field(0.0, ge=0, le=1)  # share of training labels redrawn uniformly
    image_size: int | None = Field(None, ge=4)  # pixels per side; None is the size of the data set (T11)
    input_scaling: Literal["unit", "standardize"] = "unit"  # pixels: 0 to 1, or standardised by channel (T7)
    init: Literal["glorot", "pytorch"] = "glorot"  # initial weights (T6)

    epochs: int = Field(100, ge=1)  # passes through the training images (section 4)
    optimizer: Literal["sgd", "adam"] = "sgd"  # SGD is without momentum (section 4)
    lr: float | None = Field(None, gt=0)  # learning rate; None is 0.01 for SGD, 0.001 for Adam (T13)
    batch_size: int = Field(64, ge=1)  # images per step (section 4)
    weight_decay: float = Field(0.0, ge=0)  # torch's weight decay, on every parameter
    label_smoothing: float = Field(0.0, ge=0, lt=1)  # share of the target spread over all classes

    lambda_: float = Field(0.001, ge=0)  # strength of SparsityReg (section 4) and others in recipes
    lambda_conv_scale: float = Field(1.0, ge=0)  # factor on lambda_ in conv layers, which sum positions
    kappa: float = Field(1.0, ge=0)  # strength of DecorrReg (section 4) in recipes
    sparsity: Strengths | None = None  # {layer: lambda} of SparsityReg; None is the network's recipe
    variance: Strengths | None = None  # {layer: lambda} of Var(a)/2, which is ln D - entropy near 0
    scale_free: Strengths | None = None  # {layer: lambda} of entropy at unit variance, without the bias
    decorrelation: Strengths | None = None  # {layer: kappa} of DecorrReg; None is the network's recipe
    perplexity: Strengths | None = None  # {layer: lambda} of perplexity sparsity, a mean over positions
    include_bias: bool = True  # whether the penalised activations have the bias of the layer (T1)
    activation: Literal["before", "after"] = "before"  # penalised activations: before or after the ReLU (T1)
    reduction: Literal["sum", "mean"] = "sum"  # reduction of a penalty over positions (T2)
    center: Literal["filters", "components", "none"] = "filters"  # mean of Eq. 6 (T3)
    decorrelation_penalty: Literal["signed", "absolute", "squared", "local"] = "signed"  # sum of Eq. 6 (T4)

    norm_placement: Literal["block", "convolution"] = "block"  # normNet has a norm after each (T5)
    batch_norm: Literal["pytorch", "keras"] = "pytorch"  # momentum and epsilon of normNet's norms (T15)
    dropout_placement: Literal["block", "convolution"] = "block"  # dropNet has dropout after each (T5)
    dropout: float = Field(0.25, ge=0, lt=1)  # probability in dropNet (section 4), and p of Sparseout
    q: float = Field(2.0, ge=0)  # power of Sparseout; 2 is dropout
    sparseout_gradient: Literal["exact", "reused"] = "exact"  # reused: as in the code of Sparseout's authors

    l1: float = Field(0.0, ge=0)  # strength of the L1 norm, by soft thresholding after each step
    l2: float = Field(0.0, ge=0)  # strength of half the squared L2 norm, by shrinking after each step
    rho: float | None = Field(None, ge=-1, le=1)  # least coherence at which l1 and l2 act; -1 and None: any
    delay: int = Field(0, ge=0)  # epochs before l1 and l2 act

    precision: Literal["float32", "bf16"] = "float32"  # arithmetic of the training
    deterministic: bool = False  # equal bits on a GPU, at a cost in time; always so on a CPU
    compiled: bool | None = None  # torch.compile for entropies; None: where it saves time

    def __init__(self, /, **fields: Any) -> None:  # otherwise type checkers require every field
        super().__init__(**fields)

    @field_validator("network")
    @classmethod
    def _known_network(cls, name: str) -> str:
        if name not in NETWORKS and not re.fullmatch(r"[\w.]+:\w+", name):
            raise ValueError(
                f"unknown network '{name}'; known: {', '.join(NETWORKS)}, "
                "or your own as 'package.module:factory'"
            )
        return name

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, name: str) -> str:
        folder = _folder_name(name) if name.startswith("folder:") else ""
        if name not in DATASETS and not folder:
            raise ValueError(f"unknown data set '{name}'; known: {', '.join(DATASETS)}, or 'folder:PATH'")
        if not is_plain(folder):
            raise ValueError(f"a data set's folder is called by a plain name, not {folder!r}: rename it")
        return name

    @model_validator(mode="after")
    def _known_layers(self) -> "Experiment":
        for field in ("sparsity", "variance", "scale_free", "decorrelation", "perplexity"):
            for layer, strength in (getattr(self, field) or {}).items():
                if not is_plain(layer):
                    raise ValueError(f"{field}: no layer is called {layer!r}")
                if self.network in NETWORKS and layer not in (known := layers_of(self.network)):
                    raise ValueError(
                        f"{field}: unknown layer '{layer}'; {self.network} has {', '.join(known)}"
                    )
                if not (math.isfinite(strength) and strength >= 0):
                    raise ValueError(
                        f"{field}: the strength of '{layer}' is {strength}; it must be 0 or more"
                    )
        return self

    @model_validator(mode="after")
    def _fields_agree(self) -> "Experiment":
        if self.size not in (sizes := sizes_of(self.network)):
            raise ValueError(f"unknown size '{self.size}' of {self.network}; known: {', '.join(sizes)}")
        if self.activation == "after" and not self.include_bias:
            raise ValueError(
                "include_bias=False needs activation='before': behind the ReLU the bias is part of it"
            )
        for name, known in FIELD_NETWORKS.items():
            if getattr(self, name) != type(self).model_fields[name].default and self.network not in known:
                raise ValueError(
                    f"{name} = {getattr(self, name)} would be ignored by {self.network}; "
                    f"it is for {', '.join(known)}"
                )
        strengths = self.strengths()
        summed = strengths["sparsity"] or strengths["variance"] or strengths["scale_free"]
        if strengths["scale_free"] and (self.activation == "after" or not self.include_bias):
            raise ValueError(
                "the scale-free penalty is of activations before the ReLU, without the bias: "
                "leave activation and include_bias at their defaults"
            )
        if strengths["perplexity"] and self.reduction == "mean" and not summed:
            raise ValueError("reduction = mean would be ignored: the perplexity penalty is always a mean")
        if self.delay and not (self.l1 or self.l2):
            raise ValueError(f"delay = {self.delay} needs l1 or l2, which it delays")
        if self.delay >= self.epochs:
            raise ValueError(f"delay = {self.delay} leaves l1 and l2 none of {self.epochs} epochs")
        if self.rho is not None and self.rho > -1 and not (self.l1 or self.l2):
            raise ValueError(f"rho = {self.rho} needs l1 or l2, which it gates; -1 alone measures coherence")
        return self

    @property
    def architecture(self) -> str:
        """Architecture of the network: vanillaNet for sr1Net, sr2Net, sr3Net, varNet, sfNet and prNet."""
        return NETWORKS[self.network].architecture if self.network in NETWORKS else self.network

    def build(self, in_channels: int, image_size: tuple[int, int], num_classes: int) -> "nn.Module":
        """Network with initial weights, `(N, in_channels, *image_size) -> (N, num_classes)`.

        Weights are drawn from torch's global generator. Architectures of the paper draw the same weights from
        the same seed, so that runs can be paired. A custom network, `"package.module:factory"`, is made by
        `factory(in_channels, image_size, num_classes)` and keeps its own initialisation.

        Raises `StudyError` if the factory fails, or the images are too small.
        """
        if self.architecture in NETWORKS:
            settings = {name: getattr(self, name) for name in ("init", *FIELD_NETWORKS)}
            try:
                return recipes.build(
                    self.architecture, self.size, in_channels, image_size, num_classes, **settings
                )
            except ValueError as error:
                raise StudyError(str(error)) from None
        try:
            model = pkgutil.resolve_name(self.network)(in_channels, image_size, num_classes)
        except Exception as error:  # any error of the factory
            line = f"{type(error).__name__}: {error}".splitlines()[0]
            raise StudyError(f"network '{self.network}' cannot be made: {line}") from error
        from torch import nn  # imported here, since a description alone needs no torch

        if not isinstance(model, nn.Module):
            raise StudyError(f"network '{self.network}' made a {type(model).__name__}, no torch.nn.Module")
        return model

    def strengths(self) -> dict[str, Strengths]:
        """Strengths of the penalties by kind, `{"sparsity": {layer: strength}, "variance": ..., ...}`.

        Explicit fields override the recipe of the network; layers with strength 0 are left out. The
        perplexity sparsity of a recipe is a mean over its layers.
        """
        recipe = NETWORKS.get(self.network, Recipe(self.network))
        by_lambda = dict.fromkeys(("sparsity", "variance", "scale_free"), self.lambda_)
        mean = self.lambda_ / max(len(recipe.perplexity), 1)
        result = {}
        for field, scale in (by_lambda | {"decorrelation": self.kappa, "perplexity": mean}).items():
            conv_scale = self.lambda_conv_scale if field in by_lambda else 1.0
            chosen = getattr(self, field)
            if chosen is None:
                chosen = {
                    layer: scale * (conv_scale if layer.startswith("conv") else 1.0)
                    for layer in getattr(recipe, field)
                }
            result[field] = {layer: strength for layer, strength in chosen.items() if strength > 0}
        return result

    def learning_rate(self) -> float:
        """Learning rate: `lr`, or the default of the optimizer."""
        return self.lr if self.lr is not None else {"sgd": 0.01, "adam": 0.001}[self.optimizer]

    def describe(self) -> dict[str, Any]:
        """All fields as JSON values; a folder of images has its name, not its path."""
        return self.model_dump() | {"dataset": self.dataset_name}

    @property
    def dataset_name(self) -> str:
        """Name of the data set: `folder:<last part>` for a folder."""
        if self.dataset.startswith("folder:"):
            return "folder:" + _folder_name(self.dataset)
        return self.dataset

    def data_digest(self) -> str | None:
        """Digest of the images of a folder, which its name does not identify; None for named data sets."""
        if not self.dataset.startswith("folder:"):
            return None
        from sparsity_lib.study.data import sources  # which imports torch

        return sources.folder_digest(self.dataset)

    @property
    def numerical_parts(self) -> tuple[str, ...]:
        """Parts of the numerics (`provenance.NUMERICS`) that the run uses."""
        parts = {
            "coherent": bool(self.l1 or self.l2 or self.rho is not None),
            "sparseout": self.architecture.startswith("sparseout"),
            "perplexity": bool(self.strengths()["perplexity"]),
            "scale_free": bool(self.strengths()["scale_free"]),
        }
        return ("core", *(part for part, used in parts.items() if used))

    @functools.cached_property
    def digest(self) -> str:
        """Eight hex digits of the hash of the resolved description, without machine fields.

        Fields with their default value are left out, so that new fields do not change old ids.
        """
        resolved = self.describe() | self.strengths()
        resolved |= {"network": self.architecture, "lr": self.learning_rate()}
        for name in ("lambda_", "lambda_conv_scale", "kappa"):  # contained in the strengths
            resolved.pop(name)
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        defaults |= {"lr": 0.01, **{kind: {} for kind in self.strengths()}}
        given = {k: v for k, v in resolved.items() if k not in MACHINE_FIELDS and v != defaults[k]}
        return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()[:8]

    @functools.cached_property
    def id(self) -> str:
        """Id of the run: `<network>-<size>-<dataset>-s<seed>-<digest>`."""
        parts = (self.network.rpartition(":")[2], self.size, self.dataset_name, f"s{self.seed}", self.digest)
        return file_name(*parts)


AnyExperiment = Experiment | LanguageExperiment


def experiment_of(fields: dict[str, Any]) -> Any:
    """Experiment with these fields; a `LanguageExperiment` if they contain `text`."""
    return LanguageExperiment(**fields) if "text" in fields else Experiment(**fields)


def _folder_name(dataset: str) -> str:
    path = dataset.removeprefix("folder:")
    try:
        return Path(path).expanduser().resolve().name if path else ""
    except (OSError, RuntimeError, ValueError):  # an unknown home, links in a circle, a zero byte
        return ""
