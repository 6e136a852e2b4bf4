"""Cells of the grids: dictionaries with all fields of an experiment except its seed."""

import itertools
from collections.abc import Iterable
from typing import Any

from sparsity_lib.study.recipes import TARGETED

Cells = tuple[dict[str, Any], ...]

PAPER_NETWORKS = ("vanillaNet", "dropNet", "normNet", "sr1Net", "sr2Net", "sr3Net")  # TSR, Table 2
STUDY_NETWORKS = (*PAPER_NETWORKS, "varNet")
# Strengths of L1 and L2. A step shrinks weights by lr times the strength, and Adam's lr is 1/50 of SGD's.
L1, L2 = 1e-3, 1e-2
L1_ADAM, L2_ADAM = 5e-2, 5e-1
# Lambda at which lambda R ln D is equal for this network (16 to 64 channels) and the largest one.
AS_LARGEST_NETWORK = dict.fromkeys(TARGETED, 1.8e-3)


def combinations(networks: Iterable[str], **fields: Any) -> Cells:
    """One cell per network and combination of fields; fields with several values are tuples of them."""
    varied = {name: value if isinstance(value, tuple) else (value,) for name, value in fields.items()}
    return tuple(
        {"network": network, **dict(zip(varied, values, strict=True))}
        for values in itertools.product(*varied.values())
        for network in networks
    )


def readings(**fields: Any) -> Cells:
    """One cell per choice that is changed; other fields are as in the grid `networks`."""
    return (
        *strengths(**fields),
        *combinations(("sr2Net",), **fields, include_bias=False),  # T1
        *combinations(("sr2Net",), **fields, activation="after"),  # T1
        *combinations(("sr2Net",), **fields, init="pytorch"),  # T6
        *combinations(("sr2Net",), **fields, input_scaling="standardize"),  # T7
        *combinations(("vanillaNet",), **fields, init="pytorch"),
        *combinations(("vanillaNet",), **fields, input_scaling="standardize"),
        *baselines(**fields),
        *placements(**fields),
        *correlations(**fields),
    )


def strengths(**fields: Any) -> Cells:
    """sr2Net at other lambdas, and at the paper's lambda without fc1."""
    conv_scale = fields.get("lambda_conv_scale", 1.0)

    def targeted(strength: float) -> dict[str, float]:
        return {layer: strength * (conv_scale if layer.startswith("conv") else 1.0) for layer in TARGETED}

    without_fc1 = {layer: strength for layer, strength in targeted(1e-3).items() if layer != "fc1"}
    by_layer = (*map(targeted, (1e-5, 1e-4, 1e-2, 1e-1)), without_fc1)
    return combinations(("sr2Net",), **fields, sparsity=by_layer)


def baselines(**fields: Any) -> Cells:
    """Weight decay, label smoothing and dropout at several strengths."""
    return (
        *combinations(("vanillaNet",), **fields, weight_decay=(1e-4, 1e-3, 1e-2)),
        *combinations(("vanillaNet",), **fields, label_smoothing=(0.05, 0.1, 0.2)),
        *combinations(("dropNet",), **fields, dropout=(0.1, 0.5)),
    )


def placements(**fields: Any) -> Cells:
    """Norm and dropout after each convolution (T5)."""
    return (
        *combinations(("normNet",), **fields, norm_placement="convolution"),
        *combinations(("dropNet",), **fields, dropout_placement="convolution"),
    )


def correlations(**fields: Any) -> Cells:
    """sr3Net with the other centrings and forms of the correlation penalty (T3, T4)."""
    penalties = ("signed", "absolute", "squared", "local")
    centers = ("filters", "components", "none")
    cells = combinations(("sr3Net",), **fields, center=centers, decorrelation_penalty=penalties)
    return cells[1:]  # the first is the default


def perplexity(**fields: Any) -> Cells:
    """Perplexity sparsity at both of its strengths, and L1 and L2."""
    return (
        *combinations(("prNet",), **fields, lambda_=1.0),
        *combinations(("vanillaNet",), **fields, l1=L1),
        *combinations(("vanillaNet",), **fields, l2=L2),
        *combinations(("prNet",), **fields, lambda_=0.1),
    )


def sparseout(network: str, **fields: Any) -> Cells:
    """Sparseout at all values of q except 2, which is dropout."""
    return combinations((network,), **fields, q=(1.0, 3.0, 1.5, 2.5))


def scale_free(strengths: Iterable[float], **fields: Any) -> Cells:
    """sfNet at each strength, and the networks with which it is compared."""
    return (
        *combinations(("vanillaNet", "sr2Net", "varNet"), **fields),
        *combinations(("sfNet",), **fields, lambda_=tuple(strengths)),
    )


def language_models(**fields: Any) -> Cells:
    """Language models without noise and with Sparseout at each q; p is TSR's and not tuned."""
    return ({**fields, "p": 0.0}, *({**fields, "q": q} for q in (1.0, 1.5, 2.0, 2.5, 3.0)))


def coherent(strengths: Iterable[dict[str, float]], **fields: Any) -> Cells:
    """Each strength always on, gated by gradient coherence, and delayed by a fifth of the training."""
    ways: Cells = ({}, {"rho": 0.0}, {"delay": fields.get("epochs", 100) // 5})
    return tuple(
        {"network": "vanillaNet", "rho": -1.0, **fields, **strength, **way}
        for way in ways
        for strength in strengths
    )


def architectures(**fields: Any) -> Cells:
    """VGG-11 and ResNet-18 with Adam; with plain SGD and without norms, VGG-11 hardly learns."""
    fields = {"optimizer": "adam", **fields}
    return (
        *combinations(("VGG11", "dropVGG11", "normVGG11", "srVGG11"), **fields),
        *combinations(("prVGG11",), **fields, lambda_=1.0),
        *combinations(("ResNet18", "srResNet18"), **fields),
        *combinations(("prResNet18",), **fields, lambda_=1.0),
        *combinations(("VGG11", "ResNet18"), **fields, l1=L1_ADAM),
        *combinations(("VGG11", "ResNet18"), **fields, l2=L2_ADAM),
        *sparseout("sparseoutVGG11", **fields),
    )


def on_few_images(**fields: Any) -> dict[str, Cells]:
    """Cells on few images by grid: readings, learning rates and the other papers."""
    return {
        "readings": (
            *combinations(("vanillaNet", "dropNet", "normNet", "sr2Net", "sr3Net", "varNet"), **fields),
            *placements(**fields),
            *correlations(**fields),
            *strengths(**fields),
            *combinations(("sr2Net",), **fields, sparsity=AS_LARGEST_NETWORK),
            *baselines(**fields),
        ),
        "perplexity": (
            *combinations(("vanillaNet", "dropNet", "normNet", "sr2Net"), **fields),
            *perplexity(**fields),
        ),
        "perplexity-200": (
            *combinations(("vanillaNet",), **fields | {"epochs": 200}),
            *combinations(("prNet",), **fields | {"epochs": 200}, lambda_=1.0),
        ),
        "sparseout": sparseout("sparseoutNet", **fields),
        "coherent": (
            *combinations(("vanillaNet",), **fields, rho=-1.0),
            *coherent(({"l1": 1e-3}, {"l1": 3e-3}), **fields),
        ),
        "learning-rates": combinations(
            ("vanillaNet", "dropNet", "normNet", "sr2Net"), **fields | {"lr": (0.003, 0.01, 0.03, 0.1)}
        ),
    }
