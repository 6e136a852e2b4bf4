"""The ledgers of claims are sound before anything is judged by them."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sparsity_lib.study import claims, paper
from sparsity_lib.study.analysis import timing
from sparsity_lib.study.claims import other_papers
from sparsity_lib.study.data import DATASETS
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.profiles import experiments
from sparsity_lib.study.recipes import layers_of
from sparsity_lib.study.runs import results

LEDGER, ADDED, OTHERS = (
    yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in (claims.LEDGER, claims.ADDED, claims.OTHER_PAPERS)
)
CLAIMS = LEDGER["claims"]
ALL = pytest.mark.parametrize("ledger", [LEDGER, ADDED, OTHERS], ids=["claims", "added", "other-papers"])
FILES = pytest.mark.parametrize(
    "path", [claims.LEDGER, claims.ADDED, claims.OTHER_PAPERS], ids=lambda path: path.stem
)
FIELDS = {
    "value": {"network", "quantity", "expected"},
    "difference": {"network", "against", "quantity", "expected"},
    "change": {"network", "quantity", "layer", "expected"},
    "layers": {"network", "quantity", "layer", "against", "expected"},
    "sizes": {"network", "quantity", "expected"},
    "share": {"network", "quantity", "expected"},
    "lead": {"network", "quantity", "layer", "expected"},
}


def test_claims_are_many_named_once_and_six_at_most_are_primary() -> None:
    names = [claim["id"] for claim in (*CLAIMS, *ADDED["claims"], *OTHERS["claims"])]
    assert len(names) == len(set(names))
    assert len(CLAIMS) >= 25
    assert 1 <= sum(claim.get("primary", False) for claim in CLAIMS) <= 6
    assert not any("primary" in claim for claim in (*ADDED["claims"], *OTHERS["claims"]))
    assert ADDED["rules"]["margins"] == LEDGER["rules"]["margins"]


@ALL
def test_every_test_has_what_its_kind_needs(ledger: dict[str, Any]) -> None:
    for claim in ledger["claims"]:
        assert claim["where"], claim["id"]
        assert claim["claim"].endswith("."), claim["id"]
        test = claim["test"]
        if test == "none":
            assert "cells" not in claim
            assert "primary" not in claim
            continue
        assert test.keys() - {"kind", "from", "to", "layer"} == FIELDS[test["kind"]] - {"layer"}, claim["id"]
        assert ("layer" in test) >= ("layer" in FIELDS[test["kind"]]), claim["id"]
        assert test["expected"] in (-1, 0, 1)
        assert not (claim.get("primary") and test["kind"] == "share"), claim["id"]


@ALL
def test_cells_are_experiments_and_kinds_are_honest(ledger: dict[str, Any]) -> None:
    for cell in itertools.chain(*ledger["cells"].values()):
        fields = {name: value for name, value in cell.items() if name != "kind"}
        network = "VGG11" if cell.get("size") == "quarter" else "vanillaNet"
        experiment = Experiment(network=network, **fields)
        assert experiment.dataset in DATASETS
        of_the_paper = experiment.dataset in ("cifar10", "cifar100", "tiny-imagenet") and not experiment.limit
        re_encoded = experiment.dataset == "cifar10-jpeg" and not experiment.limit
        assert cell["kind"] == ("direct" if of_the_paper else "close" if re_encoded else "conceptual")


def test_differences_quoted_from_tables_2_and_3_are_their_own() -> None:
    accuracies = paper.accuracies()
    accuracies["size"] = accuracies["size"].replace("full", "xxl")  # Table 3's networks have one size
    of_100_epochs = accuracies[accuracies["epochs"] == paper.EPOCHS]
    table = of_100_epochs.set_index(["network", "dataset", "size", "optimizer"]).accuracy
    places = {
        "CIFAR-100": ("cifar100", "xxl", "sgd"),
        "CIFAR-10": ("cifar10", "xxl", "sgd"),
        "Tiny ImageNet": ("tiny-imagenet", "xxl", "sgd"),
        **{size: ("cifar100", size, "sgd") for size in ("s", "m", "xxl")},
        "Adam": ("cifar100", "xxl", "adam"),
    }
    checked = 0
    for claim in (*CLAIMS, *ADDED["claims"]):
        test = claim["test"]
        if test == "none" or test["kind"] != "difference" or test["quantity"] != "accuracy":
            continue
        known = table.index.get_level_values("network")
        if not {test["network"], test["against"]} <= {*known} or re.match(
            "over |with ", claim.get("paper", "")
        ):
            continue  # claims that name several networks
        if "paper" not in claim:
            continue
        for number, place in re.findall(r"([+-]0\.\d{4}) ([A-Za-z0-9]+(?:-\d+| ImageNet)?)", claim["paper"]):
            difference = table[test["network"], *places[place]] - table[test["against"], *places[place]]
            assert f"{difference:+.4f}" == number, (claim["id"], place)
            checked += 1
    assert checked > 56


@FILES
def test_networks_are_labels_of_planned_experiments_and_each_test_has_its_runs(path: Path) -> None:
    ledger = claims.load(path)
    assert ledger.file == path.name
    planned = [run for name in claims.JUDGED for run in experiments(name, published=True)]
    labels = {results.label(experiment) for experiment in planned}
    for claim in ledger.claims:
        if claim.test:
            assert {*claim.test.networks} <= labels, claim.id
            assert {*claim.test.layer} <= {*layers_of(claim.test.network.split()[0])}, claim.id
            assert ledger.margin(claim.test) > 0
            assert any(all(claims.needed(claim.test, cell).values()) for cell in claim.cells), claim.id
    assert {run.id for run in planned} > claims.judging(ledger)


def judged_in(path: Path) -> Iterator[tuple[claims.Criterion, claims.Cell, bool]]:
    """Each test in its planned cells, and on the laptop."""
    for claim in claims.load(path).claims:
        if claim.test:
            yield from ((claim.test, cell, False) for cell in claim.cells)
            if cell := claims.laptop_cell(claim):
                yield claim.test, cell, True


@FILES
def test_runs_of_a_label_differ_in_their_seeds_alone(path: Path) -> None:
    for test, cell, on_the_laptop in judged_in(path):
        for label, runs in claims.needed(test, cell).items():
            assert len({run.model_copy(update={"seed": 0}) for run in runs}) <= 1, (label, cell)
            assert len({run.seed for run in runs}) == len(runs), (label, cell)
            assert not on_the_laptop or all(run.label_noise for run in runs)


def test_a_label_says_which_strength_and_the_laptop_shows_those_scaled_to_its_pixels() -> None:
    cell = claims.load(claims.OTHER_PAPERS).claims[0].cells[0]
    for strength in (0.1, 1.0):
        (found,) = {run.lambda_ for run in claims.planned(f"prNet lambda_={strength}", cell)}
        assert found == strength
    assert not claims.planned("prNet", cell)
    digits = claims.Cell(dataset="digits", size="s", kind="laptop")
    assert {run.lambda_conv_scale for run in claims.planned("sr2Net", digits)} == {16.0}
    assert claims.planned("prNet lambda_=1.0", digits)


def test_of_the_other_papers_every_cell_is_conceptual_and_every_claim_has_a_page() -> None:
    ledger = claims.load(claims.OTHER_PAPERS)
    assert {cell.kind for claim in ledger.claims for cell in claim.cells} == {"conceptual"}
    assert {other_papers.paper_of(claim) for claim in ledger.claims} == {*other_papers.PAGES}
    assert f"by more than {timing.RISE}." in ledger.rules["change-point"]
