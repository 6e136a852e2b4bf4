"""Whether vanillaNet's entropies warn of overfitting, in words: by layer, and against chance."""

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd
import xarray as xr
from scipy.stats import f as f_distribution

from sparsity_lib.study.analysis import timing
from sparsity_lib.study.claims.ledger import markdown
from sparsity_lib.study.text import number


def in_words(published: Sequence[xr.Dataset], margin: float) -> str:
    """Whether the leads of vanillaNet's layers beat chance, then a table for each setting: Markdown."""
    found = timing.by_setting(published, margin)
    if found.empty:
        return "There are no published runs to look at."
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
    tables = []
    for setting, rows in found.groupby("setting", sort=False):
        runs, overfitted = rows[["runs", "overfitted"]].iloc[0]  # of every layer alike
        shown = markdown(pd.DataFrame([_row(row) for row in rows.to_dict("records")]))
        tables.append(f"**{setting}** ({overfitted} of {runs} runs overfit)\n\n{shown}")
    return "\n\n".join([told, *tables])


def _row(row: Mapping[Hashable, Any]) -> dict[str, str]:
    def told(name: str, sign: bool = False) -> str:
        return number(row[name], 1, sign) if math.isfinite(row[name]) else "none"

    known = math.isfinite(row["low"])
    return {
        "layer": row["layer"],
        "entropy falls in": str(row["changed"]),
        "leads": str(row["n"]),
        "mean lead, epochs": told("lead", sign=True),
        "95 % interval": f"{told('low', sign=True)} to {told('high', sign=True)}" if known else "none",
        "SD": told("sd"),
        "SD, others' onsets": told("sd_others"),
        "SD, constant epoch": told("sd_constant"),
    }
