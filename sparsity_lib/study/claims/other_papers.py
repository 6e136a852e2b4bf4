"""The claims of the three papers that we know by their abstracts alone, in words; none is refuted here.

What an abstract leaves open we defined, and all tests are on small networks and few images: a row says what
was seen there. A claim without a test is exploratory.
"""

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from sparsity_lib.study.claims import Claim, Ledger
from sparsity_lib.study.claims.ledger import criterion_words, ours_words, outcome_words, papers_words, side
from sparsity_lib.study.claims.verdicts import Judgement

PAGES = {  # where each paper's claims are measured
    "ICPR": "08-perplexity",
    "Sparseout": "09-sparseout",
    "GCSR": "10-gradient-coherent",
}
EXPLORATORY = "exploratory, no verdict on the paper"

_SEEN = {
    "supported": "seen",
    "opposite": "seen the other way round",
    "negligible": "within the margin",
    "inconclusive": "inconclusive",
    "not run": "with runs missing",
}


def paper_of(claim: Claim) -> str:
    """The short name of the paper that makes the claim, or whose abstract leads to it."""
    return next(paper for paper in PAGES if paper in claim.where)


def table(ledger: Ledger, judged: Sequence[Judgement], mechanism: Sequence[Judgement]) -> pd.DataFrame:
    """One row per claim, tested or not, as Markdown: where it is made and measured, ours, the outcome.

    Cells in which it is judged come first, and last the laptop's, which is no verdict.
    """
    return pd.DataFrame(
        [
            _row(claim, [each for each in (*judged, *mechanism) if each.claim.id == claim.id])
            for claim in ledger.claims
        ]
    )


def _row(claim: Claim, cells: Sequence[Judgement]) -> dict[str, str]:
    page = PAGES[paper_of(claim)]
    tested = f"Tested: {criterion_words(claim.test)}." if claim.test else papers_words(claim)
    return {
        "where": f"{claim.where} <br> [{page}]({page}.ipynb)",
        "claim": f"{claim.claim} <br> {tested}",
        "ours": ours_words(cells) if claim.test else "on its page",
        "outcome": outcome_words(cells[0]) if claim.test else EXPLORATORY,
    }


def outcome(ledger: Ledger, judged: Sequence[Judgement], mechanism: Sequence[Judgement]) -> str:
    """How many claims of each paper were seen in our cells, and what the laptop shows: a Markdown list."""
    lines = []
    for paper in PAGES:
        claims = [claim for claim in ledger.claims if paper_of(claim) == paper]
        exploratory = sum(claim.test is None for claim in claims)
        counts = Counter(each.direction for each in judged if each.claim in claims)
        parts = [f"{counts[name]} {words}" for name, words in _SEEN.items() if counts[name]]
        parts += [f"{exploratory} {EXPLORATORY}"] if exploratory else []
        lines.append(f"- **{paper}**, {len(claims)} claims: {'; '.join(parts)}.")
    there = [each for each in mechanism if each.effect.n]
    sides = Counter(side(each) for each in there if each.direction != "not run")
    told = [f"the effect lies {', '.join(f'{where} in {n}' for where, n in sides.items())}"] if sides else []
    if interim := len(there) - sides.total():
        told.append(f"runs are missing in {interim}")
    shown = "; ".join(told) or "nothing is published yet"
    return "\n".join([*lines, f"- **On the laptop's digits**, which give no verdict, {shown}."])
