"""The judged claims in words: a table with a row for each, and what held, what did not, what is unknown."""

import math
from collections.abc import Sequence

import pandas as pd
import xarray as xr

from sparsity_lib.study.claims import (
    Claim,
    Criterion,
    Ledger,
    committed_before,
    judging,
    needed,
    papers_value,
)
from sparsity_lib.study.claims.verdicts import Judgement
from sparsity_lib.study.sentences import provenance
from sparsity_lib.study.text import number

UNITS = {
    "accuracy": ("", 3),
    "loss": (" nats", 2),
    "entropy": (" of ln D", 3),
    "correlation": ("", 3),
    "sparsity": ("", 3),
    "epochs": (" epochs", 1),
}


QUANTITIES = {
    "accuracy": "accuracy at the chosen epoch",
    "val_loss_rise": "rise of the validation loss",
    "min_val_loss": "lowest validation loss",
    "onset_loss": "moment of overfitting",
    "entropy": "entropy",
    "scale_free_entropy": "scale-free entropy",
    "entropy_end": "entropy at the end",
    "entropy_change": "change of entropy from the lowest validation loss to the end",
    "correlation": "mean |c| of filters, each less its own mean",
    "perplexity_sparsity": "perplexity sparsity",
    "perplexity_sparsity_end": "perplexity sparsity at the end",
}


def table(judged: Sequence[Judgement], mechanism: Sequence[Judgement]) -> pd.DataFrame:
    """One row per claim, as Markdown: the claim, the paper's numbers, ours in each cell, the outcome.

    The cell that decides comes first, cells beside it after it, and last the laptop's, which is no verdict.
    """
    by_claim: dict[str, list[Judgement]] = {}
    for each in [*sorted(judged, key=lambda j: not j.decides), *mechanism]:
        by_claim.setdefault(each.claim.id, []).append(each)
    order = dict.fromkeys(each.claim.id for each in judged)
    return pd.DataFrame([_row(by_claim[name]) for name in order])


def _row(cells: Sequence[Judgement]) -> dict[str, str]:
    first, claim = cells[0], cells[0].claim
    return {
        "claim": f"{'**Primary.** ' if claim.primary else ''}{claim.claim} *({claim.where})* <br> "
        f"Tested: {criterion_words(first.test)}.",
        "the paper": papers_words(claim),
        "ours": " <br> ".join(filter(None, (ours_words(cells), waiting_words(cells)))),
        "outcome": outcome_words(first),
    }


def ours_words(cells: Sequence[Judgement]) -> str:
    """The effect in each cell, a line each, and its direction where a complete cell does not decide."""
    lines = []
    for each in cells:
        beside = f"; {each.direction}, beside the cell that decides" if _beside(each) else ""
        lines.append(f"**{_place(each)}**: {effect_words(each)}{beside}")
    return " <br> ".join(lines)


def _beside(judged: Judgement) -> bool:
    return judged.direction != "not run" and not judged.decides and judged.cell.kind != "laptop"


def waiting_words(cells: Sequence[Judgement]) -> str:
    """The cells with the paper's own images and sizes that have no runs, which alone could contradict it."""
    there = {each.cell for each in cells}
    absent = [cell for cell in cells[0].claim.cells if cell not in there]
    kinds = {kind: "; ".join(c.title for c in absent if c.kind == kind) for kind in ("direct", "close")}
    told = ", and ".join(f"{names} ({kind})" for kind, names in kinds.items() if names)
    return f"not run, left to a GPU: {told}" if told else ""


def outcome_words(judged: Judgement) -> str:
    """Direction, magnitude and verdict, a line each."""
    verdict = f"**{judged.verdict}**" if judged.verdict else ""
    return " <br> ".join(filter(None, (direction_words(judged), magnitude_words(judged), verdict)))


def _place(judged: Judgement) -> str:
    if judged.cell.kind != "laptop":
        return f"{judged.cell.title} ({judged.cell.kind})"
    return f"{judged.cell.title} (no verdict; {_laptops_settings([judged])})"


def _laptops_settings(judged: Sequence[Judgement]) -> str:
    # what differs from the paper's in these cells' runs, besides the images
    runs = [run for each in judged for those in needed(each.test, each.cell).values() for run in those]
    noise = {run.label_noise for run in runs}
    scales = {run.lambda_conv_scale for run in runs if run.strengths()["sparsity"]} - {1.0}
    told = [f"{100 * share:g} % of labels redrawn" for share in sorted(noise) if share]
    times = " or ".join(f"{scale:g}" for scale in sorted(scales))
    return "; ".join([*told, *([f"λ of conv layers times {times}"] if times else [])])


def untested(ledger: Ledger) -> list[Claim]:
    """The claims of which the paper gives nothing that could be compared."""
    return [claim for claim in ledger.claims if claim.test is None]


