"""What runs say about a claim: directions, p values, what is missing, what the laptop may not say."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.stats import ttest_1samp
from synthetic import QUICK, claim, many, one, valley, with_accuracy

from sparsity_lib.study import StudyError, claims, figures, leads
from sparsity_lib.study.analysis import significance as decisions
from sparsity_lib.study.analysis import timing
from sparsity_lib.study.claims import Cell, Criterion, ledger, other_papers, verdicts

LONG = {"val_loss": valley(20, epochs=60), "val_accuracy": np.full(61, 0.5)}
LEDGER, OTHERS = claims.load(), claims.load(claims.OTHER_PAPERS)
DESKTOP = Cell(dataset="cifar10-jpeg", size="s", limit=10_000, kind="conceptual")
DIRECT = Cell(dataset="cifar10", size="xxl", kind="direct")
BETTER = Criterion(kind="difference", network="sr2Net", against="vanillaNet", quantity="accuracy", expected=1)
SAME = BETTER.model_copy(update={"expected": 0})


def runs_of(cell: Cell, accuracies: dict[str, list[float]]) -> xr.Dataset:
    """The planned runs of a cell, with these accuracies at every epoch."""
    found = []
    for network, values in accuracies.items():
        for experiment, accuracy in zip(claims.planned(network, cell), values, strict=False):
            run = with_accuracy(network, experiment.seed, accuracy)
            found.append(run.assign_coords(run=[experiment.id]))
    return many(found)


@pytest.mark.parametrize(
    ("values", "expected", "told"),
    [
        ([0.1, 0.12, 0.11], 1, "supported"),
        ([0.1, 0.12, 0.11], -1, "opposite"),
        ([0.1, 0.12, 0.11], 0, "opposite"),
        ([0.001, -0.001, 0.0], 1, "negligible"),
        ([0.001, -0.001, 0.0], 0, "supported"),
        ([0.1, -0.1, 0.02], 1, "inconclusive"),
        ([0.1, -0.1, 0.02], 0, "inconclusive"),
        # Surely above zero, and surely within the margin: negligible comes first.
        ([0.003, 0.0031, 0.0029], 1, "negligible"),
        ([0.2], 1, "inconclusive"),
        ([], 1, "inconclusive"),
    ],
)
def test_directions(values: list[float], expected: int, told: str) -> None:
    test = BETTER.model_copy(update={"expected": expected})
    assert decisions.direction(test, np.array(values), 0.01) == told


@pytest.mark.parametrize(
    ("hits", "n", "expected", "told"),
    [
        (5, 5, 1, "supported"),
        (0, 5, 0, "supported"),
        (0, 3, 0, "inconclusive"),
        (1, 20, 0, "inconclusive"),
        (5, 5, 0, "opposite"),
        (0, 5, 1, "opposite"),
        (3, 5, 1, "inconclusive"),
    ],
)
def test_shares(hits: int, n: int, expected: int, told: str) -> None:
    test = Criterion(kind="share", network="dropNet", quantity="onset_loss", expected=expected)
    values = np.array([1.0] * hits + [0.0] * (n - hits))
    assert decisions.direction(test, values, math.inf) == told


def test_p_values_are_those_of_t_tests() -> None:
    values = np.random.default_rng(0).normal(0.02, 0.03, 7)
    assert decisions.p_value(BETTER, values, 0.01) == pytest.approx(ttest_1samp(values, 0).pvalue)
    one_sided = (
        ttest_1samp(values, at, alternative=way).pvalue for at, way in ((-0.05, "greater"), (0.05, "less"))
    )
    assert decisions.p_value(SAME, values, 0.05) == pytest.approx(max(one_sided))
    assert decisions.p_value(BETTER, np.array([0.1, 0.1]), 0.01) < 1e-9
    assert math.isnan(decisions.p_value(BETTER, values[:1], 0.01))


def test_holm_counts_the_claims_that_were_not_run() -> None:
    assert decisions.holm([0.01, 0.04, 0.03], 3) == pytest.approx([0.03, 0.06, 0.06])
    assert decisions.holm([0.01], 6) == pytest.approx([0.06])
    assert decisions.holm([], 6) == []


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_the_smallest_effect_is_found_in_80_percent(n: int) -> None:
    rng, sd = np.random.default_rng(n), 0.3
    values = rng.normal(decisions.detectable(sd, n), sd, (20_000, n))
    assert (ttest_1samp(values, 0, axis=1).pvalue < 0.05).mean() == pytest.approx(0.8, abs=0.01)
    assert math.isnan(decisions.detectable(0.0, n))
    assert math.isnan(decisions.detectable(sd, 1))


def test_pairs_share_a_seed_and_a_cell_counts_once_it_is_complete() -> None:
    better = {"vanillaNet": [0.5, 0.52, 0.48, 0.51, 0.49], "sr2Net": [0.55, 0.57, 0.53, 0.56, 0.541]}
    complete = verdicts.judge(
        claim(BETTER, DESKTOP), DESKTOP, verdicts.Runs([runs_of(DESKTOP, better)], LEDGER)
    )
    assert (complete.direction, complete.effect.n, complete.missing) == ("supported", 5, ())
    assert complete.effect.mean == pytest.approx(0.0502)
    assert complete.verdict == "seen on cifar10-jpeg, s, 10,000 images"
    interim = {"vanillaNet": better["vanillaNet"][:3], "sr2Net": better["sr2Net"][:2]}
    partial = verdicts.judge(
        claim(BETTER, DESKTOP), DESKTOP, verdicts.Runs([runs_of(DESKTOP, interim)], LEDGER)
    )
    assert (partial.direction, partial.effect.n, len(partial.missing)) == ("not run", 2, 5)
    assert partial.verdict == ""
    assert "interim; 2 so far, 5 runs missing" in ledger.direction_words(partial)
    nothing = verdicts.judge(claim(BETTER, DESKTOP), DESKTOP, verdicts.Runs([], LEDGER))
    assert (nothing.direction, nothing.effect.n, len(nothing.missing)) == ("not run", 0, 10)


def test_a_conceptual_cell_never_contradicts_and_a_direct_one_does() -> None:
    worse = [0.4, 0.41, 0.4, 0.42, 0.4]
    for cell, told in ((DESKTOP, "not seen on"), (DIRECT, "contradicted on cifar10")):
        runs = runs_of(cell, {"vanillaNet": [0.5] * 5, "sr2Net": worse})
        judged = verdicts.judge(claim(BETTER, cell), cell, verdicts.Runs([runs], LEDGER))
        assert judged.direction == "opposite"
        assert judged.verdict.startswith(told)


def test_the_papers_value_is_held_against_one_more_pair() -> None:
    theirs = claims.papers_value(BETTER, DIRECT)
    assert theirs == pytest.approx(0.8042 - 0.6964)
    spread = np.array([-0.01, 0.0, 0.01, 0.005, -0.005])
    for shift, told in ((0.0, "inside"), (-0.2, "outside")):
        runs = runs_of(DIRECT, {"vanillaNet": [0.5] * 5, "sr2Net": list(0.5 + theirs + shift + spread)})
        judged = verdicts.judge(claim(BETTER, DIRECT), DIRECT, verdicts.Runs([runs], LEDGER))
        assert judged.magnitude == told
        assert told in ledger.magnitude_words(judged)


def test_the_first_complete_cell_decides_and_primary_claims_are_corrected() -> None:
    # Surely positive by itself, not after a correction for six claims.
    values = {"vanillaNet": [0.5] * 5, "sr2Net": [0.54, 0.60, 0.55, 0.62, 0.53]}
    rules = LEDGER.model_copy(update={"claims": (claim(BETTER, DIRECT, DESKTOP, primary=True),)})
    alone = verdicts.judge_all(rules, [runs_of(DESKTOP, values)])
    assert [(each.cell, each.decides, each.direction) for each in alone] == [(DESKTOP, True, "supported")]
    untried = tuple(
        claim(BETTER, DIRECT, primary=True).model_copy(update={"id": str(number)}) for number in range(5)
    )
    among = rules.model_copy(update={"claims": (*rules.claims, *untried)})
    assert verdicts.judge_all(among, [runs_of(DESKTOP, values)])[0].direction == "inconclusive"


def test_the_laptop_gives_effects_and_no_verdict() -> None:
    digits = Cell(dataset="digits", size="s", kind="laptop")
    runs = runs_of(digits, {"vanillaNet": [0.5] * 20, "sr2Net": list(np.linspace(0.6, 0.61, 20))})
    (judged,) = verdicts.on_the_laptop(LEDGER.model_copy(update={"claims": (claim(BETTER, DIRECT),)}), runs)
    assert judged.effect.n == 20
    assert judged.verdict == ""
    assert judged.magnitude == ""


def test_changes_are_shares_of_ln_d_within_a_run() -> None:
    test = Criterion(kind="change", network="vanillaNet", quantity="entropy", layer=("conv3",), expected=-1)
    runs = many(
        [
            one("vanillaNet", e.seed, entropy=(3.0, 3.0 - 0.1 * math.log(32) - 0.01 * e.seed)).assign_coords(
                run=[e.id]
            )
            for e in claims.planned("vanillaNet", DESKTOP)
        ]
    )
    judged = verdicts.judge(claim(test, DESKTOP), DESKTOP, verdicts.Runs([runs], LEDGER))
    expected = [-0.1 - 0.01 * seed / math.log(32) for seed in range(100, 105)]
    assert judged.effect.mean == pytest.approx(np.mean(expected), abs=1e-4)
    assert judged.direction == "supported"


def test_every_claim_is_planned_somewhere_and_judged_from_nothing_without_an_error() -> None:
    tested = [each for each in LEDGER.claims if each.test]
    for each in tested:
        assert any(all(claims.needed(each.test, cell).values()) for cell in each.cells), each.id
    judged = verdicts.judge_all(LEDGER, [])
    assert [each.claim.id for each in judged] == [each.id for each in tested]
    assert {each.direction for each in judged} == {"not run"}
    assert len(ledger.table(judged, [])) == len(tested)
    told = ledger.outcome(judged, [])
    assert "**What held**: 0 of 6 primary claims.\n" in told
    assert "**What is unknown**: 6 of 6 primary claims; not one of them was run." in told


def test_papers_values_are_differences_of_table_2() -> None:
    sizes = Criterion(kind="sizes", network="sr1Net", quantity="accuracy", expected=1)
    cell = Cell(dataset="cifar100", size="m", kind="direct")
    assert claims.papers_value(sizes, cell) == pytest.approx(0.4917 - 0.2663)
    assert claims.papers_value(BETTER, DIRECT.model_copy(update={"epochs": 200})) is None
    assert claims.papers_value(BETTER, DIRECT.model_copy(update={"dataset": "tiny32-100"})) is None


def test_every_difference_that_the_ledger_quotes_has_a_value_in_each_direct_cell() -> None:
    quoted = [
        each
        for each in LEDGER.claims
        if each.test and each.test.quantity == "accuracy" and re.match(r"[+-]0\.", each.paper)
    ]
    assert len(quoted) > 8
    for each in quoted:
        values = {
            f"{claims.papers_value(each.test, cell):+.4f}"
            for cell in each.cells
            if cell.kind == "direct" and claims.papers_value(each.test, cell) is not None
        }
        direct = [cell for cell in each.cells if cell.kind == "direct"]
        assert len(values) == len(direct), each.id
        assert values & set(re.findall(r"[+-]0\.\d{4}", each.paper)), each.id


def test_a_share_can_be_decided_in_every_planned_cell() -> None:
    shares = [each for each in LEDGER.claims if each.test and each.test.kind == "share"]
    assert shares
    for each in shares:
        for cell in each.cells:
            n = len(claims.planned(each.test.network, cell))
            unanimous = np.full(n, float(each.test.expected))
            assert n == 0 or decisions.direction(each.test, unanimous, math.inf) == "supported", each.id


def test_a_diverged_run_is_left_out_with_its_pair_and_counted() -> None:
    better = {"vanillaNet": [0.5, 0.52, 0.48, 0.51, 0.49], "sr2Net": [0.55, 0.57, 0.53, 0.56]}
    runs = runs_of(DESKTOP, better)
    last = claims.planned("sr2Net", DESKTOP)[-1]
    assert (
        verdicts.judge(claim(BETTER, DESKTOP), DESKTOP, verdicts.Runs([runs], LEDGER)).direction == "not run"
    )
    runs.attrs["diverged"] = json.dumps({last.id: "the loss is not finite at epoch 3"})
    judged = verdicts.judge(claim(BETTER, DESKTOP), DESKTOP, verdicts.Runs([runs], LEDGER))
    assert (judged.direction, judged.effect.n, judged.left_out) == ("supported", 4, 1)
    assert "1 diverged and left out" in ledger.effect_words(judged)


def test_a_primary_claim_of_no_difference_says_what_the_correction_hides() -> None:
    values = {"vanillaNet": [0.5] * 5, "sr2Net": [0.7, 0.71, 0.69, 0.7, 0.72]}
    rules = LEDGER.model_copy(update={"claims": (claim(SAME, DESKTOP, primary=True),)})
    (judged,) = verdicts.judge_all(rules, [runs_of(DESKTOP, values)])
    assert (judged.direction, judged.uncorrected) == ("inconclusive", "opposite")
    assert "opposite before it" in ledger.direction_words(judged)
    told = ledger.outcome([judged], [])
    assert "the test of no difference can only pass or not, and did not; the interval, +0.1" in told
    assert "all of it beyond the margin of 0.01" in ledger.effect_words(judged)


def test_complete_cells_that_do_not_decide_are_told_beside_the_one_that_does() -> None:
    other = DESKTOP.model_copy(update={"dataset": "tiny32-100"})
    plain = [0.5, 0.501, 0.499, 0.5, 0.5]
    better, same = (
        [x + 0.1 for x in plain],
        [x + y for x, y in zip(plain, [1e-3, -1e-3, 0, 2e-3, 0], strict=True)],
    )
    runs = [
        runs_of(cell, {"vanillaNet": plain, "sr2Net": of_sr2})
        for cell, of_sr2 in ((other, same), (DESKTOP, better))
    ]
    rules = LEDGER.model_copy(update={"claims": (claim(BETTER, DESKTOP, other, primary=True),)})
    judged = verdicts.judge_all(rules, runs)
    assert [(each.decides, each.direction) for each in judged] == [(True, "supported"), (False, "negligible")]
    assert "On tiny32-100, s, 10,000 images, which decides nothing: negligible." in ledger.outcome(judged, [])
    first, second = ledger.ours_words(judged).split(" <br> ")
    assert "beside" not in first
    assert second.endswith("; negligible, beside the cell that decides")


def test_a_primary_claim_may_be_negligible_by_its_own_tests() -> None:
    values = {"vanillaNet": [0.5] * 5, "sr2Net": [0.501, 0.499, 0.5, 0.502, 0.498]}
    rules = LEDGER.model_copy(update={"claims": (claim(BETTER, DESKTOP, primary=True),)})
    (judged,) = verdicts.judge_all(rules, [runs_of(DESKTOP, values)])
    assert judged.direction == "negligible"
    assert ledger.direction_words(judged) == "negligible"


def test_a_quantity_that_was_not_kept_is_not_run_and_one_without_values_says_so() -> None:
    runs = runs_of(DESKTOP, {"vanillaNet": [0.5] * 5, "sr1Net": [0.5] * 5})
    alike = next(each for each in LEDGER.claims if each.id == "correlations-alike")
    assert verdicts.judge(alike, DESKTOP, verdicts.Runs([runs], LEDGER)).direction == "not run"
    lead = Criterion(kind="lead", network="vanillaNet", quantity="entropy", layer=("conv3",), expected=1)
    flat = [
        one("vanillaNet", e.seed, entropy=(3.0, 3.0)).assign_coords(run=[e.id])
        for e in claims.planned("vanillaNet", DESKTOP)
    ]
    judged = verdicts.judge(claim(lead, DESKTOP), DESKTOP, verdicts.Runs([many(flat)], LEDGER))
    assert judged.direction == "inconclusive"
    assert ledger.effect_words(judged) == "none of 5 runs has a value"


def test_no_magnitude_without_a_prediction_interval() -> None:
    judged = verdicts.Judgement(
        claim(BETTER, DIRECT), DIRECT, (), verdicts.describe([0.1]), "inconclusive", papers=0.1
    )
    assert judged.magnitude == ""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("claims: [", "while parsing"),
        ("rules: {}\ncells: {}\nclaims: []\nmore: 1", "more"),
        (
            "rules: {}\ncells: {}\nclaims: [{id: a, where: b, claim: c, holds: d, test: {kind: guess}}]",
            "kind",
        ),
    ],
)
def test_a_bad_ledger_is_one_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(text)
    with pytest.raises(StudyError, match=told) as caught:
        claims.load(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(StudyError, match="No such file"):
        claims.load(tmp_path / "nowhere.yaml")


def test_a_verdict_on_a_smaller_network_than_the_claims_says_so() -> None:
    better = {"vanillaNet": [0.5, 0.52, 0.48, 0.51, 0.49], "sr2Net": [0.55, 0.57, 0.53, 0.56, 0.54]}
    small = DIRECT.model_copy(update={"size": "s"})
    for cells, said in (((DIRECT, DESKTOP), True), ((small, DIRECT, DESKTOP), False), ((DESKTOP,), False)):
        rules = LEDGER.model_copy(update={"claims": (claim(BETTER, *cells),)})
        (judged,) = verdicts.judge_all(rules, [runs_of(DESKTOP, better)])
        assert judged.verdict.startswith("seen on cifar10-jpeg, s, 10,000 images")
        assert ("smaller network than the claim is about" in judged.verdict) is said
        names = "; ".join(cell.title for cell in cells[:-1])
        waiting = f"not run, left to a GPU: {names} (direct)" if names else ""
        assert ledger.waiting_words([judged]) == waiting


def test_a_verdict_on_one_of_several_sizes_says_so() -> None:
    better = {"vanillaNet": [0.5, 0.52, 0.48, 0.51, 0.49], "sr2Net": [0.55, 0.57, 0.53, 0.56, 0.54]}
    sizes = [DIRECT.model_copy(update={"size": size}) for size in ("s", "m", "xxl")]
    rules = LEDGER.model_copy(update={"claims": (claim(BETTER, *sizes, DESKTOP),)})
    (judged,) = verdicts.judge_all(rules, [runs_of(DESKTOP, better)])
    assert judged.verdict == f"seen on {DESKTOP.title}, one of its 3 sizes"


def test_how_many_overfit_is_beside_how_far_their_loss_rises() -> None:
    test = Criterion(kind="share", network="vanillaNet", quantity="onset_loss", expected=1)
    runs = [
        one("vanillaNet", e.seed, val_loss=valley(20, slope=0.01)).assign_coords(run=[e.id])
        for e in claims.planned("vanillaNet", DESKTOP)
    ]
    judged = verdicts.judge(claim(test, DESKTOP), DESKTOP, verdicts.Runs([many(runs)], LEDGER))
    assert judged.rise == pytest.approx(0.18, abs=0.02)  # 18 epochs from the lowest to the last five's middle
    assert f"mean rise of the loss +{judged.rise:.2f} nats" in ledger.effect_words(judged)


def test_by_which_code_judging_runs_were_made() -> None:
    runs = runs_of(DESKTOP, {"vanillaNet": [0.5] * 5})
    older = runs.assign_coords(numerics=("run", ["core 0"] * 5))
    assert ledger.made_by(LEDGER, [older]).startswith("5 of 5 published runs were made by older")
    assert ledger.made_by(LEDGER, []) == ""


def test_the_first_epochs_of_longer_runs_are_not_counted_twice() -> None:
    short = [one("vanillaNet", seed) for seed in range(3)]
    longer = [one("vanillaNet", seed, **LONG) for seed in range(3)]
    other = [one("vanillaNet", seed, label_noise=0.3) for seed in range(3)]
    found = timing.by_setting([many([*short, *longer, *other])], 0.05)
    assert found["setting"].nunique() == 2
    assert "epochs 60" in " ".join(found["setting"])
    told = leads.in_words([many([*short, *longer, *other])], 0.05)
    assert "No change-point can come before epoch 6" in told
    assert told.count("| layer |") == 2  # a table for each setting
    assert all(f"**{setting}**" in told for setting in found["setting"])


def test_tables_are_markdown_whatever_the_cells_hold() -> None:
    judged = verdicts.judge_all(LEDGER, [])
    lines = ledger.markdown(ledger.table(judged, verdicts.on_the_laptop(LEDGER, None))).splitlines()
    assert len(lines) == 2 + len(judged)
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_the_outcome_lists_verdicts_and_what_the_laptop_shows_as_none() -> None:
    assert "nothing is published" in ledger.outcome([], verdicts.on_the_laptop(LEDGER, None))
    digits = Cell(dataset="digits", size="s", kind="laptop")
    runs = runs_of(digits, {"vanillaNet": [0.5] * 20, "sr2Net": [0.6] * 20})
    rules = LEDGER.model_copy(update={"claims": (claim(BETTER, DIRECT, primary=True),)})
    worse = runs_of(DIRECT, {"vanillaNet": [0.5] * 5, "sr2Net": [0.4] * 5})
    told = ledger.outcome(verdicts.judge_all(rules, [worse]), verdicts.on_the_laptop(rules, runs))
    assert told.splitlines() == [
        "- **What held**: 0 of 1 primary claims.",
        "- **What did not**: 1 of 1 primary claims.",
        "  - It is so. (contradicted on cifar10) Tested: accuracy at the chosen epoch, "
        "sr2Net less vanillaNet.",
        "- **What is unknown**: 0 of 1 primary claims.",
        "- **On the laptop's digits** (30 % of labels redrawn; λ of conv layers times 16), which give no "
        "verdict, the effect lies",
        "  - where the claim has it: It is so.",
    ]


def test_leads_are_told_by_layer_with_those_of_chance() -> None:
    runs = many([one("vanillaNet", seed, entropy=(3.0, 1.0)) for seed in range(3)])
    told = leads.in_words([runs], 0.05)
    assert "**digits, s** (3 of 3 runs overfit)" in told
    assert "| conv3 | 3 | 3 | " in told
    assert "rows with three leads or more" in told
    assert re.search(r"lies above zero in \d of 1 settings, below it \(entropy is late\) in \d\.", told)
    assert "no published runs" in leads.in_words([], 0.05)


def test_every_claim_says_what_is_tested() -> None:
    told = {each.id: ledger.criterion_words(each.test) for each in LEDGER.claims if each.test}
    assert told["best-after-200-epochs"] == "accuracy at the chosen epoch, sr3Net less normNet"
    assert told["sr2-safe"] == "rise of the validation loss of sr2Net"
    assert told["norm-entropy-stays"].endswith("of normNet from epoch 1 to the end")
    assert len(set(told.values())) > 40


def test_the_forest_plot_has_a_panel_per_primary_claim_and_needs_runs() -> None:
    with pytest.raises(StudyError, match="no published runs to judge the primary claims by"):
        figures.primary_claims(LEDGER, verdicts.judge_all(LEDGER, []), [])
    runs = runs_of(DESKTOP, {"vanillaNet": [0.5] * 5, "sr2Net": [0.6, 0.61, 0.6, 0.59, 0.6]})
    rules = LEDGER.model_copy(update={"claims": (claim(BETTER, DIRECT, DESKTOP, primary=True),)})
    figure = figures.primary_claims(rules, verdicts.judge_all(rules, [runs.isel(run=slice(1, None))]), [])
    assert "interim: runs are missing" in [text.get_text() for text in figure.legends[0].get_texts()]
    figure = figures.primary_claims(rules, verdicts.judge_all(rules, [runs]), [])
    assert "interim: runs are missing" not in [text.get_text() for text in figure.legends[0].get_texts()]
    (panel,) = figure.axes
    assert panel.get_title(loc="left") == "It is so."
    assert [label.get_text() for label in panel.get_yticklabels()] == [
        "cifar10-jpeg, s, 10,000\nimages, n = 5"
    ]


def perplexity_runs(best: float, end: float) -> xr.Dataset:
    """The planned runs of vanillaNet in the other papers' first cell, whose sparsity changes so much."""
    found = []
    for i, experiment in enumerate(claims.planned("vanillaNet", OTHERS.claims[0].cells[0])):
        run = one("vanillaNet", experiment.seed, perplexity_sparsity=(best, end + 0.001 * i))
        found.append(run.assign_coords(run=[experiment.id]))
    return many(found)


