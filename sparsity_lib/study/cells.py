"""Cells of the grids: dictionaries with all fields of an experiment except its seed."""

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


def for_networks(networks: Iterable[str], **fields: Any) -> Cells:
    """One cell per network, with equal other fields."""
    return tuple({"network": network, **fields} for network in networks)


def changed(network: str, changes: Iterable[dict[str, Any]], **fields: Any) -> Cells:
    """One cell per change of the fields."""
    return tuple({"network": network, **fields, **change} for change in changes)


def readings(**fields: Any) -> Cells:
    """One cell per choice that is changed; other fields are as in the grid `networks`."""
    sr2: Cells = (
        {"include_bias": False},  # T1
        {"activation": "after"},  # T1
        {"init": "pytorch"},  # T6
        {"input_scaling": "standardize"},  # T7
    )
    vanilla: Cells = ({"init": "pytorch"}, {"input_scaling": "standardize"})
    return (
        *strengths(**fields),
        *changed("sr2Net", sr2, **fields),
        *changed("vanillaNet", vanilla, **fields),
        *baselines(**fields),
        *placements(**fields),
        *correlations(**fields),
    )


def strengths(**fields: Any) -> Cells:
    """sr2Net at other lambdas, and at the paper's lambda without fc1."""
    conv_scale = fields.get("lambda_conv_scale", 1.0)

    def targeted(strength: float, layers: Iterable[str] = TARGETED) -> dict[str, float]:
        return {layer: strength * (conv_scale if layer.startswith("conv") else 1.0) for layer in layers}

    layers = [targeted(strength) for strength in (1e-5, 1e-4, 1e-2, 1e-1)]
    layers.append(targeted(1e-3, TARGETED[:-1]))
    return changed("sr2Net", ({"sparsity": each} for each in layers), **fields)


def baselines(**fields: Any) -> Cells:
    """Weight decay, label smoothing and dropout at several strengths."""
    decays: Cells = tuple({"weight_decay": decay} for decay in (1e-4, 1e-3, 1e-2))
    smoothings = tuple({"label_smoothing": share} for share in (0.05, 0.1, 0.2))
    rates = tuple({"dropout": rate} for rate in (0.1, 0.5))
    return (*changed("vanillaNet", (*decays, *smoothings), **fields), *changed("dropNet", rates, **fields))


def placements(**fields: Any) -> Cells:
    """Norm and dropout after each convolution (T5)."""
    return (
        *for_networks(("normNet",), **fields, norm_placement="convolution"),
        *for_networks(("dropNet",), **fields, dropout_placement="convolution"),
    )


def correlations(**fields: Any) -> Cells:
    """sr3Net with the other centrings and forms of the correlation penalty (T3, T4)."""
    readings = [
        {"center": center, "decorrelation_penalty": penalty}
        for center in ("filters", "components", "none")
        for penalty in ("signed", "absolute", "squared", "local")
    ]
    return changed("sr3Net", readings[1:], **fields)  # the first is the default


def perplexity(**fields: Any) -> Cells:
    """Perplexity sparsity at both of its strengths, and L1 and L2."""
    return (
        *for_networks(("prNet",), **fields, lambda_=1.0),
        *for_networks(("vanillaNet",), **fields, l1=L1),
        *for_networks(("vanillaNet",), **fields, l2=L2),
        *for_networks(("prNet",), **fields, lambda_=0.1),
    )


def sparseout(network: str, **fields: Any) -> Cells:
    """Sparseout at all values of q except 2, which is dropout."""
    return changed(network, ({"q": q} for q in (1.0, 3.0, 1.5, 2.5)), **fields)


def scale_free(strengths: Iterable[float], **fields: Any) -> Cells:
    """sfNet at each strength, and the networks with which it is compared."""
    return (
        *for_networks(("vanillaNet", "sr2Net", "varNet"), **fields),
        *changed("sfNet", ({"lambda_": strength} for strength in strengths), **fields),
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
        *for_networks(("VGG11", "dropVGG11", "normVGG11", "srVGG11"), **fields),
        *for_networks(("prVGG11",), **fields, lambda_=1.0),
        *for_networks(("ResNet18", "srResNet18"), **fields),
        *for_networks(("prResNet18",), **fields, lambda_=1.0),
        *for_networks(("VGG11", "ResNet18"), **fields, l1=L1_ADAM),
        *for_networks(("VGG11", "ResNet18"), **fields, l2=L2_ADAM),
        *sparseout("sparseoutVGG11", **fields),
    )


def on_few_images(**fields: Any) -> dict[str, Cells]:
    """Cells on few images by grid: readings, learning rates and the other papers."""
    return {
        "readings": (
            *for_networks(("vanillaNet", "dropNet", "normNet", "sr2Net", "sr3Net", "varNet"), **fields),
            *placements(**fields),
            *correlations(**fields),
            *strengths(**fields),
            *for_networks(("sr2Net",), **fields, sparsity=AS_LARGEST_NETWORK),
            *baselines(**fields),
        ),
        "perplexity": (
            *for_networks(("vanillaNet", "dropNet", "normNet", "sr2Net"), **fields),
            *perplexity(**fields),
        ),
        "perplexity-200": (
            *for_networks(("vanillaNet",), **fields | {"epochs": 200}),
            *for_networks(("prNet",), **fields | {"epochs": 200}, lambda_=1.0),
        ),
        "sparseout": sparseout("sparseoutNet", **fields),
        "coherent": (
            *for_networks(("vanillaNet",), **fields, rho=-1.0),
            *coherent(({"l1": 1e-3}, {"l1": 3e-3}), **fields),
        ),
        "learning-rates": tuple(
            cell
            for rate in (0.003, 0.01, 0.03, 0.1)
            for cell in for_networks(("vanillaNet", "dropNet", "normNet", "sr2Net"), **fields | {"lr": rate})
        ),
    }
