"""What the runs say about each claim: effect, direction and magnitude, by the rules of its ledger."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import xarray as xr

from sparsity_lib.study.analysis import summary as analysis
from sparsity_lib.study.analysis import timing
from sparsity_lib.study.analysis.comparison import Description, describe, prediction_interval
from sparsity_lib.study.analysis.significance import ALPHA, detectable, direction, holm, p_value, wilson
from sparsity_lib.study.analysis.summary import OnsetRule
from sparsity_lib.study.claims import (
    Cell,
    Claim,
    Criterion,
    Ledger,
    laptop_cell,
    needed,
    papers_value,
    planned,
)
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.profiles import SEVEN
from sparsity_lib.study.runs.results import diverged

OURS = OnsetRule()


@dataclass(frozen=True)
class Judgement:
    """A claim in one cell. Numbers are NaN where there are too few runs to tell.

    - `missing`: planned runs that are not published; a cell with any gives no direction.
    - `left_out`: planned runs whose loss became infinite or NaN; their pairs are left out with them.
    - `effect`: n, mean, SD, 95 % interval (of a share: Wilson's) and how many runs or pairs have no value.
    - `margin`: within which a difference is none; infinite for shares.
    - `p`: two-sided, or of two one-sided tests where no difference is expected; `holm`: corrected, of a
        primary claim's deciding cell, whose direction before that is `uncorrected`.
    - `chance`: of leads, the SD of those by the two rules that know nothing of the run.
    - `rise`: of a share of runs that overfit, the mean rise of all runs' validation loss, nats.
    - `direction`: supported, opposite, negligible, inconclusive, or not run.
    - `papers`: the paper's value; `predicted`: where one more run or pair falls with 95 % probability.
    - `decides`: whether it is the claim's first cell that was run.
    """

    claim: Claim
    cell: Cell
    missing: tuple[Experiment, ...]
    effect: Description
    direction: str
    margin: float = math.nan
    p: float = math.nan
    holm: float = math.nan
    left_out: int = 0
    uncorrected: str = ""
    chance: tuple[float, float] = (math.nan, math.nan)
    rise: float = math.nan
    papers: float | None = None
    predicted: tuple[float, float] = (math.nan, math.nan)
    decides: bool = False
    runs: "Runs | None" = field(default=None, repr=False, compare=False)  # by which it was judged

    @property
    def test(self) -> Criterion:
        """The claim's, which all that are judged have."""
        assert self.claim.test is not None
        return self.claim.test

    @cached_property
    def smallest(self) -> float:
        """The effect that n runs show with 80 % power, from the SD pooled over the cell's networks."""
        return math.nan if self.runs is None else _smallest(self, self.runs)

    @property
    def magnitude(self) -> str:
        """Whether the paper's value is one that our runs could have given; blank where it cannot be said."""
        if self.papers is None or self.direction == "not run" or self.cell.kind not in ("direct", "close"):
            return ""
        low, high = self.predicted
        if not math.isfinite(high - low):
            return ""
        return "inside" if low <= self.papers <= high else "outside"

    @property
    def smaller(self) -> bool:
        """Whether the cell's network is of none of the sizes that the paper's claim is about."""
        sizes = self._papers_sizes
        return self.cell.kind == "conceptual" and bool(sizes) and self.cell.size not in sizes

    @property
    def _papers_sizes(self) -> set[str | None]:
        return {cell.size for cell in self.claim.cells if cell.kind == "direct"}

    @property
    def verdict(self) -> str:
        """On the paper's claim: supported or contradicted, on what; blank where nothing was decided."""
        if self.direction == "not run" or self.cell.kind == "laptop":
            return ""
        if self.direction == "inconclusive":
            return "inconclusive"
        if self.cell.kind == "conceptual":
            told = "seen" if self.direction == "supported" else "not seen"
            told += f" on {self.cell.title}"
            if self.smaller:
                return f"{told}, a smaller network than the claim is about"
            sizes = len(self._papers_sizes)
            return f"{told}, one of its {sizes} sizes" if sizes > 1 else told
        told = "supported" if self.direction == "supported" else "contradicted"
        return f"{told} on {self.cell.dataset}"


def judge_all(ledger: Ledger, published: Sequence[xr.Dataset], rule: OnsetRule = OURS) -> list[Judgement]:
    """Each claim in each cell of which there are published runs, or once as not run in its first cell.

    `published` are the curves of the judged profiles (`claims.JUDGED`). Verdicts are those by our `rule` for
    the moment of overfitting; another shows what hangs on it. Primary claims' deciding cells get Holm's
    correction over all primary claims; one not run counts as passed over.
    """
    judged: list[Judgement] = []
    runs = Runs(published, ledger, rule)
    for claim in ledger.claims:
        if claim.test is None:
            continue
        found = [judge(claim, cell, runs) for cell in claim.cells]
        first = next((i for i, each in enumerate(found) if each.direction != "not run"), None)
        if first is not None:
            found[first] = replace(found[first], decides=True)
        with_runs = [each for each in found if each.effect.n or each.direction != "not run"]
        judged += with_runs or [_likeliest(found)]
    return _corrected(judged, sum(claim.primary for claim in ledger.claims))


def on_the_laptop(ledger: Ledger, published: xr.Dataset | None, rule: OnsetRule = OURS) -> list[Judgement]:
    """The same quantities on the laptop's noisy digits, which show the mechanism and decide nothing."""
    cells = [(claim, laptop_cell(claim)) for claim in ledger.claims]
    runs = Runs([] if published is None else [published], ledger, rule)
    return [judge(claim, cell, runs) for claim, cell in cells if cell is not None]


class Runs:
    """Published runs, curves of one profile each, and what a ledger's claims ask of them: looked up once."""

    def __init__(self, published: Sequence[xr.Dataset], ledger: Ledger, rule: OnsetRule = OURS) -> None:
        self.ledger = ledger
        self.rule = rule
        self.diverged = {run for curves in published for run in diverged(curves)}
        self._published = published
        self._of: dict[frozenset[str], xr.Dataset | None] = {}
        self._values: dict[tuple[frozenset[str], Criterion], xr.DataArray] = {}

    def of(self, those: Sequence[Experiment]) -> xr.Dataset | None:
        """Those of the experiments that are published, by seed; None for none."""
        wanted = frozenset(experiment.id for experiment in those)
        if wanted not in self._of:
            self._of[wanted] = self._found(wanted)
        return self._of[wanted]

    def _found(self, wanted: frozenset[str]) -> xr.Dataset | None:
        for curves in self._published:
            here = curves["run"].isin(list(wanted))
            if here.any():
                return curves.isel(run=here.to_numpy()).sortby("seed")
        return None

    def values(self, test: Criterion, those: Sequence[Experiment]) -> xr.DataArray:
        """(seed): the test's quantity in those runs, of which there must be some."""
        curves = self.of(those)
        assert curves is not None, "there are none of these runs"
        asked = test.model_copy(update={"network": "", "expected": 0})  # whose it is, and what is hoped for
        if test.kind in ("value", "difference", "sizes"):  # of one network they ask the same
            asked = asked.model_copy(update={"kind": "value", "against": ()})
        key = frozenset(curves["run"].to_numpy().tolist()), asked
        if key not in self._values:
            self._values[key] = _of_runs(test, curves, self)
        return self._values[key]


def judge(claim: Claim, cell: Cell, runs: Runs) -> Judgement:
    """The claim in one cell; "not run" unless all of its planned runs are there."""
    test = claim.test
    assert test is not None, "only claims with a test are judged"
    wanted = needed(test, cell)
    found = {name: runs.of(those) for name, those in wanted.items()}
    absent = [e for name, those in wanted.items() for e in those if e.id not in _ids(found[name])]
    missing = [e for e in absent if e.id not in runs.diverged]
    left_out = len(absent) - len(missing)
    nothing = Description(0, math.nan, math.nan, math.nan, math.nan, 0)
    there = [each for each in found.values() if each is not None]
    if len(there) < len(found) or any(_lacks(test, each) for each in there):
        return Judgement(claim, cell, tuple(missing), nothing, "not run", left_out=left_out)
    margin, complete = runs.ledger.margin(test), not missing
    values = _values(test, wanted, runs)
    effect = _describe_share(values) if test.kind == "share" else describe(values)
    known = values[np.isfinite(values)]
    judged = Judgement(
        claim,
        cell,
        tuple(missing),
        effect,
        direction(test, known, margin) if complete else "not run",
        margin=margin,
        p=p_value(test, known, margin),
        left_out=left_out,
        chance=_chance(test, there[0], runs),
        rise=float(_rise(there[0], runs.rule).mean()) if test.kind == "share" else math.nan,
        runs=runs,
    )
    if (papers := papers_value(test, cell)) is not None:
        best = _values(test.model_copy(update={"quantity": "best_accuracy"}), wanted, runs)
        judged = replace(judged, papers=papers, predicted=prediction_interval(best))
    return judged


def _corrected(judged: list[Judgement], family: int) -> list[Judgement]:
    primary = [i for i, each in enumerate(judged) if each.claim.primary and each.decides]
    for i, p in zip(primary, holm([judged[i].p for i in primary], family), strict=True):
        before = judged[i].direction
        # "Negligible", where a difference was expected, has a test of its own, which this p is not of.
        if before in ("supported", "opposite"):
            kept = before if p < ALPHA else "inconclusive"
            judged[i] = replace(judged[i], holm=p, direction=kept, uncorrected=before)
    return judged


def _likeliest(found: Sequence[Judgement]) -> Judgement:
    # Of what was not run: the cell that a profile plans, else the first.
    return next((each for each in found if each.missing), found[0])


def _ids(curves: xr.Dataset | None) -> set[str]:
    return set() if curves is None else set(curves["run"].to_numpy())


def _values(test: Criterion, wanted: Mapping[str, Sequence[Experiment]], runs: Runs) -> np.ndarray:
    """One value a run, or a pair of runs with the same seed."""
    first, *other = (runs.values(test, those) for those in wanted.values())
    if not other:
        return first.to_numpy().astype(float)
    both = xr.align(first, other[0], join="inner")
    return (both[0] - both[1]).to_numpy().astype(float)


def _of_runs(test: Criterion, curves: xr.Dataset, runs: Runs) -> xr.DataArray:
    """(seed): the test's quantity in each run."""
    if test.kind == "lead":
        values = timing.lead(_onset(curves, runs.rule), _changed(test, curves, runs.ledger))
    elif test.kind in ("change", "layers"):
        values = _change(test, curves, test.layer, runs.rule)
        if test.kind == "layers":
            values = values - _change(test, curves, tuple(test.against), runs.rule)
    else:
        values = _quantity(test.quantity, curves, test.layer, runs.rule)
        if test.kind == "share":
            values = values.notnull().astype(float)
    return values.reset_coords(drop=True).assign_coords(run=curves["seed"].to_numpy()).rename(run="seed")


def _lacks(test: Criterion, curves: xr.Dataset) -> bool:
    """Whether the runs were published by a version that did not keep the test's quantity."""
    if test.quantity != "correlation":
        return False
    return "correlation" not in curves or bool(
        curves["correlation"].sel(layer=list(test.layer)).isnull().all()
    )


def _chance(test: Criterion, curves: xr.Dataset, runs: Runs) -> tuple[float, float]:
    if test.kind != "lead":
        return math.nan, math.nan
    found = timing.lead_by_chance(_onset(curves, runs.rule), _changed(test, curves, runs.ledger))
    return timing.sd(found["others"]), timing.sd(found["constant"])


def _changed(test: Criterion, curves: xr.Dataset, ledger: Ledger) -> xr.DataArray:
    """(run): the change-point of the test's quantity."""
    rises = test.quantity == timing.PERPLEXITY
    margin = timing.RISE if rises else float(ledger.rules["margins"]["entropy"])
    return timing.change_point(curves, test.layer, margin, test.quantity)


def _change(test: Criterion, curves: xr.Dataset, layers: tuple[str, ...], rule: OnsetRule) -> xr.DataArray:
    if test.quantity == "correlation":
        return _quantity("correlation", curves, layers, rule)
    if test.since is None:
        return _quantity(f"{test.quantity}_change", curves, layers, rule)
    values = timing.of_layers(curves, test.quantity, layers)
    last = curves["epochs"] - 1
    return _at(values, last if test.until == "last" else test.until) - _at(values, test.since)


def _at(values: xr.DataArray, epoch: object) -> xr.DataArray:
    return values.sel(epoch=epoch).drop_vars("epoch")


def _quantity(name: str, curves: xr.Dataset, layers: tuple[str, ...], rule: OnsetRule) -> xr.DataArray:
    """(run): one of the ledger's quantities."""
    if name in _OF_A_RUN:
        return _OF_A_RUN[name](curves, rule)
    if name == "correlation":
        found = curves["correlation"].sel(center="components", layer=list(layers))
        return _at(found.mean("layer", skipna=False), curves["epochs"] - 1)
    quantity, _, moment = name.rpartition("_")
    values = timing.of_layers(curves, quantity, layers)
    end = _at(values, curves["epochs"] - 1)
    return end if moment == "end" else end - _at(values, _best(curves, rule))


def _best(curves: xr.Dataset, rule: OnsetRule) -> xr.DataArray:
    return analysis.best_epoch(curves, smoothing=rule.smoothing)


def _onset(curves: xr.Dataset, rule: OnsetRule) -> xr.DataArray:
    return analysis.moment_of_overfitting(curves, **rule._asdict())


def _rise(curves: xr.Dataset, rule: OnsetRule) -> xr.DataArray:
    rise = analysis.smoothed(analysis.trained(curves)["val_loss_rise"], rule.smoothing)
    return _at(rise, _best(curves, rule))


_OF_A_RUN: dict[str, Callable[[xr.Dataset, OnsetRule], xr.DataArray]] = {
    "accuracy": lambda curves, _: analysis.chosen_accuracy(curves),
    "best_accuracy": lambda curves, _: analysis.best_accuracy(curves),
    "val_loss_rise": _rise,
    "min_val_loss": lambda curves, _: analysis.trained(curves)["val_loss"].min("epoch"),
    "onset_loss": _onset,
}


def _smallest(judged: Judgement, runs: Runs) -> float:
    # For pairs, as if their runs were independent.
    test, cell = judged.test, judged.cell
    if test.kind == "share":
        return math.nan
    squares, freedom = 0.0, 0
    for label in _pooled(test, cell, runs.ledger):
        those = planned(label, cell)
        there = runs.of(those)
        if there is None or any(layer not in there["layer"] for layer in test.layer):
            continue
        told = describe(runs.values(test, those))
        if told.n > 1:
            squares, freedom = squares + told.sd**2 * (told.n - 1), freedom + told.n - 1
    if not freedom:
        return math.nan
    paired = test.kind in ("difference", "sizes")
    return detectable(math.sqrt(squares / freedom) * (math.sqrt(2) if paired else 1), judged.effect.n)


def _pooled(test: Criterion, cell: Cell, ledger: Ledger) -> list[str]:
    """The labels of the cell's networks: the paper's, if it is of them, and those of the ledger's claims."""
    if cell.size is None:
        return [*test.networks]  # a cell in name alone: each architecture has a size of its own
    tests = [
        claim.test for claim in ledger.claims if claim.test and cell in (*claim.cells, laptop_cell(claim))
    ]
    labels = dict.fromkeys(name for each in (test, *tests) for name in each.networks)
    return [*(dict.fromkeys(SEVEN) | labels if any(name in SEVEN for name in labels) else labels)]


def _describe_share(values: np.ndarray) -> Description:
    return Description(len(values), float(values.mean()), math.nan, *wilson(values), 0)
