"""The study's named grids of experiments, by profile, each a queue in the order in which it is trained."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.recipes import TARGETED

SIX = ("vanillaNet", "dropNet", "normNet", "sr1Net", "sr2Net", "sr3Net")  # TSR, Table 2
SEVEN = (*SIX, "varNet")
# L1 and L2 as regularisers. They shrink by lr times so much a step, and Adam's lr is a fiftieth of SGD's.
L1, L2 = 1e-3, 1e-2
L1_ADAM, L2_ADAM = 5e-2, 5e-1

GRIDS = {
    "networks": "the networks of the paper's Table 2, and varNet",
    "200-epochs": "the same for 200 epochs (section 4.2)",
    "lenet-alexnet": "LeNet and AlexNet, with and without SparsityReg (Table 3)",
    "adam": "the six networks with Adam (Table 2)",
    "readings": "the readings T1 to T7, strengths of penalties, tuned baselines",
    "perplexity": "a penalty on perplexity sparsity and other regularisers (arXiv 2104.06153)",
    "perplexity-200": "the same penalty for 200 epochs",
    "sparseout": "Sparseout in dropout's place, over q (arXiv 1904.08050)",
    "coherent": "strong L1 always on, delayed, and while gradients cohere (arXiv 1811.08056)",
    "coherent-strengths": "the same over more strengths of L1, and of L2",
    "architectures": "VGG-11 and ResNet-18 with the regularisers of both",
    "learning-rates": "vanillaNet, dropNet, normNet and sr2Net over learning rates",
    "lenet-tiny": "LeNet on Tiny ImageNet (Table 3)",
    "equivalence": "sr2Net, varNet, dropNet and normNet with ten more seeds",
}


@dataclass(frozen=True)
class Grid:
    """Cells (all fields of an experiment but its seed), and the seeds each is trained with."""

    cells: tuple[dict[str, Any], ...]
    seeds: tuple[int, ...]
    published_seeds: tuple[int, ...]
    trained: int | None = None  # so many of its first cells are trained with `seeds`; None is all
    # Cells with these fields: the first published seed's run file is published too; None is no cell.
    shown: dict[str, Any] | None = None
    deep: bool = False  # networks of many layers: their curves are joined with no other grid's

    def cells_for(self, seeds: object) -> tuple[dict[str, Any], ...]:
        """The cells that are trained with these seeds; those of its own, where none are given."""
        return self.cells if seeds else self.cells[: self.trained]

    def shown_experiments(self) -> list[Experiment]:
        """The experiments whose run files are published."""
        if self.shown is None:
            return []
        cells = [cell for cell in self.cells if self.shown.items() <= cell.items()]
        return [Experiment(**cell, seed=self.published_seeds[0]) for cell in cells]


@dataclass(frozen=True)
class Profile:
    """Where the study's grids are run: on what data, at what size."""

    what: str
    grids: dict[str, Grid]

    def files(self) -> dict[str, str]:
        """The names of the files of its published curves, and the grid in each."""
        return {f"{name}.nc": name for name in self.grids}


def _cells(networks: Iterable[str], **fields: Any) -> tuple[dict[str, Any], ...]:
    return tuple({"network": network, **fields} for network in networks)


def _readings(**fields: Any) -> tuple[dict[str, Any], ...]:
    """One cell for each thing that is changed, everything else as in the networks' grid."""
    sr2: tuple[dict[str, Any], ...] = (
        {"include_bias": False},  # T1
        {"activation": "after"},  # T1
        {"init": "pytorch"},  # T6
        {"input_scaling": "standardize"},  # T7
    )
    vanilla: tuple[dict[str, Any], ...] = ({"init": "pytorch"}, {"input_scaling": "standardize"})
    return (
        *_strengths(**fields),
        *(cell for change in sr2 for cell in _cells(("sr2Net",), **fields | change)),
        *(cell for change in vanilla for cell in _cells(("vanillaNet",), **fields | change)),
        *_baselines(**fields),
        *_placements(**fields),
        *_correlations(**fields),
    )


