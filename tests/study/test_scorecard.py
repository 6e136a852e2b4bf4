"""Tables of the scorecard on curves with known effects, and verdicts computed without the study."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from programs import python
from registered import LENET, SMALL, SPREAD, cell_of, runs_of, together
from scipy.stats import t, ttest_1samp

from sparsity_lib.study import claims
from sparsity_lib.study.analysis.explained_by_noise import explained
from sparsity_lib.study.analysis.onset import onset_table
from sparsity_lib.study.claims import Cell, pages, scorecard
from sparsity_lib.study.claims.judge import judge
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.profiles import STUDY_NETWORKS, experiments
from sparsity_lib.study.runs import file as runs
from sparsity_lib.study.runs.results import label, load_curves

LEDGER = claims.load(claims.REGISTRATION)
PRIMARY = LEDGER.model_copy(update={"claims": tuple(each for each in LEDGER.claims if each.primary)})
SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "recompute.py"
S = np.array(SPREAD)


def more_of(network: str, **effects: Any) -> xr.Dataset:
    """The ten more seeds of the test of equivalence."""
    there = experiments("registered", grids=["equivalence"], published=True)
    return runs_of(network, SMALL, {run.seed: run.id for run in there if label(run) == network}, **effects)


def test_verdicts_are_those_of_the_judge_once_all_runs_are_trained() -> None:
    better = {"accuracy": 0.35 + 0.1 + S}
    curves = cell_of({network: better if network == "sr2Net" else {} for network in STUDY_NETWORKS})
    judged = judge(LEDGER, curves)
    table = scorecard.verdicts(LEDGER, judged).set_index(["id", "cell"])
    assert table.loc[("no-gain-when-small", "cifar100, s"), "verdict"] == "does not hold"
    assert table.loc[("loss-rises", "cifar100, s"), ["runs", "verdict"]].tolist() == ["5 of 5", "holds"]
    assert table.loc[("sr2-safe", "cifar100, s"), "verdict"] == "does not hold: it overfits"
    small = table.loc[("sr-more-accurate", "cifar100, s")]
    assert (small["kind"], small["direction"], small["verdict"]) == ("conceptual", "holds", "")
    assert ("lenet-no-gain", "cifar10") in table.index  # without a run: its first cell
    assert ("lenet-no-gain", "cifar100") not in table.index
    assert len(scorecard.verdicts(LEDGER, judged, every_cell=True)) > len(table)
    interim = scorecard.verdicts(PRIMARY, judge(PRIMARY, curves.isel(run=curves["seed"] < 103)))
    words = interim.groupby("runs")["verdict"].unique().str.join(" and ")
    assert words.to_dict() == {"3 of 5": "incomplete", "0 of 5": "not run"}
    assert interim[["effect", "low", "high", "holm"]].isna().all(axis=None)


def test_claims_are_shown_with_effects_and_primary_ones_in_bold() -> None:
    table = pd.DataFrame(
        {"id": ["a", "b"], "claim": ["p < q", "r"], "primary": [True, False], "cell": ["s", "m"]}
        | {"effect": [0.0371, np.nan], "low": [0.0254, np.nan], "high": [0.0489, np.nan]}
    )
    first, second = pages.claims_table(table, ["cell", pages.EFFECT]).split("</tr>")[1:3]
    for cell in ("<strong>p &lt; q</strong> <code>a</code>", "<td>s</td>", "<td>0.037 (0.025 to 0.049)</td>"):
        assert cell in first
    assert "<strong>" not in second
    assert "<td>m</td>\n      <td></td>" in second


def test_claims_without_a_run_are_folded_below_the_others() -> None:
    table = pd.DataFrame(
        {"id": ["a", "b"], "claim": ["p", "q"], "primary": False, "runs": ["1 of 5", "0 of 5"]}
    )
    table[["effect", "low", "high"]] = np.nan
    shown, folded = pages.with_unrun_folded(table, ["runs"]).split("<details>")
    assert "<code>a</code>" in shown
    assert "<code>b</code>" not in shown
    assert "<summary>Without a run: 1</summary>" in folded
    assert "<code>b</code>" in folded
    assert "<details>" not in pages.with_unrun_folded(table[:1], ["runs"])
    assert pages.with_unrun_folded(table[1:], ["runs"]).startswith("<details>")


def test_curves_of_the_papers_cells_can_be_narrowed() -> None:
    curves = [cell_of({network: {} for network in STUDY_NETWORKS}), more_of("sr2Net")]
    found = scorecard.curves_of_cells(curves)
    assert found.sizes["run"] == 35
    narrowed = scorecard.curves_of_cells(curves, dataset="cifar100", size="s", optimizer="sgd")
    assert set(narrowed["run"].to_numpy()) == set(found["run"].to_numpy())
    with pytest.raises(StudyError, match="size = full"):
        scorecard.curves_of_cells(curves, size="full")


@pytest.mark.parametrize(
    ("noise", "found"),
    [(0.001, "supported"), (0.1, "opposite"), (np.linspace(0.001, 0.018, 5), "inconclusive")],
)
def test_predictions_of_the_noise_curve_are_judged(noise: Any, found: str) -> None:
    curves = cell_of({network: {"noise": noise} for network in STUDY_NETWORKS})
    table = scorecard.predictions(curves)
    assert table["layers"].tolist() == ["conv1, conv2, conv3, conv4, fc1", "conv3", "conv4", "fc1"]
    assert table["threshold"].tolist() == [0.97, 0.95, 0.95, 0.95]
    assert set(table["direction"]) == {found}
    assert (table["low"] <= table["r2"]).all()
    assert (table["pooled_r2"] < table["r2"]).all()  # all SDs are 1 here
    by_kind = explained(curves.sel(layer=["conv4"])).set_index("sd")
    assert table.loc[2, "r2"] == by_kind.loc["positions", "r2"]
    assert table.loc[2, "pooled_low"] == by_kind.loc["pooled", "low"]
    assert (table["status"] == "complete").all()


def test_predictions_have_no_direction_before_all_runs() -> None:
    table = scorecard.predictions(cell_of({network: {} for network in STUDY_NETWORKS[:6]}))
    assert set(table["status"]) == {"30 of 35"}
    assert set(table["direction"]) == {""}
    assert set(scorecard.predictions([])["status"]) == {"not run"}


def test_equivalence_is_judged_once_when_all_fifteen_seeds_are_in() -> None:
    rng = np.random.default_rng(1)
    shifts = {"sr2Net": 0.0, "varNet": 0.001, "dropNet": 0.002, "normNet": 0.012}
    values = {name: 0.35 + shift + 0.002 * rng.standard_normal(15) for name, shift in shifts.items()}
    first = cell_of({name: {"accuracy": each[:5]} for name, each in values.items()})
    more = together([more_of(name, accuracy=each[5:]) for name, each in values.items()])
    table = scorecard.equivalence([first, more])
    assert len(table) == 2 * 3 * 3
    registered = table[(table["planned"] == 15) & (table["accuracy"] == "chosen")].set_index("with")
    assert registered["result"].to_dict() == {
        "varNet": "equivalent",
        "dropNet": "equivalent",
        "normNet": "not shown",
    }
    p = []
    for network in ("varNet", "dropNet", "normNet"):
        differences = values["sr2Net"] - values[network]
        sides = [
            ttest_1samp(differences, b, alternative=way).pvalue
            for b, way in ((-0.01, "greater"), (0.01, "less"))
        ]
        p.append(max(sides))
        assert registered.loc[network, "p"] == pytest.approx(p[-1], rel=1e-3)
    np.testing.assert_allclose(
        registered["holm"], np.minimum(1, np.maximum.accumulate(np.sort(p) * [3, 2, 1])), rtol=1e-3
    )
    others = table[table["accuracy"] != "chosen"]
    assert (others["result"] == "").all()
    assert others["holm"].isna().all()
    five = table[(table["planned"] == 5) & (table["accuracy"] == "chosen")].set_index("with").loc["varNet"]
    assert five["mean"] == pytest.approx((values["sr2Net"] - values["varNet"])[:5].mean(), rel=1e-4)
    assert five["low90"] < five["mean"] < five["high90"]

    fewer = scorecard.equivalence([first, more.isel(run=slice(1, None))])
    waiting = fewer[fewer["planned"] == 15]
    assert (waiting["result"] == "").all()
    assert waiting.loc[waiting["status"] == "14 of 15", ["mean", "low90", "p"]].isna().all(axis=None)
    assert (fewer[fewer["planned"] == 5]["status"] == "complete").all()


def test_the_papers_48_accuracies_are_compared_with_ours() -> None:
    small = cell_of({name: {"accuracy": 0.34 + S * (1 + i)} for i, name in enumerate(STUDY_NETWORKS)})
    lenet = runs_of("LeNet", LENET, accuracy=0.55 + S).isel(run=slice(3))
    table = scorecard.accuracies([small, lenet])
    assert table["source"].value_counts().to_dict() == {"Table 2": 36, "Table 3": 12}
    assert (table["planned"] == 5).all()
    named = table.set_index(["network", "dataset", "size", "optimizer"])
    ours = named.loc[("sr2Net", "cifar100", "s", "sgd")]
    assert (ours["status"], ours["n"], ours["kind"]) == ("complete", 5, "direct")
    assert (ours["best"], ours["chosen"]) == (pytest.approx(0.35), pytest.approx(0.34))
    assert ours["distance"] == pytest.approx(100 * (0.35 - 0.3460), abs=1e-3)
    sd = S.std(ddof=1) * np.sqrt((np.arange(1, 8) ** 2).mean())
    half = t.ppf(0.975, 28) * sd * np.sqrt(1.2)
    assert ours["predicted_high"] - ours["best"] == pytest.approx(half, rel=1e-3)
    assert ours["inside"]
    assert not named.loc[("dropNet", "cifar100", "s", "sgd"), "inside"]  # the paper's 0.2505
    part = named.loc[("LeNet", "cifar10", "full", "sgd")]
    assert (part["status"], part["kind"]) == ("3 of 5", "close")
    assert pd.isna(part["inside"])
    assert part["best"] == pytest.approx(0.56 + S[:3].mean())
    waiting = named["status"].drop(named.index[named["n"] > 0])
    assert set(waiting) == {"not run", "needs a GPU"}
    assert (
        named.loc[named.index.get_level_values("size").isin(["m", "xxl"]), "status"] == "needs a GPU"
    ).all()
    assert (waiting[waiting == "not run"].index.get_level_values("network").str.contains("LeNet")).all()


def test_hits_misses_and_false_alarms_are_counted_by_network() -> None:
    effects = {
        "vanillaNet": {"changed": 12.0, "at": 40.0},  # hits
        "dropNet": {"fall": 0.0},  # misses
        "sr2Net": {"changed": 12.0, "rise": 0.0},  # false alarms
        "sr1Net": {"fall": 0.0, "rise": 0.0},
    }
    table = scorecard.alarms(LEDGER, cell_of(effects)).set_index("network")
    kinds = ["hits", "misses", "false_alarms", "true_negatives"]
    for network, kind in zip(effects, kinds, strict=True):
        assert table.loc[network, kinds].to_dict() == {each: 5 * (each == kind) for each in kinds}
    assert table.loc["all", [*kinds, "runs"]].tolist() == [5, 5, 5, 5, 20]
    assert set(table["layers"]) == {"conv3, conv4, fc1"}
    assert scorecard.alarms(LEDGER, []).empty


def test_rises_are_shown_raw_and_calibrated() -> None:
    curves = cell_of({"vanillaNet": {"calibrated_rise": 0.0}, "sr2Net": {"rise": 0.1}})
    table = scorecard.rises(LEDGER, curves).set_index(["network", "loss"])
    assert len(table) == 4
    excess = onset_table(curves).groupby("label")["excess"].mean()
    for network in ("vanillaNet", "sr2Net"):
        assert table.loc[(network, "raw"), "mean"] == pytest.approx(excess[network])
        assert (table.loc[(network, "raw"), "onsets"], table.loc[(network, "raw"), "n"]) == (5, 5)
    plateau = table.loc[("vanillaNet", "calibrated")]
    assert (plateau["onsets"], plateau["mean"]) == (0, pytest.approx(0, abs=0.03))
    assert np.isnan(plateau["epoch"])
    assert table.loc[("vanillaNet", "raw"), "epoch"] == pytest.approx(30, abs=3)


def recomputed(folder: Path) -> dict[str, tuple[float, str]]:
    output = python(SCRIPT, folder, claims.REGISTRATION)
    assert (output.returncode, output.stderr) == (0, "")
    lines = (line.split() for line in output.stdout.splitlines())
    return {name: (float(mean), direction) for name, mean, direction in lines}


SCENARIOS: dict[str, tuple[dict[str, dict[str, Any]], float]] = {
    "as in the paper": ({"sr2Net": {"rise": 0.0}, "vanillaNet": {"late": 0.1, "scale_free_fall": 0.1}}, 0.0),
    "against the paper": (
        {
            "sr2Net": {"accuracy": 0.4 + S},
            "vanillaNet": {"rise": 0.04, "fall": -0.05, "late": -0.05, "scale_free_fall": -0.1},
        },
        0.03,
    ),
    "unclear": (
        {
            "sr2Net": {"accuracy": 0.36 + 2 * S, "rise": [0.0, 0.05, 0.1, 0.02, 0.2]},
            "vanillaNet": {"rise": [0.0, 0.0, 0.1, 0.3, 0.5], "fall": [0, 0, 0.1, 0.1, 0.2]},
        },
        0.008,
    ),
}


@pytest.mark.parametrize(
    "scenario",
    [
        "unclear",
        pytest.param("as in the paper", marks=pytest.mark.slow),
        pytest.param("against the paper", marks=pytest.mark.slow),
    ],
)
def test_primary_verdicts_are_recomputed_without_the_study(scenario: str, tmp_path: Path) -> None:
    effects, gain = SCENARIOS[scenario]
    networks = {label: effects.get(label, {}) for label in STUDY_NETWORKS}
    both = [
        cell_of({"LeNet": {"accuracy": 0.55}, "srLeNet": {"accuracy": 0.55 + gain + S}}, cell)
        for cell in (LENET, Cell(dataset="cifar100", kind="close"))
    ]
    for name, curves in (("networks", cell_of(networks)), ("lenet-alexnet", together(both))):
        runs.write(xr.DataTree(curves.astype("float32")), tmp_path / f"{name}.nc")
    published = [load_curves(path) for path in sorted(tmp_path.glob("*.nc"))]
    table = judge(PRIMARY, [part for part in published if part is not None])
    decided = table[table["primary"]].set_index("claim")
    found = recomputed(tmp_path)
    assert {name: direction for name, (_, direction) in found.items()} == decided["direction"].to_dict()
    for name, (mean, _) in found.items():
        assert mean == pytest.approx(decided.loc[name, "mean"], abs=0.002)
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) <= 60
    assert "sparsity_lib.study" not in SCRIPT.read_text(encoding="utf-8")
