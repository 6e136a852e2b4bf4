"""The front page and the README: their numbers, their picture and their conclusions."""

import re
from pathlib import Path

import pytest
from PIL import Image

from sparsity_lib.study import findings
from sparsity_lib.study.analysis import comparison, explained_by_noise
from sparsity_lib.study.recipes import LAYERS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def numbers() -> dict[str, str]:
    return findings.numbers()


def values(text: str) -> list[float]:
    """The numbers of a text, as of a mean with its interval."""
    return [float(each) for each in re.findall(r"[+-]?\d+(?:\.\d+)?", text.replace("−", "-"))]


def test_the_front_page_names_all_numbers(numbers: dict[str, str]) -> None:
    called = set(re.findall(r"\{\{ (\w+) \}\}", (ROOT / "book/index.md").read_text(encoding="utf-8")))
    assert called == set(numbers)


def test_the_readme_has_the_present_numbers(numbers: dict[str, str]) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = {name for name in numbers if name != "n" and not name.startswith("registered")}
    assert {name for name in shown if numbers[name] not in text} == set()


def test_the_picture_shows_the_published_results() -> None:
    with Image.open(findings.PICTURE) as picture:
        assert picture.text["Results"] == findings.origin()


def test_conclusions_hold_for_the_numbers(numbers: dict[str, str]) -> None:
    assert values(numbers["entropy_fall"])[0] > 0.3
    assert values(numbers["penalised_fall"])[0] < 0.1 < values(numbers["norm_fall"])[0]
    _, low, high = values(numbers["scale_free_change"])
    assert -0.05 < low < high < 0.05
    assert values(numbers["noise_r2_large"])[0] > 0.9
    assert values(numbers["noise_r2_least"])[0] < 0.2 < 0.7 < values(numbers["noise_r2_least_position"])[0]
    assert (
        0.05
        < values(numbers["penalised_calibrated"])[0]
        < values(numbers["plain_calibrated"])[0]
        < values(numbers["plain_rise"])[0] / 2
    )
    assert values(numbers["widest_warning"])[0] > 0.2
    assert values(numbers["over_dropout"])[2] < 0
    _, low, high = values(numbers["twin"])
    assert -0.01 < low < 0 < high < 0.01
    assert int(numbers["exchanged_groups"]) > int(numbers["better_warnings"]) == 0
    assert values(numbers["dropout_fall"])[0] < 0.05 < 0.3 < values(numbers["dropout_fall_before"])[0]
    before, in_all = (values(numbers[name])[0] for name in ("fall_before", "fall_in_all"))
    assert 0.5 * in_all < before < 0.6 * in_all
    assert values(numbers["early_epochs"])[1] < findings.EARLY_EPOCHS < values(numbers["late_epochs"])[0] - 20
    _, low, high = values(numbers["pattern_rise"])
    assert low < 0 < high
    assert values(numbers["scale_rise"])[2] < low


def test_noise_explains_least_where_positions_differ_in_scale() -> None:
    layers = findings.runs_on_cifar100().sel(layer=list(LAYERS[:-1]))
    found = explained_by_noise.explained(layers, by=["label", "layer"])
    pooled = found[found["sd"] == "pooled"].set_index(["label", "layer"])["r2"]
    assert pooled.idxmin() == findings.LEAST_EXPLAINED


def test_all_runs_on_cifar100_overfit_but_those_with_dropout() -> None:
    table = findings.network_table(findings.runs_on_cifar100())
    assert (table.loc["dropNet", "overfits"], table.loc["dropNet", "runs"]) == (0, 5)
    assert -0.05 < table.loc["dropNet", "change"].mean < 0  # nearly all of its fall precedes the lowest loss
    others = table.drop(index="dropNet")
    assert list(others["overfits"]) == list(others["runs"])


def test_conclusions_hold_for_the_pilots_networks() -> None:
    shown, second = (findings.network_table(runs) for runs in findings.pilot_runs().values())
    assert set(shown["runs"]) | set(second["runs"]) == {5}
    assert list(shown["overfits"][["vanillaNet", "dropNet"]]) == [5, 0]
    assert list(second["overfits"][["vanillaNet", "dropNet", "sr2Net"]]) == [5, 0, 5]
    assert 0 < shown["overfits"]["sr2Net"] < 5
    for each in (shown, second):
        assert each["overfits"]["normNet"] >= 4
        assert each["change"]["normNet"].low > 0
        assert all(gain.low > 0 for gain in each["gain"][1:])
    assert second["overfits"]["sr1Net"] == 0
    over_dropout = comparison.compare(
        findings.pilot_runs()[findings.PILOT_DATASETS[0]], "sr2Net", "dropNet", "chosen_accuracy"
    )
    assert -0.015 < over_dropout.low < 0 < over_dropout.high < 0.015
    assert shown["change"]["dropNet"].high < -0.05 < 0 < second["change"]["dropNet"].high