def criterion_words(test: Criterion) -> str:
    """What is compared with what; a claim may say more."""
    quantity = QUANTITIES[test.quantity]
    layers = f" in {', '.join(test.layer)}" if test.layer else ""
    if test.kind == "difference":
        return f"{quantity}{layers}, {test.network} less {test.against}"
    if test.kind == "sizes":
        return f"{quantity}, {test.network} less itself at the next smaller size"
    if test.kind == "share":
        return f"how many runs of {test.network} have a {quantity}"
    if test.kind == "lead":
        return f"moment of overfitting less change-point of {quantity}{layers}, {test.network}: any lead"
    if test.kind == "value":
        return f"{quantity} of {test.network}"
    since = "the lowest validation loss" if test.since is None else f"epoch {test.since}"
    until = test.until if isinstance(test.until, int) else "the end"
    told = f"{quantity}{layers} of {test.network}"
    told += f" from {since} to {until}" if test.quantity != "correlation" else " at the end"
    return f"{told}, less that in {', '.join(test.against)}" if test.kind == "layers" else told


def papers_words(claim: Claim) -> str:
    """The paper's numbers, and whether the claim holds in them."""
    numbers = claim.paper.replace("-0", "−0") or "No number"
    return f"{numbers}. <br> Whether it holds there: {claim.holds}."


def effect_words(judged: Judgement) -> str:
    """Effect, interval, n, SD and the smallest effect that n runs could have shown."""
    test, told = judged.test, judged.effect
    if not told.n:
        return f"none of {told.missing} runs has a value" if told.missing else "no published runs"
    if test.kind == "share":
        hits = round(told.mean * told.n)
        words = f"{hits} of {told.n} runs, 95 % interval {told.low:.2f} to {told.high:.2f}"
        return f"{words}; mean rise of the loss {number(judged.rise, 2, sign=True)} nats"
    unit, decimals = UNITS[test.margin_of]
    words = f"{number(told.mean, decimals, sign=True)}{unit}"
    if told.n > 1:
        low, high = number(told.low, decimals, sign=True), number(told.high, decimals, sign=True)
        words += f", 95 % interval {low} to {high}, SD {number(told.sd, decimals)}"
    if told.low > judged.margin or told.high < -judged.margin:
        words += f", all of it beyond the margin of {judged.margin:g}"
    words += f", n = {told.n}"
    if told.missing:
        words += f" ({told.missing} without a value)"
    if math.isfinite(judged.chance[0]):
        others, constant = (number(value, decimals) for value in judged.chance)
        words += f"; by chance SD {others} (others' onsets) and {constant} (one constant epoch)"
    if judged.left_out:
        words += f"; {judged.left_out} diverged and left out"
    if math.isfinite(judged.smallest):
        words += f"; smallest effect to be seen {number(judged.smallest, decimals)}"
    return words


def direction_words(judged: Judgement) -> str:
    """The direction; of what was not run, what it would take."""
    if judged.direction != "not run":
        if not judged.uncorrected:
            return judged.direction
        before = f"; {judged.uncorrected} before it" if judged.direction != judged.uncorrected else ""
        return f"{judged.direction} (p = {judged.holm:.2g}, Holm{before})"
    if not judged.missing:
        return "not run: no profile plans it"
    there = f"interim; {judged.effect.n} so far, " if judged.effect.n else ""
    where = "left to a GPU" if judged.cell.kind in ("direct", "close") else "`status` tells their cost"
    many = len(judged.missing)
    return f"not run: {there}{many} run{'s' if many > 1 else ''} missing; {where}"


def magnitude_words(judged: Judgement) -> str:
    """The paper's value against our prediction interval."""
    if not judged.magnitude:
        return ""
    low, high = (number(value, 3, sign=True) for value in judged.predicted)
    return f"paper's {number(judged.papers or 0.0, 4, sign=True)} {judged.magnitude} {low} to {high}"


def magnitudes(judged: Sequence[Judgement]) -> str:
    """In how many of the decided rows the magnitude is judged too, in a sentence."""
    decided = [each for each in judged if each.decides]
    told = sum(bool(each.magnitude) for each in decided)
    return (
        f"Of {len(decided)} claims with complete runs, {told or 'none'} are judged in magnitude: that takes "
        "the paper's networks on its images, and a number in the paper."
    )


def side(judged: Judgement) -> str:
    """Where the interval lies, as words that are no verdict."""
    words = {
        "supported": "where the claim has it",
        "opposite": "on the other side",
        "negligible": "within the margin",
        "inconclusive": "across",
        "not run": "nowhere yet",
    }
    return words[judged.direction]


def outcome(judged: Sequence[Judgement], mechanism: Sequence[Judgement]) -> str:
    """What held of the primary claims, what did not, what is unknown, and what the laptop shows: Markdown.

    The laptop's part is no verdict. Direct and close cells count as the paper's; those that were judged on
    smaller networks or fewer images are counted apart.
    """
    deciding = {j.claim.id: j for j in sorted(judged, key=lambda j: j.decides) if j.claim.primary}
    heads = {"held": "What held", "not": "What did not", "unknown": "What is unknown"}
    found: dict[str, list[Judgement]] = {key: [] for key in heads}
    for each in deciding.values():
        key = {"supported": "held", "opposite": "not", "negligible": "not"}.get(each.direction, "unknown")
        found[key].append(each)
    lines = []
    for key, those in found.items():
        told = f"{len(those)} of {len(deciding)} primary claims"
        smaller = sum(each.cell.kind == "conceptual" for each in those if each.direction != "not run")
        if smaller:
            told += f", {smaller} of them on smaller networks or fewer images than the paper's"
        if untouched := those and all(each.direction == "not run" and not each.effect.n for each in those):
            told += "; not one of them was run"
        lines += [f"- **{heads[key]}**: {told}."]
        if not untouched:
            lines += [
                f"  - {e.claim.claim} ({_why(e)}) Tested: {criterion_words(e.test)}.{_elsewhere(e, judged)}"
                for e in those
            ]
    return "\n".join([*lines, *_on_the_laptop(mechanism)])


