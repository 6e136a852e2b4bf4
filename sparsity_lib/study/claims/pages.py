"""The table of claims on the pages of the scorecard and of the pilot, as HTML."""

import html

import pandas as pd

from sparsity_lib.study.text import with_interval

EFFECT = "effect [interval]"


def claims_table(table: pd.DataFrame, columns: list[str]) -> str:
    """HTML of one row per claim and cell: the claim with its id, primary claims in bold, then `columns`.

    `table` has `id`, `claim` and `primary`, the numbers `effect`, `low` and `high`, of which the column
    EFFECT is made, and the other columns. Numbers that are NaN are blank.
    """
    effects = table[["effect", "low", "high"]].itertuples(index=False)
    shown = table.assign(**{EFFECT: [with_interval(*each) for each in effects]})[columns]
    shown = shown.astype(str).map(html.escape)
    shown = shown.replace(r"^(\d+) of (\d+)$", r"\1&nbsp;of&nbsp;\2", regex=True)  # on one line
    bold = {True: "<strong>{}</strong>", False: "{}"}
    named = [
        f"{bold[primary].format(html.escape(claim))} <code>{name}</code>"
        for claim, name, primary in zip(table["claim"], table["id"], table["primary"], strict=True)
    ]
    shown.insert(0, "claim", named)
    return shown.to_html(index=False, escape=False, classes="claims")