@pytest.mark.parametrize(
    ("ends", "told", "verdict"),
    [
        ((0.2, 0.4), "supported", "seen on cifar10-jpeg"),
        ((0.2, 0.2), "negligible", "not seen on cifar10-jpeg"),
        ((0.4, 0.2), "opposite", "not seen on cifar10-jpeg"),
    ],
)
def test_perplexity_sparsity_that_rises_is_seen_and_nothing_contradicts(
    ends: tuple[float, float], told: str, verdict: str
) -> None:
    rises = OTHERS.claims[0]
    test = rises.test.model_copy(update={"layer": ("conv1", "conv3")})  # those that synthetic runs have
    rises = rises.model_copy(update={"test": test})
    judged = verdicts.judge(rises, rises.cells[0], verdicts.Runs([perplexity_runs(*ends)], OTHERS))
    assert (judged.direction, judged.effect.n) == (told, 5)
    assert judged.effect.mean == pytest.approx(ends[1] - ends[0], abs=0.004)  # no share of ln D
    assert judged.verdict.startswith(verdict)


def test_a_rise_of_perplexity_sparsity_leads_by_its_own_margin() -> None:
    lead = OTHERS.claims[1].test.model_copy(update={"layer": ("conv1",)})
    leads = OTHERS.claims[1].model_copy(update={"test": lead})
    judged = verdicts.judge(leads, leads.cells[0], verdicts.Runs([perplexity_runs(0.2, 0.6)], OTHERS))
    # Above 0.25 from the third epoch after the loss was lowest, at epoch 20; known in the fourth.
    assert judged.effect.mean == pytest.approx(-4, abs=0.5)