def _strengths(**fields: Any) -> tuple[dict[str, Any], ...]:
    """sr2Net at lambdas other than the paper's, and at the paper's without fc1."""
    conv_scale = fields.get("lambda_conv_scale", 1.0)

    def targeted(strength: float, layers: Iterable[str] = TARGETED) -> dict[str, float]:
        return {layer: strength * (conv_scale if layer.startswith("conv") else 1.0) for layer in layers}

    changes = [targeted(strength) for strength in (1e-5, 1e-4, 1e-2, 1e-1)]
    changes.append(targeted(1e-3, TARGETED[:-1]))
    return tuple(cell for change in changes for cell in _cells(("sr2Net",), **fields, sparsity=change))


def _baselines(**fields: Any) -> tuple[dict[str, Any], ...]:
    """Older regularisers, each at strengths of which one may suit it best."""
    decays: tuple[dict[str, Any], ...] = tuple({"weight_decay": decay} for decay in (1e-4, 1e-3, 1e-2))
    smoothings = tuple({"label_smoothing": share} for share in (0.05, 0.1, 0.2))
    return (
        *(cell for change in (*decays, *smoothings) for cell in _cells(("vanillaNet",), **fields | change)),
        *(cell for rate in (0.1, 0.5) for cell in _cells(("dropNet",), **fields, dropout=rate)),
    )


def _placements(**fields: Any) -> tuple[dict[str, Any], ...]:  # T5
    return (
        *_cells(("normNet",), **fields, norm_placement="convolution"),
        *_cells(("dropNet",), **fields, dropout_placement="convolution"),
    )


def _correlations(**fields: Any) -> tuple[dict[str, Any], ...]:  # T3 x T4
    return tuple(
        cell
        for center in ("filters", "components", "none")
        for penalty in ("signed", "absolute", "squared", "local")
        if (center, penalty) != ("filters", "signed")  # sr3Net itself
        for cell in _cells(("sr3Net",), **fields, center=center, decorrelation_penalty=penalty)
    )


def _perplexity(**fields: Any) -> tuple[dict[str, Any], ...]:
    """The penalty at both of its strengths, and L1 and L2; dropout, norm and SparsityReg are networks."""
    return (
        *_cells(("prNet",), **fields, lambda_=1.0),
        *_cells(("vanillaNet",), **fields, l1=L1),
        *_cells(("vanillaNet",), **fields, l2=L2),
        *_cells(("prNet",), **fields, lambda_=0.1),
    )


def _sparseout(network: str, **fields: Any) -> tuple[dict[str, Any], ...]:
    """All values of q but 2, which is dropout."""
    return tuple(cell for q in (1.0, 3.0, 1.5, 2.5) for cell in _cells((network,), **fields, q=q))


