"""The registered claims: each has what its test needs, and the numbers that it quotes are the paper's."""

import re
from pathlib import Path

import pytest

from sparsity_lib.study import StudyError, claims, paper
from sparsity_lib.study.claims import Cell, Criterion
from sparsity_lib.study.data import DATASETS
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.profiles import experiments
from sparsity_lib.study.recipes import layers_of
from sparsity_lib.study.runs import results

TSR, OTHERS = claims.load(claims.REGISTRATION), claims.load(claims.REGISTRATION_OTHER_PAPERS)
BOTH = pytest.mark.parametrize("ledger", [TSR, OTHERS], ids=lambda ledger: ledger.file)
BETTER = Criterion(kind="difference", network="sr2Net", against="vanillaNet", quantity="accuracy", expected=1)
COMPARES = {"difference", "layers"}
OF_LAYERS = {"change", "layers", "lead"}


def test_claims_have_names_of_their_own() -> None:
    names = [claim.id for claim in (*TSR.claims, *OTHERS.claims)]
    assert len(names) == len(set(names))


@BOTH
def test_each_test_has_what_its_kind_needs(ledger: claims.Ledger) -> None:
    planned = [run for name in ("registered", "paper") for run in experiments(name, published=True)]
    labels = {results.label(experiment) for experiment in planned}
    for claim in ledger.claims:
        if (test := claim.test) is None:
            assert not claim.primary, claim.id
            continue
        assert bool(test.against) == (test.kind in COMPARES), claim.id
        assert bool(test.layer) >= (test.kind in OF_LAYERS), claim.id
        assert {*test.networks} <= labels, claim.id
        assert {*test.layer} <= {*layers_of(test.network.split()[0])}, claim.id
        assert ledger.margin(test) > 0


@BOTH
def test_direct_cells_are_the_papers_own(ledger: claims.Ledger) -> None:
    for name, cells in ledger.cells.items():
        for cell in cells:
            fields = cell.model_dump(exclude={"kind"}, exclude_none=True)
            network = "VGG11" if cell.size == "quarter" else "vanillaNet"
            assert Experiment(network=network, **fields).dataset in DATASETS, name
            if cell.kind == "direct":
                assert cell.limit is None


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
    known = {*table.index.get_level_values("network")}
    checked = 0
    for claim in TSR.claims:
        test = claim.test
        if test is None or test.kind != "difference" or test.quantity != "accuracy":
            continue
        if not {*test.networks} <= known or re.match("over |with ", claim.paper):
            continue  # claims that name several networks
        for number, place in re.findall(r"([+-]0\.\d{4}) ([A-Za-z0-9]+(?:-\d+| ImageNet)?)", claim.paper):
            first, second = (table[network, *places[place]] for network in test.networks)
            assert f"{first - second:+.4f}" == number, (claim.id, place)
            checked += 1
    assert checked > 56


def test_papers_values_are_differences_of_its_tables() -> None:
    large = Cell(dataset="cifar10", size="xxl", kind="direct")
    assert claims.papers_value(BETTER, large) == pytest.approx(0.8042 - 0.6964)
    sizes = Criterion(kind="sizes", network="sr1Net", quantity="accuracy", expected=1)
    medium = Cell(dataset="cifar100", size="m", kind="direct")
    assert claims.papers_value(sizes, medium) == pytest.approx(0.4917 - 0.2663)
    assert claims.papers_value(BETTER, large.model_copy(update={"epochs": 200})) is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("claims: [", "while parsing"),
        ("rules: {}\ncells: {}\nclaims: []\nmore: 1", "more"),
        (
            "rules: {}\ncells: {}\n"
            "claims: [{id: a, where: b, claim: c, in_the_paper: d, test: {kind: guess}}]",
            "kind",
        ),
    ],
)
def test_a_bad_file_is_one_line(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(text)
    with pytest.raises(StudyError, match=named) as caught:
        claims.load(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(StudyError, match="No such file"):
        claims.load(tmp_path / "nowhere.yaml")
