"""Named grids of experiments by profile; in order of training."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sparsity_lib.study import cells
from sparsity_lib.study.cells import PAPER_NETWORKS, STUDY_NETWORKS, Cells
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.experiment import Experiment, experiment_of


@dataclass(frozen=True)
class Grid:
    """Cells (all fields of an experiment except its seed) and their seeds."""

    cells: Cells
    seeds: tuple[int, ...]
    published_seeds: tuple[int, ...]
    # Cells with these fields have a published run file, of the first published seed; None for no cell.
    with_run_file: dict[str, Any] | None = None
    deep: bool = False  # networks with many layers; curves are not joined with other grids

    def experiments_with_run_file(self) -> list[Experiment]:
        """Experiments with a published run file."""
        if self.with_run_file is None:
            return []
        cells = [cell for cell in self.cells if self.with_run_file.items() <= cell.items()]
        return [Experiment(**cell, seed=self.published_seeds[0]) for cell in cells]


@dataclass(frozen=True)
class Profile:
    """Grids on the data and at the size of one scale of the study."""

    description: str
    grids: dict[str, Grid]
    # Cells of the grid `networks` that `run PROFILE` trains if no grid is given; () for all grids.
    default_cells: Cells = ()

    def files(self) -> dict[str, str]:
        """Grid of each file of published curves, by file name."""
        return {f"{name}.nc": name for name in self.grids}


# Eq. 5 sums over positions, so that lambda is 16 times weaker on 8 x 8 digits than on the paper's 32 x 32
# images: conv layers have 16 times the paper's lambda; sr2Net is trained with the literal value too. At the
# paper's learning rate of 0.01 no network overfits in 100 epochs of 1,000 digits; at 0.1 networks do.
_DIGITS = {"dataset": "digits", "lr": 0.1}
_NOISY = {**_DIGITS, "label_noise": 0.3, "lambda_conv_scale": 16.0}
_PLAIN = {**_DIGITS, "label_noise": 0.3}  # no penalty that sums over positions
_LENETS = ("LeNet", "srLeNet")
_LAPTOP = tuple(
    cell
    for noise in (0.0, 0.3)
    for cell in (
        *cells.combinations(STUDY_NETWORKS, **_DIGITS, label_noise=noise, lambda_conv_scale=16.0),
        *cells.combinations(("sr2Net",), **_DIGITS, label_noise=noise),
    )
)
# LeNet's convolutions have 100 positions on 32 x 32 images and 4 on 16 x 16; AlexNet's have 64 and 4.
_LAPTOP_OLDER = (
    *cells.combinations(_LENETS, **_NOISY | {"lambda_conv_scale": 25.0}, size="quarter", image_size=16),
    *cells.combinations(("AlexNet", "srAlexNet"), **_NOISY, size="quarter"),
)
# Lambdas of sfNet: at the first, the gradient of the penalty after the first epoch is as long as for
# sr2Net (geometric mean over conv3, conv4 and fc1 and five seeds, to one digit); then 10 and 100 times that.
SCALE_FREE_STRENGTHS = {"digits": (4e-6, 4e-5, 4e-4), "cifar10": (1e-5, 1e-4, 1e-3)}
_ADAM = _NOISY | {"lr": None, "optimizer": "adam"}
# Cells that train in a minute: plain, with SparsityReg, and with the variance penalty.
_QUICK_CELLS = tuple(
    cell
    for cell in _LAPTOP
    if cell["network"] in ("vanillaNet", "sr2Net", "varNet") and "lambda_conv_scale" in cell
)
# Cells on the paper's data that two cores can train; registered in claims/registration.yaml before the runs.
# Not compiled, so that a machine without a compiler gives the same numbers.
_SMALL = {"dataset": "cifar100", "size": "s", "compiled": False}
_SUBSET = {"dataset": "cifar10", "limit": 2000, "held_out": 2000, "compiled": False}
_QUICK_SUBSET = {**_SUBSET, "size": "s", "lr": 0.05, "epochs": 60}

_STAND_INS = ("cifar10-jpeg", "tiny32-100")
# Minutes on a CPU: fewer images, a larger learning rate, and few held-out images.
_FEW_IMAGES = {"dataset": "cifar10-jpeg", "limit": 2000, "held_out": 2000}
_QUICK = {**_FEW_IMAGES, "size": "s", "lr": 0.05, "epochs": 60}

# Confirmatory seeds start at 100; lower ones are for exploration.
_FIVE = tuple(range(100, 105))  # a claim about a share of runs needs at least four
_TEN = tuple(range(100, 110))
_TWO, _THREE, _TEN_MORE = _FIVE[:2], _FIVE[:3], tuple(range(105, 115))


def _confirmatory(cells: Cells, seeds: tuple[int, ...] = _FIVE, **fields: Any) -> Grid:
    """Grid with all runs published."""
    return Grid(cells, seeds, seeds, **fields)


_REGISTERED = {
    "networks": _confirmatory(cells.combinations(STUDY_NETWORKS, **_SMALL), with_run_file={}),
    "lenet-alexnet": _confirmatory(
        cells.combinations(_LENETS, dataset=("cifar10", "cifar100"), size="full", compiled=False),
        with_run_file={},
    ),
    "200-epochs": _confirmatory(
        cells.combinations(("vanillaNet", "dropNet", "sr2Net", "sr3Net"), **_SMALL, epochs=200),
        _TWO,
        with_run_file={},
    ),
    "adam": _confirmatory(
        cells.combinations(PAPER_NETWORKS, **_SMALL, optimizer="adam"), _TWO, with_run_file={}
    ),
    **{
        name: _confirmatory(grid_cells, _THREE if name == "learning-rates" else _FIVE)
        for name, grid_cells in cells.on_few_images(**_QUICK_SUBSET).items()
    },
    "architectures": _confirmatory(
        cells.architectures(**_SUBSET, size="quarter", epochs=40), _THREE, deep=True
    ),
    "lenet-tiny": _confirmatory(
        cells.combinations(_LENETS, dataset="tiny-imagenet", size="full", compiled=False), with_run_file={}
    ),
    "equivalence": _confirmatory(
        cells.combinations(("sr2Net", "varNet", "dropNet", "normNet"), **_SMALL), _TEN_MORE
    ),
}
PROFILES = {
    "laptop": Profile(
        "1,000 of scikit-learn's digits, as they are and with 30 % of the labels redrawn; minutes on 2 cores",
        {
            "networks": Grid(_LAPTOP, (0,), tuple(range(100, 120)), {"label_noise": 0.3}),
            "200-epochs": Grid(cells.combinations(STUDY_NETWORKS, **_NOISY, epochs=200), (0,), _FIVE),
            "lenet-alexnet": Grid(_LAPTOP_OLDER, (0,), _FIVE),
            "adam": Grid(cells.combinations(PAPER_NETWORKS, **_ADAM), (0,), _FIVE),
            # The mean over positions (T2) is the literal sr2Net.
            "readings": Grid(cells.readings(**_NOISY), (0,), _FIVE),
            "scale-free": Grid(
                cells.scale_free(SCALE_FREE_STRENGTHS["digits"], **_NOISY),
                (0,),
                _FIVE,
                {"network": "sfNet", "lambda_": max(SCALE_FREE_STRENGTHS["digits"])},
            ),
            "perplexity": Grid(cells.perplexity(**_PLAIN), (0,), _TEN),
            "perplexity-200": Grid(
                cells.combinations(("prNet",), **_PLAIN, lambda_=1.0, epochs=200), (0,), _FIVE
            ),
            "sparseout": Grid(cells.sparseout("sparseoutNet", **_PLAIN), (0,), _TEN),
            "coherent": Grid(
                (
                    *cells.coherent(({"l1": 1e-3}, {"l1": 3e-3}), **_PLAIN),
                    *cells.combinations(("vanillaNet",), **_PLAIN, rho=-1.0),
                ),
                (0,),
                _TEN,
            ),
            "coherent-strengths": Grid(
                cells.coherent(
                    (*({"l1": l1} for l1 in (3e-4, 1e-2, 3e-2)), *({"l2": l2} for l2 in (1e-2, 1e-1, 1.0))),
                    **_PLAIN,
                ),
                (0,),
                _FIVE,
            ),
        },
        default_cells=_QUICK_CELLS,
    ),
    "desktop": Profile(
        "10,000 or 2,000 images of cifar10-jpeg, tiny32-100 and cifar10; hours on a CPU",
        {
            "networks": _confirmatory(
                cells.combinations(STUDY_NETWORKS, dataset=_STAND_INS, size="s", limit=10_000),
                with_run_file={"dataset": "cifar10-jpeg", "network": "vanillaNet"},
            ),
            # T3 to T5, strengths and baselines; the other papers and their references.
            **{
                name: _confirmatory(
                    tuple(cell for cell in grid_cells if cell.get("sparsity") != cells.AS_LARGEST_NETWORK)
                )
                for name, grid_cells in cells.on_few_images(**_QUICK).items()
                if name not in ("perplexity-200", "learning-rates")
            },
            "architectures": _confirmatory(
                cells.architectures(**_FEW_IMAGES, size="quarter", epochs=40), deep=True
            ),
            "perplexity-200": _confirmatory(cells.on_few_images(**_QUICK)["perplexity-200"]),
            "scale-free": _confirmatory(cells.scale_free(SCALE_FREE_STRENGTHS["cifar10"], **_QUICK_SUBSET)),
        },
    ),
    "registered": Profile(
        "the paper's data sets; size s and LeNet, an hour a run on one core; registered before they were run",
        _REGISTERED,
    ),
    "paper": Profile(
        "the paper's data sets, sizes and settings; a GPU",
        {
            "networks": _confirmatory(
                (
                    *cells.combinations(STUDY_NETWORKS, dataset="cifar10", size="xxl"),
                    *cells.combinations(STUDY_NETWORKS, dataset="cifar100", size=("s", "m", "xxl")),
                    *cells.combinations(STUDY_NETWORKS, dataset="tiny-imagenet", size="xxl"),
                ),
                with_run_file={},
            ),
            "200-epochs": _confirmatory(
                cells.combinations(PAPER_NETWORKS, dataset="cifar100", size="xxl", epochs=200),
                with_run_file={},
            ),
            "lenet-alexnet": _confirmatory(
                cells.combinations(
                    ("LeNet", "srLeNet", "AlexNet", "srAlexNet"),
                    dataset=("cifar10", "cifar100", "tiny-imagenet"),
                    size="full",
                ),
                with_run_file={},
            ),
            "adam": _confirmatory(
                cells.combinations(PAPER_NETWORKS, dataset="cifar100", size="xxl", optimizer="adam"),
                with_run_file={},
            ),
            "architectures": _confirmatory(cells.architectures(dataset="cifar10", size="full"), deep=True),
        },
    ),
}
PROFILES["language"] = Profile(
    "language models on two texts; minutes on 2 cores",
    # Sizes and epochs of shakespeare were chosen with seed 0, so that the network overfits without noise.
    {
        "laptop": _confirmatory(
            cells.language_models(text="python-topics", limit=50_000, epochs=20, lr=0.01), _TEN
        ),
        "desktop": _confirmatory(
            cells.language_models(text="shakespeare", limit=60_000, epochs=25, lr=0.005, hidden=128), _TEN
        ),
    },
)


def profile(name: str) -> Profile:
    """Profile of that name; `StudyError` with the known names otherwise."""
    if not isinstance(name, str) or name not in PROFILES:
        raise StudyError(f"unknown profile '{name}'; known: {', '.join(PROFILES)}")
    return PROFILES[name]


def grid(name: str, of_profile: str) -> Grid:
    """Grid of a profile; `StudyError` with its grids otherwise."""
    grids = profile(of_profile).grids
    if name not in grids:
        raise StudyError(f"the profile {of_profile} has no grid '{name}'; it has {', '.join(grids)}")
    return grids[name]


def with_grid(name: str, of_profile: str) -> str:
    """Name of the profile if it has the grid, otherwise laptop, which has all except `architectures`."""
    return of_profile if name in profile(of_profile).grids else "laptop"


def experiments(
    name: str, seeds: Iterable[int] | None = None, grids: Iterable[str] = (), published: bool = False
) -> list[Experiment]:
    """Experiments of a profile, grid by grid: every cell at the first seed, then every cell at the next one.

    An experiment of two grids occurs once. Without `grids`, experiments that are not `published` have the
    default cells of the profile. `seeds` replace the seeds of each grid.
    """
    default_cells = () if grids or published else profile(name).default_cells
    queue = []
    for grid_name in ("networks",) if default_cells else grids or profile(name).grids:
        chosen = grid(grid_name, name)
        of_cells = [experiment_of(cell) for cell in default_cells or chosen.cells]
        own = chosen.published_seeds if published else chosen.seeds
        queue += [each.model_copy(update={"seed": seed}) for seed in (seeds or own) for each in of_cells]
    return list({experiment.id: experiment for experiment in queue}.values())
