"""Tables on the pages of the scorecard and of the pilot, as HTML."""

import html

import pandas as pd

from sparsity_lib.study.text import with_interval

EFFECT = "effect [interval]"


def claims_table(table: pd.DataFrame, columns: list[str]) -> str:
    """HTML table with one row per claim and cell: the claim with its id, primary ones in bold, and `columns`.

    `table` has `id`, `claim`, `primary`, the other columns, and `effect`, `low` and `high`, which the column
    EFFECT shows. NaN is blank.
    """
    effects = table[["effect", "low", "high"]].itertuples(index=False)
    shown = table.assign(**{EFFECT: [with_interval(*each) for each in effects]})[columns]
    shown = shown.astype(str).map(html.escape)
    shown = shown.replace(r"^(\d+) of (\d+)$", r"\1&nbsp;of&nbsp;\2", regex=True)  # on one line
    claim = table["claim"].map(html.escape)
    claim = claim.mask(table["primary"], "<strong>" + claim + "</strong>")
    shown.insert(0, "claim", claim + " <code>" + table["id"] + "</code>")
    return shown.to_html(index=False, escape=False, classes="claims")


def folded(table: str, summary: str) -> str:
    """HTML of a table that opens by a click on its summary."""
    return f"<details><summary>{html.escape(summary)}</summary>{table}</details>"


def with_unrun_folded(table: pd.DataFrame, columns: list[str]) -> str:
    """`claims_table` of the cells with finished runs, and below it, folded, the cells without."""
    unrun = table["runs"].str.startswith("0 of ")
    shown = "" if unrun.all() else claims_table(table[~unrun], columns)
    if not unrun.any():
        return shown
    return shown + folded(claims_table(table[unrun], columns), f"Without a run: {unrun.sum()}")
