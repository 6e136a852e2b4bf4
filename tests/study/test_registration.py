"""The registration: its content and its runs' ids do not change."""

import hashlib

import pytest

from sparsity_lib.study import claims, profiles
from sparsity_lib.study.claims import Cell, Criterion
from sparsity_lib.study.runs import provenance

REGISTRATION = "579c00c6bc77d90469202e58d161ea4234d97ad9426c8a261392f1dfb14f68c1"
RUNS = {  # number of runs by grid, and the SHA-256 of their ids, one a line
    "networks": (35, "251f4ff7db9c4fd0"),
    "lenet-alexnet": (20, "9eb95ae07e72de46"),
    "200-epochs": (8, "86f7d396cd8252c8"),
    "adam": (12, "04e757cbc1f10c26"),
    "readings": (165, "58d11470196187c4"),
    "perplexity": (40, "ed047f3ca1406d6a"),
    "perplexity-200": (10, "59be194b35e27ee1"),
    "sparseout": (20, "a51382711a78c7ef"),
    "coherent": (35, "2b41b42b44eb4aed"),
    "learning-rates": (48, "c93fd9170135905a"),
    "architectures": (48, "2a1193c6fd7920e1"),
    "lenet-tiny": (10, "224988264e007ef9"),
    "equivalence": (40, "5cebc8f14b695923"),
}
LEDGERS = [claims.load(path) for path in (claims.REGISTRATION, claims.REGISTRATION_OTHER_PAPERS)]


def test_the_registered_files_are_as_the_runs_recorded_them() -> None:
    assert provenance.registration() == REGISTRATION


@pytest.mark.parametrize("grid", RUNS)
def test_registered_runs_keep_their_ids(grid: str) -> None:
    ids = [run.id for run in profiles.experiments("registered", grids=[grid], published=True)]
    digest = hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]
    assert (len(ids), digest) == RUNS[grid]


def test_all_registered_grids_are_frozen() -> None:
    assert RUNS.keys() == profiles.profile("registered").grids.keys()


def test_each_cell_has_one_run_per_label_and_seed() -> None:
    for claim in (claim for ledger in LEDGERS for claim in ledger.claims if claim.test):
        for cell in claim.cells:
            two = cell.size == "s" and (cell.epochs == 200 or cell.optimizer == "adam") and not cell.limit
            seeds = 3 if cell.size == "quarter" else 2 if two else 5
            for label in claim.test.networks:
                runs = claims.registered_ids(label, cell)
                assert list(runs) == list(range(100, 100 + seeds)), (claim.id, cell.title)


BETTER = Criterion(kind="difference", network="sr2Net", against="vanillaNet", quantity="accuracy", expected=1)


def test_papers_values_are_differences_of_its_tables() -> None:
    large = Cell(dataset="cifar10", size="xxl", kind="direct")
    assert claims.paper_value(BETTER, large) == pytest.approx(0.8042 - 0.6964)
    sizes = Criterion(kind="sizes", network="sr1Net", quantity="accuracy", expected=1)
    medium = Cell(dataset="cifar100", size="m", kind="direct")
    assert claims.paper_value(sizes, medium) == pytest.approx(0.4917 - 0.2663)
    assert claims.paper_value(BETTER, large.model_copy(update={"epochs": 200})) is None
