"""Whether vanillaNet's entropies warn of overfitting, in words: by layer, and against chance."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd
import xarray as xr
from scipy.stats import f as f_distribution

from sparsity_lib.study import timing
from sparsity_lib.study.ledger import markdown
from sparsity_lib.study.sentences import number


def in_words(published: Sequence[xr.Dataset], margin: float) -> str:
    """The leads of vanillaNet's layers as a Markdown table, and a sentence on whether they beat chance."""
    found = timing.by_setting(published, margin)
    if found.empty:
        return "There are no published runs to look at."
    rows = pd.DataFrame([_row(row) for row in found.to_dict("records")])
    known = found[found["n"] > 2]
    better = known[(known["sd"] < known["sd_others"]) & (known["sd"] < known["sd_constant"])]
    told = (
        f"In {len(better)} of {len(known)} rows with three leads or more the lead varies less than by both "
        "rules of chance."
    )
    if len(known):
        n = int(known["n"].max())
        factor = math.sqrt(f_distribution.ppf(0.975, n - 1, n - 1))
        together = known[known["layer"].str.contains(",")]
        ways = ((together["low"] > 0).sum(), (together["high"] < 0).sum())
        told += (
            f" Over the layers that are targeted, the lead's interval lies above zero in {ways[0]} of "
            f"{len(together)} settings, below it (entropy is late) in {ways[1]}."
        )
        told += (
            f" SDs of so few leads are rough: of two groups of {n} that vary alike, one has an SD up to "
            f"{factor:.1f} times the other's in 95 % of cases; and rows of one setting share its onsets."
        )
    earliest = timing.BASELINE + timing.PATIENCE - 1
    told += (
        f" No change-point can come before epoch {earliest}, so a run that overfits from epoch k on can be "
        f"warned of at most k − {earliest} epochs ahead."
    )
    return f"{markdown(rows)}\n\n{told}"


def _row(row: Mapping[Hashable, Any]) -> dict[str, str]:
    def told(name: str) -> str:
        return number(row[name], 1) if math.isfinite(row[name]) else "none"

    interval = ""
    if math.isfinite(row["low"]):
        interval = f", {number(row['low'], 1, sign=True)} to {number(row['high'], 1, sign=True)}"
    lead = f"{number(row['lead'], 1, sign=True)}{interval} (n = {row['n']})" if row["n"] else "none"
    return {
        "setting": row["setting"],
        "layer": row["layer"],
        "runs": str(row["runs"]),
        "entropy falls": str(row["changed"]),
        "overfit": str(row["overfitted"]),
        "lead in epochs, 95 % interval": lead,
        "SD": told("sd"),
        "SD, others' onsets": told("sd_others"),
        "SD, constant epoch": told("sd_constant"),
    }
