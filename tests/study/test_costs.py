"""Expected costs of missing runs, by the costs of finished ones."""

import pytest

from sparsity_lib.study import profiles
from sparsity_lib.study.__main__ import main
from sparsity_lib.study.queue import costs


def test_a_run_costs_what_the_same_settings_took_else_by_the_epoch_of_its_size():
    published = profiles.experiments("laptop", seeds=[100, 101, 102], grids=["networks"])
    first = published[0]
    same = [e.id for e in published if e.model_copy(update={"seed": first.seed}).digest == first.digest]
    took = dict(zip(same, (10.0, 20.0, 30.0), strict=True))
    other = first.model_copy(update={"size": "xxl"})
    queue = [*profiles.experiments("laptop", seeds=[7], grids=["networks"]), other]
    similar = [e for e in queue if (e.dataset, e.size, e.limit) == (first.dataset, first.size, first.limit)]
    costs_of = costs.expected("laptop", queue, took)
    assert list(costs_of) == [e.id for e in queue]
    for each in similar:
        assert costs_of[each.id] == pytest.approx(20.0 * each.epochs / first.epochs)
    assert costs_of[other.id] is None


def test_runs_in_the_folder_are_measured_with_the_published(tiny_run, monkeypatch):
    monkeypatch.setenv("SPARSITY_RUNS", str(tiny_run.path.parent))
    took = costs.measured("laptop", [tiny_run.experiment])
    assert took.pop(tiny_run.id) == tiny_run.provenance["seconds"]
    assert took
    assert set(took) <= {e.id for e in profiles.experiments("laptop", published=True)}


def test_the_list_of_missing_runs_has_costs(capsys, runs_folder):
    assert main(["run", "laptop", "--list", "--seeds", "0", "--grids", "networks"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    wanted = profiles.experiments("laptop", seeds=[0], grids=["networks"])
    assert [run for run, _ in lines] == [e.id for e in wanted]
    assert all(float(cost.removesuffix(" s")) > 0 for _, cost in lines)
    assert main(["run", "paper", "--list", "--sizes", "m"]) == 0
    assert {line.split("\t")[1] for line in capsys.readouterr().out.splitlines()} == {"cost unknown"}