def test_without_runs_every_row_of_the_other_papers_says_so_and_untested_ones_get_no_verdict() -> None:
    judged = verdicts.judge_all(OTHERS, [])
    assert {each.direction for each in judged} == {"not run"}
    rows = other_papers.table(OTHERS, judged, verdicts.on_the_laptop(OTHERS, None))
    assert len(rows) == len(OTHERS.claims)
    for each, (_, row) in zip(OTHERS.claims, rows.iterrows(), strict=True):
        assert each.where in row["where"]
        assert each.claim in row["claim"]
        if each.test:
            assert "no published runs" in row["ours"]
            assert row["outcome"].startswith("not run")
        else:
            assert row["outcome"] == "exploratory, no verdict on the paper"
    told = other_papers.outcome(OTHERS, judged, [])
    assert "- **GCSR**, 3 claims: 3 exploratory, no verdict on the paper.\n" in told
    assert "nothing is published yet" in told


def test_the_other_papers_outcome_counts_what_was_seen_and_what_is_missing() -> None:
    of_accuracy = [each for each in OTHERS.claims if not (each.test and each.test.layer)]
    rules = OTHERS.model_copy(update={"claims": tuple(of_accuracy)})
    runs = runs_of(QUICK, {"sparseoutNet q=3.0": [0.6, 0.61, 0.6, 0.59, 0.6], "dropNet": [0.5] * 5})
    told = other_papers.outcome(rules, verdicts.judge_all(rules, [runs]), [])
    assert "- **Sparseout**, 5 claims: 1 seen; 2 with runs missing; 2 exploratory" in told
    assert "contradict" not in told
    assert "refute" not in told


