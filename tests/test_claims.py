"""The ledger of claims is sound before anything is judged by it."""

import itertools
import re
from pathlib import Path

import yaml

from sparsity_lib.study import paper
from sparsity_lib.study.data import DATASETS
from sparsity_lib.study.experiment import Experiment

LEDGER = yaml.safe_load((Path(__file__).parents[1] / "claims.yaml").read_text(encoding="utf-8"))
CLAIMS = LEDGER["claims"]
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
    names = [claim["id"] for claim in CLAIMS]
    assert len(names) == len(set(names)) >= 25
    assert 1 <= sum(claim.get("primary", False) for claim in CLAIMS) <= 6


def test_every_test_has_what_its_kind_needs() -> None:
    for claim in CLAIMS:
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


def test_cells_are_experiments_and_kinds_are_honest() -> None:
    for cell in itertools.chain(*LEDGER["cells"].values()):
        fields = {name: value for name, value in cell.items() if name != "kind"}
        experiment = Experiment(**fields)
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
    for claim in CLAIMS:
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
    assert checked > 26
