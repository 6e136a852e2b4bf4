"""What was seen, in words built from the numbers, and in tables whose cells are words."""

import contextlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from sparsity_lib.study.analysis.comparison import Description, describe
from sparsity_lib.study.analysis.readings import changes
from sparsity_lib.study.analysis.readings.changes import (
    CONTENDER,
    PAPERS_LAMBDA,
    QUANTITIES,
    REFERENCE,
    strengths,
)
from sparsity_lib.study.analysis.readings.filters import correlations, largest_at_least
from sparsity_lib.study.analysis.readings.outcomes import WITHOUT_FC1, measured
from sparsity_lib.study.analysis.summary import OnsetRule
from sparsity_lib.study.claims.ledger import UNITS, criterion_words, side
from sparsity_lib.study.claims.verdicts import OURS, Judgement
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.runs.file import Run
from sparsity_lib.study.sentences import difference, direction, listed, number

_RESPONSES = {
    "chosen_accuracy": "accuracy at the chosen epoch",
    "last_val_loss": "last validation loss",
    "entropy_end": "entropy at the end, in shares of ln D",
}
_DIRECTIONS = {1: "higher", -1: "lower", 0: "no clear difference"}


def cell(told: Description, decimals: int = 3) -> str:
    """A table's cell: the mean with its 95 % interval."""
    if told.n < 2:
        return number(told.mean, decimals, sign=True) if told.n else ""
    return f"{number(told.mean, decimals, sign=True)} ({_interval(told, decimals)})"


def _columns(told: Description, decimals: int, mean: str = "mean") -> dict[str, object]:
    # one run has no spread
    several = told.n > 1
    return {
        "n": told.n,
        mean: number(told.mean, decimals, sign=True) if told.n else "",
        "SD": number(told.sd, decimals) if several else "",
        "95 % interval": _interval(told, decimals) if several else "",
    }


def _interval(told: Description, decimals: int) -> str:
    return f"{number(told.low, decimals, sign=True)} to {number(told.high, decimals, sign=True)}"


def provenance(table: pd.DataFrame) -> str:
    """By which code the unchanged and the changed runs were trained, and how many there are."""
    if table.empty:
        raise StudyError("there are no runs of these readings: none are published, and no seeds were given")
    parts = []
    for name, mine in (
        ("unchanged", table[table["change"] == ""]),
        ("changed", table[table["change"] != ""]),
    ):
        made_by = ", ".join(sorted(mine["numerics"].unique()))
        seeds = mine["seed"].nunique()
        of = f"{seeds} seed{'s' if seeds > 1 else ''}; code {made_by}"
        parts.append(f"{len(mine)} {name} runs ({of})" if len(mine) else f"no {name} runs")
    codes = table["numerics"]
    note = (
        "All were trained by the same code."
        if codes.nunique() == 1
        else "So the two runs of a pair can come from two "
        "versions of the code: alike at the start, they may drift apart by rounding."
    )
    return f"{' and '.join(parts)}. {note}"


def training(experiments: Sequence[Experiment]) -> str:
    """On how many images, for how many epochs, and at which learning rates these train."""
    images = sorted({experiment.limit or 0 for experiment in experiments})
    epochs = sorted({experiment.epochs for experiment in experiments})
    rates = listed([f"{lr:g}" for lr in sorted({experiment.learning_rate() for experiment in experiments})])
    return (
        f"Trained on {listed([f'{n:,}' if n else 'all' for n in images])} images, for "
        f"{listed([str(n) for n in epochs])} epochs, at a learning rate of {rates}."
    )


def unit_variance(found: pd.DataFrame) -> pd.DataFrame:
    """`readings.unit_variance` as a table of words."""
    rows = [
        {
            "network": row.label,
            "layer": row.layer,
            "n": row.entropy.n,
            "entropy (nats)": cell(row.entropy),
            "at unit variance (nats)": cell(row.scale_free_entropy),
            "share of the fall": _share(row.share),
        }
        for row in found.itertuples()
    ]
    return pd.DataFrame(rows).set_index(["network", "layer"])


def at_unit_variance(found: pd.DataFrame) -> list[str]:
    """One sentence per network: how far entropy falls, and what of the fall is there at unit variance."""
    sentences = []
    for label, rows in found.groupby("label", sort=False):
        parts = [
            f"in {row.layer} by {number(-row.entropy.mean)} nats, of which {_share(row.share)} remains at "
            "unit variance"
            for row in rows[rows["share"].notna()].itertuples()
        ]
        told = f"falls {'; '.join(parts)}" if parts else "does not clearly fall in any of these layers"
        sentences.append(f"{label}: from the best epoch to the end, entropy {told}.")
    return sentences


