"""Claims as forest plots: our effect with its interval, the margin, and the paper's value if it has one."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sparsity_lib.study.claims import Claim, Criterion, Ledger
from sparsity_lib.study.claims.ledger import QUANTITIES, UNITS, papers_values
from sparsity_lib.study.claims.verdicts import Judgement
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.figures.data import INTERVAL, tell
from sparsity_lib.study.figures.style import WIDTH, figure

OURS, LAPTOP, PAPER = "#0072B2", "#E69F00", "#D55E00"


@figure
def primary_claims(ledger: Ledger, judged: Sequence[Judgement], laptop: Sequence[Judgement]) -> Figure:
    """A panel per primary claim, each with an axis in its own units.

    Dots are our means and bars their 95 % intervals: filled where a cell is complete, hollow where some of
    its runs are missing, in another colour for the laptop, which gives no verdict. Grey is the margin within
    which a difference is none; the arrow points to where the claim expects the effect; diamonds are the
    paper's values at its largest size.

    Raises `StudyError` where there is nothing to draw.
    """
    claims = [claim for claim in ledger.claims if claim.primary]
    shown = {c.id: [j for j in (*judged, *laptop) if j.claim.id == c.id and j.effect.n] for c in claims}
    if not any(shown.values()):
        raise StudyError("no published runs to judge the primary claims by")
    heights = [0.6 + 0.46 * max(1, len(shown[claim.id])) for claim in claims]
    fig, axes = plt.subplots(
        len(claims), 1, figsize=(WIDTH, sum(heights) + 1.2), height_ratios=heights, layout="constrained"
    )
    for ax, claim in zip(np.atleast_1d(axes), claims, strict=True):
        assert claim.test is not None
        ax.axvspan(-ledger.margin(claim.test), ledger.margin(claim.test), color="0.88", zorder=0)
        ax.axvline(0, color="0.35", linewidth=0.9, zorder=1)
        of = {"claim": claim.claim, "quantity": _effect_words(claim.test)}
        tell(ax, "margin", **of, low=-ledger.margin(claim.test), high=ledger.margin(claim.test))
        for y, each in enumerate(shown[claim.id]):
            _effect(ax, y, each)
            told = each.effect
            ours = {"runs": each.cell.title, "n": told.n, "status": _status(each)}
            tell(ax, INTERVAL, **of, **ours, value=told.mean, low=told.low, high=told.high)
        for cell, value in papers_values(claim).items():
            ax.scatter([value], [-0.55], marker="D", s=26, color=PAPER, zorder=3, clip_on=False)
            tell(ax, "the paper's value", **of, runs=cell, value=value)
        ax.set_yticks(range(len(shown[claim.id])), [_name(each) for each in shown[claim.id]])
        ax.set_ylim(max(len(shown[claim.id]), 1) - 0.5, -0.85)
        ax.grid(axis="y", visible=False)
        ax.set_title(textwrap.fill(claim.claim, 68), loc="left", fontsize=10)
        ax.set_xlabel(_axis(of["quantity"], claim.test.expected), fontsize=9, labelpad=1)
    handles = _handles(
        shown, Line2D([], [], color=PAPER, marker="D", linestyle="", label="the paper's values")
    )
    fig.legend(handles=handles, loc="outside upper left", ncols=3, columnspacing=1.4)
    return fig


@figure
def other_papers_claims(ledger: Ledger, judged: Sequence[Judgement], laptop: Sequence[Judgement]) -> Figure:
    """A panel per quantity that the claims are tested by, a row per claim: its networks, or what is compared.

    Dots, bars and colours are those of `primary_claims`. The arrow at the right says where the claim has the
    effect; 0 is where it has none.

    Raises `StudyError` where there is nothing to draw.
    """
    panels: dict[str, list[Claim]] = {}
    for claim in ledger.claims:
        if claim.test:
            panels.setdefault(_measured(claim.test), []).append(claim)
    shown = {
        c.id: [j for j in (*judged, *laptop) if j.claim.id == c.id and j.effect.n] for c in ledger.claims
    }
    if not any(shown.values()):
        raise StudyError("no published runs to judge the other papers' claims by")
    heights = [0.5 + 0.42 * len(claims) for claims in panels.values()]
    fig, axes = plt.subplots(
        len(panels), 1, figsize=(WIDTH, sum(heights) + 1.2), height_ratios=heights, layout="constrained"
    )
    for ax, (measured, claims) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        _rows(ax, measured, claims, shown, ledger)
    handles = _handles(shown, Line2D([], [], linestyle="", label="→ ← 0: where it is claimed"))
    fig.legend(handles=handles, loc="outside upper left", ncols=3, columnspacing=1.4)
    return fig


def _handles(shown: Mapping[str, Sequence[Judgement]], own: Artist) -> list[Artist]:
    """Of the legend, for what is there, with a figure's `own` sort of mark."""
    told = {_status(each) for judged in shown.values() for each in judged}
    return [
        Line2D([], [], color=OURS, marker="o", label="ours, mean and 95 % interval"),
        *(
            [
                Line2D(
                    [], [], color=OURS, marker="o", markerfacecolor="white", label="interim: runs are missing"
                )
            ]
            if "interim" in told
            else []
        ),
        Line2D([], [], color=LAPTOP, marker="o", label="laptop's digits: no verdict"),
        own,
        Patch(color="0.88", label="margin: no difference"),
    ]


