"""Conclusions of notebooks 11 and 12; each test holds the numbers of a sentence."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from sparsity_lib import study
from sparsity_lib.study import analysis, language
from sparsity_lib.study.analysis import comparison
from sparsity_lib.study.analysis.other_papers import coherence, language_models, sparseout_noise, sparsity

QS = (1.0, 1.5, 2.5, 3.0)
SPARSE, DENSE = "sparseoutNet q=1.0", "sparseoutNet q=3.0"
NETWORKS = ["vanillaNet", "dropNet", *(f"sparseoutNet q={q}" for q in QS)]
MARGIN = 0.02  # of accuracy
ALL_WAYS = (coherence.ALWAYS, coherence.GATED, coherence.DELAYED)


@pytest.fixture(scope="module")
def digits() -> pd.DataFrame:
    """Outcomes of the published runs on digits with redrawn labels."""
    published = study.published("laptop")
    fields = {"size": "s", "optimizer": "sgd", "label_noise": 0.3, "epochs": 100, "others": ""}
    return sparsity.outcomes(analysis.only(published, label=NETWORKS, **fields))


@pytest.fixture(scope="module")
def photographs() -> pd.DataFrame:
    """Outcomes of those on 2,000 photographs."""
    published = study.published("desktop")
    fields = {"limit": 2000, "epochs": 60, "others": "held_out=2000"}
    return sparsity.outcomes(analysis.only(published, label=NETWORKS, **fields))


@pytest.fixture(scope="module")
def texts() -> dict[str, pd.DataFrame]:
    """Outcomes of the language models, by text."""
    found = [study.published("language", file) for file in ("laptop.nc", "desktop.nc")]
    tables = [language_models.outcomes(curves) for curves in found if curves is not None]
    return {table["text"].iloc[0]: table for table in tables}


def test_sparseout_is_a_penalty_for_small_noise_alone() -> None:
    increases = sparseout_noise.logistic_increases()
    covered = (increases["low"] < 1) & (increases["high"] > 1)
    assert covered[increases["shift"] < 0.1].all()
    ratios = increases.groupby("shift")["ratio"].agg(["min", "max"])
    small, large = ratios.iloc[0], ratios.iloc[-1]
    assert 0.98 < small["min"] < 1 < small["max"] < 1.02
    assert large["min"] > 3
    variances = sparseout_noise.variances()
    np.testing.assert_allclose(variances["measured"], variances["expected"], rtol=0.05)


def test_sparseout_moves_sparsity_and_scale_in_the_baseline_network(
    digits: pd.DataFrame, photographs: pd.DataFrame
) -> None:
    for table in (digits, photographs):
        assert comparison.compare(table, SPARSE, DENSE, "sparsity").low > 0
        assert comparison.compare(table, SPARSE, DENSE, "log_sd").low > 0.9
        assert -0.05 < comparison.compare(table, SPARSE, DENSE, "scale_free").mean < 0


def test_denser_activations_classify_better_on_photographs_alone(
    digits: pd.DataFrame, photographs: pd.DataFrame
) -> None:
    assert comparison.compare(photographs, DENSE, "dropNet", "chosen_accuracy").low > 0
    assert comparison.compare(photographs, SPARSE, "dropNet", "chosen_accuracy").high < 0
    assert comparison.compare(digits, SPARSE, "dropNet", "chosen_accuracy").high < 0
    found = comparison.compare(digits, DENSE, "dropNet", "chosen_accuracy")
    assert -MARGIN < found.low < 0 < found.high < MARGIN
    assert comparison.compare(digits, DENSE, "dropNet", "min_val_loss").low > 0
    assert comparison.compare(photographs, DENSE, "dropNet", "min_val_loss").high < 0


def test_vgg_shows_no_gain_and_is_not_sparser_with_the_smallest_q() -> None:
    published = study.published("desktop", "architectures.nc")
    labels = ["dropVGG11", "sparseoutVGG11 q=1.0", "sparseoutVGG11 q=3.0"]
    table = sparsity.outcomes(analysis.only(published, label=labels))
    found = comparison.compare(table, labels[2], "dropVGG11", "chosen_accuracy")
    assert -MARGIN < found.low < 0 < found.high < MARGIN
    assert comparison.compare(table, labels[1], "dropVGG11", "chosen_accuracy").high < -0.1
    assert comparison.compare(table, labels[1], labels[2], "sparsity").high < 0


def test_language_models_do_better_with_large_q_and_so_with_less_noise(
    texts: dict[str, pd.DataFrame],
) -> None:
    for table in texts.values():
        for bits in ("lowest_bits", "last_bits"):
            assert comparison.compare(table, "q = 1", language.DROPOUT, bits).low > 0
            assert comparison.compare(table, "q = 3", language.DROPOUT, bits).high < 0
        for layer in (1, 2):
            assert language_models.slope(table, f"noise_to_signal:{layer}").high < -0.05
            assert abs(language_models.slope(table, f"hoyer:{layer}").mean) < 0.025
    noisy = {text: table[table["q"].notna()].groupby("label") for text, table in texts.items()}
    assert max(each["late_change"].mean().max() for each in noisy.values()) < -0.02  # bits still fall
    late = {t: comparison.compare(table, "q = 3", "q = 2", "late_change") for t, table in texts.items()}
    assert late["shakespeare"].low > 0 == late["python-topics"].direction
    assert {text: set(table["epochs"]) for text, table in texts.items()} == {
        "python-topics": {20},
        "shakespeare": {25},
    }
    quiet = {
        text: comparison.compare(table, "no noise", language.DROPOUT, "lowest_bits")
        for text, table in texts.items()
    }
    assert quiet["python-topics"].high < 0
    assert comparison.compare(texts["python-topics"], "no noise", "q = 3", "lowest_bits").direction == 0
    assert quiet["shakespeare"].low > 0
    assert {comparison.compare(t, "q = 1", "q = 3", "lowest_bits").n for t in texts.values()} == {10}


@pytest.fixture(scope="module")
def shrinking() -> dict[str, xr.Dataset]:
    """Published runs of L1 and L2, by profile."""
    profiles = ("laptop", "desktop")
    return {
        name: coherence.runs_with_shrinkage(study.published(name), coherence.experiments(name))
        for name in profiles
    }


@pytest.fixture(scope="module")
def shrunk(shrinking: dict[str, xr.Dataset]) -> dict[str, pd.DataFrame]:
    """Their outcomes."""
    return {name: coherence.outcomes(curves) for name, curves in shrinking.items()}


def guesses(table: pd.DataFrame, way: str, strength: float, term: str = "L1") -> float:
    return float(table[table["label"] == coherence.label_of(term, strength, way)]["guesses"].mean())


def test_gradients_cohere_at_the_beginning_alone(shrinking: dict[str, xr.Dataset]) -> None:
    ends = {}
    for name, curves in shrinking.items():
        ends[name] = coherence.ends(coherence.cells(curves)["", 0.0, coherence.NONE], "coherence")
        assert ends[name][0].low > 0 > ends[name][1].high
    assert abs(ends["desktop"][0].mean) < abs(ends["laptop"][0].mean) / 2


def test_a_tolerance_level_was_reached_on_digits_alone(shrunk: dict[str, pd.DataFrame]) -> None:
    table = shrunk["laptop"]
    assert coherence.failure_strength(table, "L1") == 0.01
    assert coherence.failure_strength(table, "L2") == 0.1
    assert guesses(table, coherence.ALWAYS, 0.01) == guesses(table, coherence.ALWAYS, 0.1, "L2") == 1
    level = table[table["label"] == coherence.label_of("L1", 0.01, coherence.ALWAYS)]
    assert level["term_gradient"].mean() > 10 * level["loss_gradient"].mean()
    assert np.isnan(coherence.failure_strength(shrunk["desktop"], "L1"))
    assert 0 < guesses(shrunk["desktop"], coherence.ALWAYS, 0.003) < 0.5


def test_a_gate_saves_no_run_on_digits_and_a_delay_does(shrunk: dict[str, pd.DataFrame]) -> None:
    table = shrunk["laptop"]
    for strength in (0.003, 0.01):
        always, gated, delayed = (guesses(table, way, strength) for way in ALL_WAYS)
        assert always == gated > 0 == delayed


def test_a_gate_does_not_compress(shrunk: dict[str, pd.DataFrame]) -> None:
    for table in shrunk.values():
        compression = coherence.cell_table(table)["compression"]
        assert compression.xs(coherence.GATED, level="way").max() < 1.1
        assert compression.loc["L1", 0.003, coherence.DELAYED] > 5
    digits = shrunk["laptop"]
    gated = comparison.compare(digits, "L1 0.001, gated", "L1 0.001, always on", "accuracy")
    assert gated.high < 0
    assert comparison.compare(digits, "L1 0.001, always on", "none", "accuracy").low > 0
    assert coherence.cell_table(digits)["compression"].loc["L1", 0.001, coherence.ALWAYS] > 1.5


def test_a_gate_keeps_the_accuracy_on_photographs(shrunk: dict[str, pd.DataFrame]) -> None:
    table = shrunk["desktop"]
    for strength in ("0.001", "0.003"):
        gated = f"L1 {strength}, gated"
        assert comparison.compare(table, gated, f"L1 {strength}, always on", "accuracy").low > 0
        found = comparison.compare(table, gated, "none", "accuracy")
        assert found.low < 0 < found.high


def test_a_delay_gains_on_digits_and_costs_on_photographs(shrunk: dict[str, pd.DataFrame]) -> None:
    digits = shrunk["laptop"]
    assert comparison.compare(digits, "L1 0.003, delayed", "none", "accuracy").low > 0
    found = comparison.compare(digits, "L1 0.01, delayed", "none", "accuracy")
    assert found.low < 0 < found.high
    compression = coherence.cell_table(digits)["compression"].xs(coherence.DELAYED, level="way")
    assert compression["L1", 0.01] > 30
    cost = comparison.compare(shrunk["desktop"], "L1 0.003, delayed", "none", "accuracy")
    assert cost.high < 0
    assert cost.mean == pytest.approx(-0.10, abs=0.005)
    stopped = [coherence.against_early_stopping(each, "L1 0.003, delayed") for each in shrunk.values()]
    assert [f"{each.mean:.2f}" for each in stopped] == ["-0.04", "-0.09"]  # as the page has them
    assert max(each.high for each in stopped) < 0
    always = coherence.cell_table(digits).loc["L1", 0.003, coherence.ALWAYS]
    assert (always["n"], always["guess"]) == (10, 4)
    assert always["learners' accuracy"].round(3) == 0.853
    assert always["compression"] == pytest.approx(18, abs=0.5)
    decay = comparison.compare(digits, "weight decay 0.01, always on", "L2 0.01, always on", "accuracy")
    assert -0.03 < decay.low < 0 < decay.high < 0.03
    assert comparison.compare(digits, "L2 0.01, delayed", "none", "accuracy").low > 0


def test_gains_on_digits_are_after_the_chosen_epoch(shrunk: dict[str, pd.DataFrame]) -> None:
    cells = coherence.cell_table(shrunk["laptop"])
    learned = cells[(cells["guess"] == 0) & (cells.index.get_level_values("term") != coherence.WEIGHT_DECAY)]
    assert np.ptp(learned["chosen accuracy"]) < 0.02 < np.ptp(learned["accuracy"])
    chosen = comparison.compare(shrunk["laptop"], "L1 0.003, delayed", "none", "chosen_accuracy")
    assert chosen.low < 0 < chosen.high
    delayed, none = cells.loc["L1", 0.003, coherence.DELAYED], cells.loc["", 0.0, coherence.NONE]
    assert [f"{each['accuracy']:.3f}" for each in (delayed, none)] == ["0.886", "0.776"]  # as the page has it
    assert [f"{each['chosen accuracy']:.3f}" for each in (delayed, none)] == ["0.926", "0.926"]
    assert delayed["compression"] == pytest.approx(6, abs=0.1)
    assert f"{delayed['chosen compression']:.1f}" == "1.5"  # as the page has it
    assert cells["chosen compression"].xs(coherence.DELAYED, level="way").max() < 1.6


def test_a_gate_acts_early_on_digits_where_runs_learn(
    shrinking: dict[str, xr.Dataset], shrunk: dict[str, pd.DataFrame]
) -> None:
    learned = [each[(each["way"] == coherence.GATED) & ~each["guesses"]] for each in shrunk.values()]
    assert learned[0]["open_early"].min() > 0.98
    assert learned[1]["open_early"].min() < 0.3
    open_late = coherence.coherence_table(shrinking["laptop"])["open, last"].dropna()
    guess = coherence.cell_table(shrunk["laptop"])["guess"][open_late.index]
    assert ((open_late > 0.01) == (guess > 0)).all()
    tables = [coherence.coherence_table(curves) for curves in shrinking.values()]
    first, last = (pd.concat([table[f"open, {when}"] for table in tables]) for when in ("first", "last"))
    assert first.min() > 0.5
    assert last.max() == pytest.approx(0.27, abs=0.005)