def test_the_other_papers_plot_has_a_panel_per_quantity_and_a_row_per_claim() -> None:
    with pytest.raises(StudyError, match="no published runs to judge the other papers' claims by"):
        figures.other_papers_claims(OTHERS, verdicts.judge_all(OTHERS, []), [])
    rules = OTHERS.model_copy(update={"claims": OTHERS.claims[8:11]})  # one of sparsity, two of accuracy
    runs = runs_of(QUICK, {"prNet lambda_=1.0": [0.6] * 5, "vanillaNet": [0.5] * 5})
    more = rules.claims[1]
    judged = verdicts.judge(more, QUICK, verdicts.Runs([runs], rules))
    figure = figures.other_papers_claims(rules, [judged], [])
    sparsity, accuracy = figure.axes
    assert sparsity.get_title(loc="left") == "perplexity sparsity at the end"
    assert [label.get_text() for label in accuracy.get_yticklabels()] == [
        "prNet lambda_=1.0 less\nvanillaNet",
        "prVGG11 lambda_=1.0 less\nVGG11",
    ]
    told = [text.get_text().strip() for text in (*sparsity.texts, *accuracy.texts)]
    assert told == ["no published runs", "←", "→", "no published runs", "→"]


def test_only_runs_that_judge_are_held_against_the_commit_of_their_ledger() -> None:
    runs = runs_of(QUICK, {"sparseoutNet q=3.0": [0.6] * 5}).assign_coords(commit=("run", ["0" * 40] * 5))
    told = ledger.order_of_commits(OTHERS, [runs])
    assert told.startswith("0 of the 5 published runs")
    assert "`pilot-other-papers.yaml`" in told
    assert ledger.order_of_commits(LEDGER, [runs]).startswith("No run that judges them is published yet")


def test_only_the_rules_that_differ_are_told_again() -> None:
    told = ledger.rules_in_words(OTHERS, beside=LEDGER)
    assert "sparsity: 0.02" in told
    assert "**interval**" not in told
    assert not ledger.rules_in_words(LEDGER, beside=LEDGER)