def _rows(
    ax: Axes, measured: str, claims: Sequence[Claim], shown: Mapping[str, Sequence[Judgement]], ledger: Ledger
) -> None:
    names = []
    for y, claim in enumerate(claims):
        test = claim.test
        assert test is not None
        names.append(" less\n".join(test.networks))
        of = {"claim": claim.claim, "quantity": measured, "networks": names[-1]}
        margin = ledger.margin(test)
        tell(ax, "margin", **of, low=-margin, high=margin)
        for each in shown[claim.id]:
            _effect(ax, y + (0.2 if each.cell.kind == "laptop" else -0.2), each)
            told = each.effect
            ours = {"runs": each.cell.title, "n": told.n, "status": _status(each)}
            tell(ax, INTERVAL, **of, **ours, value=told.mean, low=told.low, high=told.high)
        if not shown[claim.id]:
            ax.text(0, y, " no published runs", color="0.35", fontsize=9, va="center")
        arrow = {1: "→", -1: "←", 0: "0"}[test.expected]
        ax.text(1.01, y, arrow, transform=ax.get_yaxis_transform(), va="center", fontsize=11)
    ax.axvspan(-margin, margin, color="0.88", zorder=0)
    ax.axvline(0, color="0.35", linewidth=0.9, zorder=1)
    ax.locator_params(axis="x", nbins=7)
    ax.set_yticks(range(len(claims)), names)
    ax.set_ylim(len(claims) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)
    ax.set_title(measured, loc="left", fontsize=10)


def _measured(test: Criterion) -> str:
    """The quantity in words, with its unit."""
    unit = UNITS[test.margin_of][0].strip()
    words = {
        "change": f"change of {QUANTITIES[test.quantity]} from the lowest validation loss to the end",
        "lead": f"moment of overfitting less change-point of {QUANTITIES[test.quantity]}",
    }
    told = words.get(test.kind, QUANTITIES[test.quantity])
    return f"{told} ({unit})" if unit else told


def _effect(ax: Axes, y: float, judged: Judgement) -> None:
    color = LAPTOP if judged.cell.kind == "laptop" else OURS
    told = judged.effect
    if told.n > 1:
        ax.plot([told.low, told.high], [y, y], color=color, linewidth=1.6, zorder=2)
    interim = judged.direction == "not run"
    ax.scatter(
        [told.mean],
        [y],
        s=40,
        zorder=3,
        edgecolor=color,
        facecolor="white" if interim else color,
        linewidth=1.4,
    )


def _status(judged: Judgement) -> str:
    if judged.cell.kind == "laptop":
        return "laptop: no verdict"
    return "interim" if judged.direction == "not run" else "complete"


def _name(judged: Judgement) -> str:
    if judged.cell.kind == "laptop":
        return f"digits, n = {judged.effect.n}"
    return textwrap.fill(f"{judged.cell.title}, n = {judged.effect.n}", 24)


def _effect_words(test: Criterion) -> str:
    """What an effect is, in fewer words than `_measured`, with its unit."""
    of = {"accuracy": "difference of accuracies", "loss": "rise of validation loss"}
    unit = UNITS[test.margin_of][0].strip()
    told = of.get(test.margin_of, f"change of {QUANTITIES[test.quantity]}")
    return f"{told} ({unit})" if unit else told


def _axis(quantity: str, expected: int) -> str:
    arrow = {1: "claimed: right →", -1: "← claimed: left", 0: "claimed: no effect"}[expected]
    return f"{quantity};  {arrow}"
