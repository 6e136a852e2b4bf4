"""The registration: its content and its runs' ids do not change once runs are made by it."""

import hashlib
from collections.abc import Iterator

import pytest

from sparsity_lib.study import claims, profiles
from sparsity_lib.study.claims import Cell, Claim
from sparsity_lib.study.runs import provenance

REGISTRATION = "579c00c6bc77d90469202e58d161ea4234d97ad9426c8a261392f1dfb14f68c1"
RUNS = {  # by grid: how many, and the SHA-256 of their ids, one a line
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


def test_six_claims_are_primary_and_decided_by_cells_that_two_cores_can_do() -> None:
    primary = [claim for ledger in LEDGERS for claim in ledger.claims if claim.primary]
    assert len(primary) == 6
    for claim in primary:
        assert claim.test is not None
        assert claim.test.kind != "share"
        planned = _planned(claim, claim.cells[0])
        assert all(len(runs) == 5 for runs in planned.values()), claim.id


def test_each_small_cell_of_a_claim_has_registered_runs() -> None:
    for claim, cell in _small_cells():
        assert all(_planned(claim, cell).values()), (claim.id, cell.title)


def test_each_cell_has_one_run_per_label_and_seed() -> None:
    for ledger in LEDGERS:
        for claim in ledger.claims:
            for cell in claim.cells:
                for runs in _planned(claim, cell).values():
                    two = cell.size == "s" and (cell.epochs == 200 or cell.optimizer == "adam")
                    seeds = 3 if cell.size == "quarter" else 2 if two and not cell.limit else 5
                    assert list(runs) == list(range(100, 100 + seeds)), (claim.id, cell.title)


def test_no_small_network_speaks_for_a_large_one() -> None:
    for claim, cell in _small_cells():
        if claim.cells[0].size not in ("s", None):
            assert cell.kind == "conceptual", claim.id


def _small_cells() -> Iterator[tuple[Claim, Cell]]:
    tested = [claim for ledger in LEDGERS for claim in ledger.claims if claim.test]
    for claim in tested:
        of_lenet = claim.test is not None and "LeNet" in claim.test.network
        yield from ((claim, cell) for cell in claim.cells if cell.size in ("s", "quarter") or of_lenet)


def _planned(claim: Claim, cell: Cell) -> dict[str, dict[int, str]]:
    assert claim.test is not None
    return {label: claims.registered_ids(label, cell) for label in claim.test.networks}