def _share(share: float) -> str:
    if np.isnan(share):
        return ""
    return f"{number(100 * share, 0)} %" if share > 0 else "nothing"


def responses(table: pd.DataFrame) -> list[str]:
    """One sentence per strength of SparsityReg, against vanillaNet by seed; and one on sr2 without fc1."""
    sentences, mine = [], strengths(table)
    table = table[table["seed"].isin(mine["seed"])]
    for strength, runs in mine.groupby("strength"):
        change = runs["change"].iloc[0]
        mark = ", the paper's" if strength == PAPERS_LAMBDA else ""
        sentences.append(f"λ = {strength:g}{mark}, against vanillaNet: {_all(table, change, 'vanillaNet')}.")
    if (table["change"] == WITHOUT_FC1).any():
        sentences.append(f"sr2Net without fc1, against sr2Net: {_all(table, WITHOUT_FC1, 'sr2Net')}.")
    return sentences


def _all(table: pd.DataFrame, change: str, against: str) -> str:
    parts = []
    for quantity, words in _RESPONSES.items():
        pairs = measured(table, "sr2Net", change, quantity) - measured(table, against, "", quantity)
        parts.append(f"{words} {difference(describe(pairs.dropna()))}" if len(pairs) else f"{words} no pairs")
    return "; ".join(parts)


def tuned(found: pd.DataFrame) -> pd.DataFrame:
    """`readings.tuned` as a table of words."""
    rows = [
        {
            "tuned": row.family,
            "strength": f"{row.strength:g}",
            **_columns(row.difference, 4, "mean difference"),
            "chosen": "chosen" if row.chosen else "",
        }
        for row in found.itertuples()
    ]
    return pd.DataFrame(rows).set_index(["tuned", "strength"])


def contenders(table: pd.DataFrame, found: pd.DataFrame, quantity: str = "chosen_accuracy") -> list[str]:
    """One sentence per family at the strength chosen for it: against vanillaNet, and against SparsityReg."""
    chosen = found[found["chosen"]].set_index("family")
    sentences = [
        f"{family} {row['strength']:g} against vanillaNet: {difference(row['difference'])}."
        for family, row in chosen.iterrows()
    ]
    if CONTENDER not in chosen.index:
        return sentences
    ours = chosen.loc[CONTENDER]
    cells = [measured(table, row.network, row.change, quantity) for row in found.itertuples()]
    seeds = set.intersection(*(set(cell.index) for cell in cells))  # those with which all were tuned
    for family, row in chosen.drop(CONTENDER).iterrows():
        theirs = measured(table, row["network"], row["change"], quantity)
        pairs = theirs - measured(table, ours["network"], ours["change"], quantity)
        sentences.append(
            f"{family} {row['strength']:g} against SparsityReg {ours['strength']:g}: "
            f"{difference(describe(pairs[pairs.index.isin(seeds)]))}."
        )
    return sentences


def effects(found: pd.DataFrame) -> pd.DataFrame:
    """`readings.effects` as a table of words."""
    rows = [
        {
            "reading": row.reading,
            "network": row.network,
            "of": {"chosen_accuracy": "accuracy", "entropy_drop": "drop of entropy"}[row.quantity],
            **_columns(row.difference, 3),
        }
        for row in found.itertuples()
    ]
    return pd.DataFrame(rows).set_index(["reading", "network", "of"])


def statements(found: pd.DataFrame) -> list[str]:
    """How many statements are the same in both readings, and one sentence for each that does not."""
    turned = found[found["direction_usual"] != found["direction_changed"]]
    sentences = [
        f"{len(found) - len(turned)} of {len(found)} statements (a network against its reference, for each "
        "reading and quantity) are the same by our reading and by the changed one."
    ]
    for row in turned.itertuples():
        sentences.append(
            f"{row.reading}: {row.network} against {REFERENCE[row.network]}, {QUANTITIES[row.quantity]}: "
            f"{_DIRECTIONS[row.direction_usual]} by our reading, {cell(row.usual)}; "
            f"{_DIRECTIONS[row.direction_changed]} by this one, {cell(row.changed)}; n = {row.changed.n}."
        )
    return sentences