def _on_the_laptop(mechanism: Sequence[Judgement]) -> list[str]:
    by_side: dict[str, list[str]] = {}
    for each in mechanism:
        if each.claim.primary and each.effect.n:
            by_side.setdefault(side(each), []).append(each.claim.claim)
    if not by_side:
        return ["- **On the laptop's digits**, which give no verdict, nothing is published yet."]
    primary = [each for each in mechanism if each.claim.primary]
    lines = [
        f"- **On the laptop's digits** ({_laptops_settings(primary)}), which give no verdict, the effect lies"
    ]
    return [*lines, *(f"  - {where}: {' '.join(claims)}" for where, claims in by_side.items())]


def _elsewhere(deciding: Judgement, judged: Sequence[Judgement]) -> str:
    # what the claim's other complete cells say, which decide nothing
    others = [each for each in judged if each.claim.id == deciding.claim.id and _beside(each)]
    return "".join(f" On {each.cell.title}, which decides nothing: {each.direction}." for each in others)


def _why(judged: Judgement) -> str:
    if judged.direction == "not run":
        return f"interim, {judged.effect.n} so far" if judged.effect.n else "not run"
    told = judged.verdict or judged.direction
    if judged.uncorrected == "opposite" and not judged.test.expected:
        # By the committed rule p is that of no difference, so a difference cannot come out as one.
        unit, decimals = UNITS[judged.test.margin_of]
        low, high = (number(x, decimals, sign=True) for x in (judged.effect.low, judged.effect.high))
        told += f": the test of no difference can only pass or not, and did not; the interval, {low} to "
        told += f"{high}{unit}, is of a difference"
    elif judged.uncorrected not in ("", judged.direction):
        told += f"; the interval by itself: {judged.uncorrected}"
    return f"{told}; ours, not the paper's" if judged.claim.where.startswith("ours") else told


def papers_values(claim: Claim) -> dict[str, float]:
    """The paper's values of a claim about accuracies in its own cells, by data set and size."""
    test = claim.test
    if test is None:
        return {}
    direct = [cell for cell in claim.cells if cell.kind == "direct"]
    values = {cell.title: papers_value(test, cell) for cell in direct}
    return {title: value for title, value in values.items() if value is not None}


def order_of_commits(ledger: Ledger, published: Sequence[xr.Dataset]) -> str:
    """Whether the commit of each run that judges has the ledger's last change, in a sentence."""
    wanted = list(judging(ledger))
    here = [curves["commit"][curves["run"].isin(wanted).to_numpy()] for curves in published]
    commits = [str(commit) for of_part in here for commit in of_part.to_numpy()]
    if not commits:
        return f"No run that judges them is published yet; `{ledger.file}` is committed already."
    after = committed_before(set(commits), ledger.file)
    late = sum(after[commit] is True for commit in commits)
    unknown = sum(after[commit] is None for commit in commits)
    told = (
        f"{late} of the {len(commits)} published runs that judge them come from a commit that has "
        f"`{ledger.file}` as it is"
    )
    return f"{told}; of {unknown} the history here cannot tell." if unknown else f"{told}."


def made_by(ledger: Ledger, published: Sequence[xr.Dataset]) -> str:
    """By which numerical code the runs that judge were made, in a sentence; blank for none."""
    wanted = list(judging(ledger))
    parts = [part.isel(run=part["run"].isin(wanted).to_numpy())[["numerics"]] for part in published]
    there = [part for part in parts if part.sizes["run"]]
    return provenance(xr.concat(there, "run")) if there else ""


def rules_in_words(ledger: Ledger, beside: Ledger | None = None) -> str:
    """The rules as a Markdown list, as they stand in the ledger; only those that another's are not."""
    lines = []
    for name, rule in ledger.rules.items():
        if beside and rule == beside.rules.get(name):
            continue
        if isinstance(rule, dict):
            lines += [f"- **{name}**", *(f"  - {key}: {value}" for key, value in rule.items())]
        else:
            lines.append(f"- **{name}**: {rule}")
    return "\n".join(lines)


def markdown(frame: pd.DataFrame) -> str:
    """A table as Markdown, which wraps long cells; nothing in a cell is taken for markup of a table."""

    def line(cells: Sequence[object]) -> str:
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    head = [line(list(frame.columns)), line(["---"] * len(frame.columns))]
    return "\n".join([*head, *(line(list(row)) for row in frame.itertuples(index=False))])