def _coherent(strengths: Iterable[dict[str, float]], **fields: Any) -> tuple[dict[str, Any], ...]:
    """Each strength always on, while gradients cohere, and delayed by a fifth of the training."""
    ways: tuple[dict[str, Any], ...] = ({}, {"rho": 0.0}, {"delay": fields.get("epochs", 100) // 5})
    return tuple(
        {"network": "vanillaNet", "rho": -1.0, **fields, **strength, **way}
        for way in ways
        for strength in strengths
    )


def _architectures(**fields: Any) -> tuple[dict[str, Any], ...]:
    """VGG-11 and ResNet-18, by Adam: without norms and by plain SGD, VGG-11 hardly begins to learn."""
    fields = {"optimizer": "adam", **fields}
    return (
        *_cells(("VGG11", "dropVGG11", "normVGG11", "srVGG11"), **fields),
        *_cells(("prVGG11",), **fields, lambda_=1.0),
        *_cells(("ResNet18", "srResNet18"), **fields),
        *_cells(("prResNet18",), **fields, lambda_=1.0),
        *(cell for network in ("VGG11", "ResNet18") for cell in _cells((network,), **fields, l1=L1_ADAM)),
        *(cell for network in ("VGG11", "ResNet18") for cell in _cells((network,), **fields, l2=L2_ADAM)),
        *_sparseout("sparseoutVGG11", **fields),
    )


# Eq. 5 sums over positions, so lambda is 16 times weaker on 8 x 8 digits than on the paper's 32 x 32
# images: conv layers get 16 times the paper's, and sr2Net's literal value is trained too. At the
# paper's learning rate of 0.01 nothing overfits in 100 epochs of 1,000 digits; at 0.1 it does.
_DIGITS = {"dataset": "digits", "lr": 0.1}
_NOISY = {**_DIGITS, "label_noise": 0.3, "lambda_conv_scale": 16.0}
_PLAIN = {**_DIGITS, "label_noise": 0.3}  # no penalty that sums over positions
_LAPTOP = tuple(
    cell
    for noise in (0.0, 0.3)
    for cell in (
        *_cells(SEVEN, **_DIGITS, label_noise=noise, lambda_conv_scale=16.0),
        *_cells(("sr2Net",), **_DIGITS, label_noise=noise),
    )
)
# LeNet's convolutions have 100 positions on 32 x 32 images where it has 4 on 16 x 16; AlexNet's 64 and 4.
_LAPTOP_OLDER = (
    *_cells(("LeNet", "srLeNet"), **_NOISY | {"lambda_conv_scale": 25.0}, size="quarter", image_size=16),
    *_cells(("AlexNet", "srAlexNet"), **_NOISY, size="quarter"),
)
# On the paper's own data, of what two cores can do: registered in claims/registration.yaml before the runs.
# Interpreted, so that a machine without a compiler makes the same numbers.
_SMALL = {"dataset": "cifar100", "size": "s", "compiled": False}
_LENETS = ("LeNet", "srLeNet")
_SUBSET = {"dataset": "cifar10", "limit": 2000, "held_out": 2000, "compiled": False}
_QUICK_SUBSET = {**_SUBSET, "size": "s", "lr": 0.05, "epochs": 60}

_STAND_INS = ("cifar10-jpeg", "tiny32-100")
# For minutes on a CPU: fewer images, a larger step, and a validation that costs no more than training.
_FEW_IMAGES = {"dataset": "cifar10-jpeg", "limit": 2000, "held_out": 2000}
_QUICK = {**_FEW_IMAGES, "size": "s", "lr": 0.05, "epochs": 60}

# Confirmatory seeds start at 100; seeds below are for trying things.
_FEW = tuple(range(100, 105))  # fewer than four cannot decide a claim about a share of runs
_TEN = tuple(range(100, 110))


def _on_the_subset(**fields: Any) -> dict[str, tuple[dict[str, Any], ...]]:
    """Cells on a few images: the readings, the learning rates and the other papers."""
    return {
        "readings": (
            *_cells(("vanillaNet", "dropNet", "normNet", "sr2Net", "sr3Net", "varNet"), **fields),
            *_placements(**fields),
            *_correlations(**fields),
            *_strengths(**fields),
            # 1.8 times lambda on 16 to 64 channels is the lambda R ln D of the largest network.
            *_cells(("sr2Net",), **fields, sparsity=dict.fromkeys(TARGETED, 1.8e-3)),
            *_baselines(**fields),
        ),
        "perplexity": (
            *_cells(("vanillaNet", "dropNet", "normNet", "sr2Net"), **fields),
            *_perplexity(**fields),
        ),
        "perplexity-200": (
            *_cells(("vanillaNet",), **fields | {"epochs": 200}),
            *_cells(("prNet",), **fields | {"epochs": 200}, lambda_=1.0),
        ),
        "sparseout": _sparseout("sparseoutNet", **fields),
        "coherent": (
            *_cells(("vanillaNet",), **fields, rho=-1.0),
            *_coherent(({"l1": 1e-3}, {"l1": 3e-3}), **fields),
        ),
        "learning-rates": tuple(
            cell
            for rate in (0.003, 0.01, 0.03, 0.1)
            for cell in _cells(("vanillaNet", "dropNet", "normNet", "sr2Net"), **fields | {"lr": rate})
        ),
    }


def _registered(cells: tuple[dict[str, Any], ...], seeds: tuple[int, ...] = _FEW, **fields: Any) -> Grid:
    return Grid(cells, seeds, seeds, **fields)


_THREE, _TWO, _TEN_MORE = _FEW[:3], _FEW[:2], tuple(range(105, 115))
_REGISTERED = {
    "networks": _registered(_cells(SEVEN, **_SMALL), shown={}),
    "lenet-alexnet": _registered(
        tuple(
            cell
            for dataset in ("cifar10", "cifar100")
            for cell in _cells(_LENETS, dataset=dataset, size="full", compiled=False)
        ),
        shown={},
    ),
    "200-epochs": _registered(
        _cells(("vanillaNet", "dropNet", "sr2Net", "sr3Net"), **_SMALL, epochs=200), _TWO, shown={}
    ),
    "adam": _registered(_cells(SIX, **_SMALL, optimizer="adam"), _TWO, shown={}),
    **{
        name: _registered(cells, _THREE if name == "learning-rates" else _FEW)
        for name, cells in _on_the_subset(**_QUICK_SUBSET).items()
    },
    "architectures": _registered(_architectures(**_SUBSET, size="quarter", epochs=40), _THREE, deep=True),
    "lenet-tiny": _registered(
        _cells(_LENETS, dataset="tiny-imagenet", size="full", compiled=False), shown={}
    ),
    "equivalence": _registered(_cells(("sr2Net", "varNet", "dropNet", "normNet"), **_SMALL), _TEN_MORE),
}
PROFILES = {
    "laptop": Profile(
        "1,000 of scikit-learn's digits, as they are and with 30 % of the labels redrawn; minutes on 2 cores",
        {
            "networks": Grid(_LAPTOP, (0, 1), tuple(range(100, 120)), shown={"label_noise": 0.3}),
            "200-epochs": Grid(_cells(SEVEN, **_NOISY, epochs=200), (0,), _FEW),
            "lenet-alexnet": Grid(_LAPTOP_OLDER, (0,), _FEW),
            "adam": Grid(_cells(SIX, **_NOISY | {"lr": None}, optimizer="adam"), (0,), _FEW),
            # None fresh: so many cells would take minutes. T2's mean over positions is the literal sr2Net.
            "readings": Grid(_readings(**_NOISY), (), _FEW),
            "perplexity": Grid(_perplexity(**_PLAIN), (0,), _TEN, trained=3),
            "perplexity-200": Grid(_cells(("prNet",), **_PLAIN, lambda_=1.0, epochs=200), (), _FEW),
            "sparseout": Grid(_sparseout("sparseoutNet", **_PLAIN), (0,), _TEN, trained=2),
            "coherent": Grid(
                (
                    *_coherent(({"l1": 1e-3}, {"l1": 3e-3}), **_PLAIN),
                    *_cells(("vanillaNet",), **_PLAIN, rho=-1.0),
                ),
                (0,),
                _TEN,
                trained=4,  # without the delay, and what is not regularised
            ),
            "coherent-strengths": Grid(
                _coherent(
                    (*({"l1": l1} for l1 in (3e-4, 1e-2, 3e-2)), *({"l2": l2} for l2 in (1e-2, 1e-1, 1.0))),
                    **_PLAIN,
                ),
                (),
                _FEW,
            ),
        },
    ),
    "desktop": Profile(
        "10,000 or 2,000 images of cifar10-jpeg and tiny32-100; hours on a CPU (size s), minutes on a GPU",
        {
            "networks": Grid(
                tuple(
                    cell
                    for size in ("s", "m")
                    for dataset in _STAND_INS
                    for cell in _cells(SEVEN, dataset=dataset, size=size, limit=10_000)
                ),
                _FEW,
                _FEW,
                shown={"dataset": "cifar10-jpeg", "size": "s"},
            ),
            # T3 to T5, strengths and baselines; and the other papers, with what they are compared with.
            "readings": Grid(
                (
                    *_cells(("vanillaNet", "dropNet", "normNet", "sr2Net", "sr3Net", "varNet"), **_QUICK),
                    *_placements(**_QUICK),
                    *_correlations(**_QUICK),
                    *_strengths(**_QUICK),
                    *_baselines(**_QUICK),
                ),
                _FEW,
                _FEW,
            ),
            "perplexity": Grid(
                (*_cells(("vanillaNet", "dropNet", "normNet", "sr2Net"), **_QUICK), *_perplexity(**_QUICK)),
                _FEW,
                _FEW,
            ),
            "sparseout": Grid(_sparseout("sparseoutNet", **_QUICK), _FEW, _FEW),
            "coherent": Grid(
                (
                    *_cells(("vanillaNet",), **_QUICK, rho=-1.0),
                    *_coherent(({"l1": 1e-3}, {"l1": 3e-3}), **_QUICK),
                ),
                _FEW,
                _FEW,
            ),
            "architectures": Grid(
                _architectures(**_FEW_IMAGES, size="quarter", epochs=40),
                _FEW,
                _FEW,
                deep=True,
            ),
            "perplexity-200": Grid(
                (
                    *_cells(("vanillaNet",), **_QUICK | {"epochs": 200}),
                    *_cells(("prNet",), **_QUICK | {"epochs": 200}, lambda_=1.0),
                ),
                _FEW,
                _FEW,
            ),
        },
    ),
    "registered": Profile(
        "the paper's data sets; size s and LeNet, an hour a run on one core; registered before they were run",
        _REGISTERED,
    ),
    "paper": Profile(
        "the paper's data sets, sizes and settings; a GPU",
        {
            "networks": Grid(
                (
                    # First what needs no download: a stand-in for CIFAR-10.
                    *_cells(SEVEN, dataset="cifar10-jpeg", size="xxl"),
                    *_cells(SEVEN, dataset="cifar10", size="xxl"),
                    *(
                        cell
                        for size in ("s", "m", "xxl")
                        for cell in _cells(SEVEN, dataset="cifar100", size=size)
                    ),
                    *_cells(SEVEN, dataset="tiny-imagenet", size="xxl"),
                ),
                _FEW,
                _FEW,
                shown={},
            ),
            "200-epochs": Grid(_cells(SIX, dataset="cifar100", size="xxl", epochs=200), _FEW, _FEW, shown={}),
            "lenet-alexnet": Grid(
                tuple(
                    cell
                    for dataset in ("cifar10-jpeg", "cifar10", "cifar100", "tiny-imagenet")
                    for cell in _cells(
                        ("LeNet", "srLeNet", "AlexNet", "srAlexNet"), dataset=dataset, size="full"
                    )
                ),
                _FEW,
                _FEW,
                shown={},
            ),
            "adam": Grid(
                _cells(SIX, dataset="cifar100", size="xxl", optimizer="adam"),
                _FEW,
                _FEW,
                shown={},
            ),
            "architectures": Grid(_architectures(dataset="cifar10-jpeg", size="full"), _FEW, _FEW, deep=True),
        },
    ),
}


def profile(name: str) -> Profile:
    """The profile of that name; `StudyError` naming the known ones otherwise."""
    if not isinstance(name, str) or name not in PROFILES:
        raise StudyError(f"unknown profile '{name}'; known: {', '.join(PROFILES)}")
    return PROFILES[name]


def grid(name: str, of_profile: str) -> Grid:
    """A profile's grid; `StudyError` naming those it has otherwise."""
    there = profile(of_profile).grids
    if name not in there:
        raise StudyError(f"the profile {of_profile} has no grid '{name}'; it has {', '.join(there)}")
    return there[name]


def with_grid(name: str, of_profile: str) -> str:
    """The profile, if it has a grid of that name; else the laptop, which has all but `architectures`."""
    return of_profile if name in profile(of_profile).grids else "laptop"


def experiments(
    name: str, seeds: Iterable[int] | None = None, grids: Iterable[str] = (), published: bool = False
) -> list[Experiment]:
    """The profile's queue, grid by grid: every cell at the first seed, then every cell at the next.

    What two grids have is there once. `grids` (none: all) narrows it; `seeds` are in place of each grid's
    own, or of its `published` ones.
    """
    queue = []
    for each in grids or profile(name).grids:
        chosen = grid(each, name)
        cells = [Experiment(**cell) for cell in chosen.cells_for(seeds or published)]
        own = chosen.published_seeds if published else chosen.seeds
        queue += [cell.model_copy(update={"seed": seed}) for seed in (seeds or own) for cell in cells]
    return list({experiment.id: experiment for experiment in queue}.values())