def onsets(found: pd.DataFrame) -> pd.DataFrame:
    """`readings.onsets` as a table of words: in how many runs, and the median epoch."""
    table = found.assign(
        told=[
            f"{row.found} of {row.n}" + (f" ({row.median:.0f})" if row.found else "")
            for row in found.itertuples()
        ],
    )
    return table.pivot(index="rule", columns="label", values="told").loc[
        list(dict.fromkeys(table["rule"])), list(dict.fromkeys(table["label"]))
    ]


def onsets_agree(found: pd.DataFrame) -> list[str]:
    """One sentence per network: in how many runs some rule, and every rule, finds a moment of overfitting."""
    sentences = []
    for label, rows in found.groupby("label", sort=False):
        low, high, n = rows["found"].min(), rows["found"].max(), rows["n"].iloc[0]
        told = f"{low}" if low == high else f"{low} to {high}"  # by the mildest and the strictest rule
        first, last = rows["median"].min(), rows["median"].max()
        when = "" if np.isnan(first) else f"; the median moment is between epochs {first:.0f} and {last:.0f}"
        sentences.append(
            f"{label}: by one rule or another, a moment of overfitting is found in {told} of {n} runs{when}."
        )
    return sentences


def judged_by_rule(found: Sequence[Mapping[OnsetRule, Judgement]]) -> list[str]:
    """How many outcomes of `readings.judged_by_rule` turn by another rule, and a sentence for each number."""
    turned: dict[str, list[Mapping[OnsetRule, Judgement]]] = {}  # by what is measured, of which runs
    still: dict[str, tuple[float, str]] = {}
    for each in found:
        what = f"{criterion_words(each[OURS].test)} ({each[OURS].cell.title})"
        if len({judged.direction for judged in each.values()}) > 1:
            turned.setdefault(what, []).append(each)
        elif each[OURS].test.kind == "share":
            shares = [judged.effect.mean for judged in each.values()]
            still[what] = max(shares) - min(shares), f"{what}, {_range(each)}"
    moved = [each[OURS].claim for those in turned.values() for each in those]
    primary = sum(claim.primary for claim in moved)
    sentences = [
        f"Of {len(found)} outcomes that rest on the rule (a claim on one set of runs), "
        f"{len(moved) or 'none'} come out in more than one way; of the "
        f"{sum(each[OURS].claim.primary for each in found)} of primary claims {primary or 'none'}."
    ]
    for what, those in turned.items():
        outcomes = "; ".join(_outcomes(each) for each in those)
        sentences.append(f"{what[0].upper()}{what[1:]}: {_range(those[0])}. {outcomes}.")
    if still and max(still.values())[0]:
        sentences.append(f"A count can move and its outcome stay: most of all {max(still.values())[1]}.")
    return sentences


def _range(each: Mapping[OnsetRule, Judgement]) -> str:
    # of the effect: by our rule, and by all
    ours = each[OURS]
    if ours.test.kind == "share":
        counts = [round(judged.effect.mean * judged.effect.n) for judged in each.values()]
        hits = round(ours.effect.mean * ours.effect.n)
        return f"{hits} by our rule, {min(counts)} to {max(counts)} by all, of {ours.effect.n} runs"
    unit, decimals = UNITS[ours.test.margin_of]
    known = sorted(judged.effect.mean for judged in each.values() if judged.effect.n)  # a lead may have none
    low, high = (number(value, decimals, sign=True) for value in (known[0], known[-1]))
    mean = number(ours.effect.mean, decimals, sign=True) if ours.effect.n else "no value"
    some = f"{len(known)} rules" if len(known) < len(each) else "all"
    return f"{mean} by our rule, {low} to {high}{unit} by {some}"


def _outcomes(each: Mapping[OnsetRule, Judgement]) -> str:
    ours = each[OURS]
    others: dict[str, list[OnsetRule]] = {}
    for rule, judged in each.items():
        if judged.direction != ours.direction:
            others.setdefault(_outcome(judged), []).append(rule)
    told = ", ".join(f"{outcome} by {_rules(those)}" for outcome, those in others.items())
    decides = " (which decides its row of the ledger)" if ours.decides else ""
    return f"“{ours.claim.claim.rstrip('.')}”: {_outcome(ours)} by ours{decides}, {told}"


def _outcome(judged: Judgement) -> str:
    return side(judged) if judged.cell.kind == "laptop" else judged.direction


