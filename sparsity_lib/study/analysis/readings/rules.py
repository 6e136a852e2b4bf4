"""What hangs on the rule by which a moment of overfitting is found (T10), of which runs know nothing."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd
import xarray as xr

from sparsity_lib.study.analysis.summary import OnsetRule, labels, moment_of_overfitting, only
from sparsity_lib.study.claims import Criterion, Ledger
from sparsity_lib.study.claims.verdicts import OURS, Judgement
from sparsity_lib.study.errors import StudyError

Published = TypeVar("Published")

RULES = tuple(
    OnsetRule(smoothing, threshold)
    for threshold in ("bootstrap", 0.02)
    for smoothing in (0.0, 1.0, 2.0, 4.0)  # epochs
)


def onsets(curves: xr.Dataset | None, runs: Sequence[str]) -> pd.DataFrame:
    """In how many of these runs a moment of overfitting is found, by label and rule.

    **Returns:** one row per label and `rule` (its title): `n` runs, `found`, and the `median` moment of
    those.
    """
    if curves is None or not runs:
        raise StudyError("there are no runs in which to look for a moment of overfitting")
    curves = only(curves, run=list(runs))
    rows = []
    for rule in RULES:
        moments = moment_of_overfitting(curves, **rule._asdict())
        for label in labels(curves):
            mine = moments.to_numpy()[(curves["label"] == label).to_numpy()]
            found = mine[np.isfinite(mine)]
            rows.append(
                {"label": label, "rule": rule.title, "n": len(mine), "found": len(found)}
                | {"median": np.median(found) if len(found) else np.nan}
            )
    return pd.DataFrame(rows)


def judged_by_rule(
    ledgers: Sequence[Ledger],
    judge: Callable[[Ledger, Published, OnsetRule], Sequence[Judgement]],
    published: Published,
) -> list[dict[OnsetRule, Judgement]]:
    """Of each claim that rests on the rule, in each cell with all of its runs: its judgement by every rule.

    `judge` is `verdicts.judge_all` or `verdicts.on_the_laptop`, `published` what that takes. Raises
    `StudyError` where no cell is complete.
    """
    found = []
    for ledger in ledgers:
        # Primary claims stay, whose p values are corrected together.
        kept = [claim for claim in ledger.claims if claim.primary or (claim.test and rests_on(claim.test))]
        asked = ledger.model_copy(update={"claims": tuple(kept)})
        by_rule = {rule: {(j.claim.id, j.cell): j for j in judge(asked, published, rule)} for rule in RULES}
        for key, ours in by_rule[OURS].items():
            if ours.direction != "not run" and rests_on(ours.test):
                found.append({rule: judged[key] for rule, judged in by_rule.items()})
    if not found:
        raise StudyError("no claim that rests on the moment of overfitting has all of its runs")
    return found


def rests_on(test: Criterion) -> bool:
    """Whether a rule can change the test's values: it moves the lowest loss's epoch, too."""
    if test.kind in ("change", "layers"):
        return test.since is None and test.quantity != "correlation"
    return test.kind == "lead" or test.quantity in ("val_loss_rise", "onset_loss", "entropy_change")