def _rules(rules: Sequence[OnsetRule]) -> str:
    # those of one threshold together
    widths: dict[str, list[str]] = {}
    for rule in rules:
        widths.setdefault(rule.asks, []).append(f"{rule.smoothing:g}")
    return " and by ".join(f"{asks} with σ = {listed(those)}" for asks, those in widths.items())


def overfitting(table: pd.DataFrame) -> pd.DataFrame:
    """In how many runs of each changed cell validation loss gets worse for good, with the median epoch."""
    changed = table[table["change"] != ""]
    if changed.empty:
        raise StudyError("there are no runs that change anything")
    rows = []
    for (change, network), runs in changed.groupby(["change", "network"], sort=False):
        found = runs["onset_loss"].dropna()
        told = f"{len(found)} of {len(runs)}" + (f" ({found.median():.0f})" if len(found) else "")
        rows.append({"changed": change, "network": network, "moment of overfitting": told})
    return pd.DataFrame(rows).set_index(["changed", "network"])


def summary(table: pd.DataFrame, moments: pd.DataFrame, files: Sequence[Run]) -> list[str]:
    """The page in a few sentences; what was not trained is left out."""
    parts = (
        lambda: at_unit_variance(changes.unit_variance(table[table["network"] == "vanillaNet"])),
        lambda: [clear_strengths(table, quantity) for quantity in _RESPONSES],
        lambda: contenders(table, changes.tuned(table)),
        lambda: statements(changes.statements(table))[:1],
        lambda: onsets_agree(moments),
        lambda: nearest_to_none(correlations(table), files),
    )
    sentences: list[str] = []
    for part in parts:
        with contextlib.suppress(StudyError):
            sentences += part()
    return sentences


def clear_strengths(table: pd.DataFrame, quantity: str) -> str:
    """At which strengths of SparsityReg a quantity is clearly above or below vanillaNet's.

    Raises `StudyError` where no strength has two seeds, of which alone it could be said.
    """
    plain = measured(table, "vanillaNet", "", quantity)
    against = {
        strength: describe((runs.set_index("seed")[quantity] - plain).dropna())
        for strength, runs in strengths(table).groupby("strength")
    }
    sides = {strength: direction(told) for strength, told in against.items() if told.n > 1}
    if not sides:
        raise StudyError("to be clear a difference needs two seeds")
    parts = [
        f"{words} at λ = {', '.join(f'{strength:g}' for strength in at)}"
        for side, words in _DIRECTIONS.items()
        if (at := [strength for strength, told in sides.items() if told == side])
    ]
    return f"sr2Net against vanillaNet, {_RESPONSES[quantity]}: {'; '.join(parts)}."


def alike(descents: pd.DataFrame) -> pd.DataFrame:
    """The share of pairs that are as good as copies after each descent of `readings.descents`."""
    table = descents.assign(alike=[f"{100 * share:.1f} %" for share in descents["alike"]])
    shown = table.pivot(index=["filters", "center"], columns="penalty", values="alike")
    kinds, centers, penalties = (list(dict.fromkeys(table[c])) for c in ("filters", "center", "penalty"))
    return shown.loc[[(kind, center) for kind in kinds for center in centers], penalties]


def nearest_to_none(table: pd.DataFrame, files: Sequence[Run]) -> list[str]:
    """By two centres: the reading of DecorrReg that leaves conv1 the least correlated.

    `files`: runs of the same architecture, for the filters' shape, which says what a low mean |c| costs.
    """
    sentences = []
    for center, words in (("filters", "the mean filter"), ("components", "each filter's own mean")):
        cells_of = table.groupby(["network", "change"])[f"correlation:{center}"]
        means, counts = cells_of.mean(), cells_of.count()
        cells = means.loc[["sr3Net"]].dropna().sort_values()
        least = cells.index[0]
        said = (
            f"With {words} taken away, mean |c| in conv1 is least ({number(cells.iloc[0], 3)}, "
            f"n = {counts[least]}) by {least[1] or 'the printed reading'}"
        )
        if counts.get(("vanillaNet", ""), 0):
            plain = ("vanillaNet", "")
            said += f"; in vanillaNet it is {number(means[plain], 3)} (n = {counts[plain]})"
        if files and (largest := largest_at_least(cells.iloc[0], files[0], center)) > cells.iloc[0]:
            said += f". So low a mean needs a pair with |c| of at least {number(largest)}"
        sentences.append(f"{said}.")
    return sentences
