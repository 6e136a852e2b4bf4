"""The grid from a shell: missing runs are trained, in a time budget, and failures are named."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from refusals import refused

from sparsity_lib import study
from sparsity_lib.study import profiles
from sparsity_lib.study.__main__ import main
from sparsity_lib.study.queue import scheduling
from sparsity_lib.study.queue.scheduling import run_queue
from sparsity_lib.study.queue.workers import run_in_processes
from sparsity_lib.study.runs import file as runs
from sparsity_lib.study.runs import provenance, publication, results
from sparsity_lib.study.runs.provenance import NUMERICS

SMALL = {"dataset": "digits", "limit": 100, "lr": 0.1, "epochs": 2}


@pytest.fixture
def tiny_profile(monkeypatch, runs_folder, tmp_path):
    """A profile of two cells, with runs and results in folders of its own."""
    cells = ({"network": "vanillaNet", **SMALL}, {"network": "sr3Net", **SMALL})
    grid = profiles.Grid(cells, seeds=(0,), published_seeds=(100, 101), with_run_file={})
    monkeypatch.setitem(profiles.PROFILES, "tiny", profiles.Profile("two cells", {"networks": grid}))
    monkeypatch.setattr(results, "PROJECT", tmp_path)
    monkeypatch.setattr(provenance, "_commit", lambda: ("a" * 40, False))
    return runs_folder


def test_the_queue_trains_missing_runs_once(tiny_profile, capsys):
    for expected in ("0 runs were there, 2 trained", "2 runs were there, 0 trained"):
        assert main(["run", "tiny", "--jobs", "1"]) == 0
        assert expected in capsys.readouterr().out


def test_the_queue_is_narrowed(tiny_profile, capsys):
    assert main(["status", "tiny", "--datasets", "digits", "--grids", "networks", "--published"]) == 0
    assert "4 runs, 4 missing" in capsys.readouterr().out
    assert (
        main(["status", "desktop", "--sizes", "s", "--datasets", "cifar10-jpeg", "--grids", "networks"]) == 0
    )
    assert "desktop: 35 runs" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.fault("one fails", "`run`")
def test_a_failure_is_named_with_its_log_and_command(tiny_profile, capsys):
    """vanillaNet's file cannot be written: a folder is in its place."""
    failing, sound = profiles.experiments("tiny")
    log = tiny_profile / f"{failing.id}.log"
    in_the_way = tiny_profile / f"{failing.id}.weights.pt"
    in_the_way.mkdir(parents=True)
    assert main(["run", "tiny", "--jobs", "1"]) == 1
    output = capsys.readouterr().out
    assert "1 trained" in output
    assert runs.find(sound)
    assert f"failed: {failing.id}: " in output
    assert f"log: {log}\n" in output
    assert "Traceback" in log.read_text()
    in_the_way.rmdir()
    (command,) = re.findall(r"again: python -m sparsity_lib.study (.*)", output)
    assert main(command.split()) == 0
    assert "1 trained" in capsys.readouterr().out
    assert not log.exists()
    assert main(["run", "tiny", "--only", "deadbeef"]) == 2
    assert "deadbeef" in capsys.readouterr().err


def test_a_divergence_is_noted_and_published_and_the_others_finish(tiny_profile, monkeypatch):
    """vanillaNet's learning rate is so high that its loss is soon infinite."""

    def here(*given):  # which spares the start of a process
        return run_in_processes(*given[:-1], in_this_process=True)

    monkeypatch.setattr(scheduling, "run_in_processes", here)
    wild = ({"network": "vanillaNet", **SMALL | {"lr": 1e12}}, {"network": "sr3Net", **SMALL})
    grid = profiles.Grid(wild, seeds=(0,), published_seeds=(100,))
    monkeypatch.setitem(profiles.PROFILES, "tiny", profiles.Profile("two cells", {"networks": grid}))
    diverging, sound = profiles.experiments("tiny", published=True)
    outcome = run_queue([diverging, sound], jobs=1)
    assert (outcome.done, list(outcome.diverged)) == ([sound.id], [diverging.id])
    assert scheduling.missing([diverging]) == []  # noted, and not tried again
    (note,) = tiny_profile.glob("*.diverged")
    noted = note.read_text()
    note.write_text(json.dumps(json.loads(noted) | {"dirty": 1}))
    assert publication.publish("tiny") == 1
    assert results.diverged(results.published("tiny")) == {}  # uncommitted code decides nothing
    note.write_text(noted)
    assert publication.publish("tiny") == 0
    lost = results.diverged(results.published("tiny"))
    assert list(lost) == [diverging.id]
    assert "not finite at epoch 0" in lost[diverging.id]


@pytest.mark.slow
def test_out_of_time_is_resumed_by_the_same_call(runs_folder):
    experiment = study.Experiment(**SMALL)
    assert run_queue([experiment], jobs=1, seconds=1e-3).stopped == [experiment.id]
    assert run_queue([experiment], jobs=1).done == [experiment.id]


@pytest.fixture
def start(runs_folder):
    """Start a command in a process group of its own, as from a terminal; wait until it trains."""

    def start_command(*command):
        process = subprocess.Popen(
            [sys.executable, "-um", "sparsity_lib.study", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        output = ""
        while "val loss" not in output:
            output += process.stdout.read(1)
            assert process.poll() is None, output
        return process

    return start_command


@pytest.mark.slow
def test_workers_end_with_a_killed_parent(start):
    process = start("run", "laptop", "--jobs", "1")
    process.kill()
    process.communicate(timeout=60)  # the pipe closes when no worker holds it any longer


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "command", "ending"),
    [
        pytest.param(
            *(signal.SIGINT, ("run", "laptop", "--jobs", "1"), r"the same command resumes"),
            marks=pytest.mark.fault("stopped", "`run`"),
        ),
        pytest.param(
            *(
                signal.SIGTERM,
                ("train", "dataset=digits", "lr=0.1"),
                r"after epoch -?\d+; resumes from there",
            ),
            marks=pytest.mark.fault("stopped", "a training"),
        ),
    ],
)
def test_a_stopped_command_leaves_a_checkpoint(number, command, ending, start, runs_folder):
    process = start(*command)
    os.killpg(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.search(rf"{ending}\n$", output)
    assert len(list(runs_folder.glob("*.ckpt"))) == 1


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (["run", "tablet"], "tablet.*laptop"),
        (["status", "laptop", "--sizes", "s,l"], "'l'.*s, m, xxl, quarter, full"),
        (["status", "laptop", "--datasets", "mnist"], "mnist.*digits"),
        (["status", "laptop", "--grids", "nothing"], "nothing.*networks"),
        (["run", "laptop", "--jobs", "0"], "jobs"),
        (["train", "epochs"], "epochs"),
        (["train", "epochs=true"], "epochs = True"),
        (["train", "self=1"], "self"),
        (["train", "seed=1", "seed=2"], "seed"),
        (["train", "network=.x:f"], "'.x:f'"),
        (["train", "network=builtins:dict"], "builtins:dict"),
        (["train", "activation=after", "include_bias=false"], "include_bias=False .*activation"),
        (["run", "laptop", "--seeds", "5-3"], "seeds = '5-3'"),
    ],
)
def test_bad_input_is_refused_in_one_line(command, named, capsys, runs_folder):
    assert main(command) == 2
    output, error = capsys.readouterr()
    assert re.search(named, error)
    assert (error.count("\n"), output) == (1, "")
    assert not runs_folder.exists() or not list(runs_folder.glob("*.nc"))


def test_a_run_made_without_git_takes_the_commit_of_the_same_code(tiny_profile, monkeypatch):
    def here(commit, core=NUMERICS["core"], dirty=False):
        monkeypatch.setattr(provenance, "_commit", lambda: (commit, dirty))
        monkeypatch.setitem(NUMERICS, "core", core)

    first, second = profiles.experiments("tiny", (100,))
    here("a" * 40, dirty=True)
    study.train(second, folder=(uncommitted := tiny_profile / "uncommitted"))
    here("unknown")
    study.train(first)
    for folder, differing in ((uncommitted, {}), (None, {"core": -1}), (None, {"dirty": True})):
        here("a" * 40, **differing)
        with refused("uncommitted"):
            publication.publish("tiny", folder)
    here("a" * 40)
    assert publication.publish("tiny") == 1
    assert set(results.published("tiny").commit.values) == {"a" * 40}
    assert study.load(results.published_runs("tiny")[0]).provenance["commit"] == "a" * 40


def test_curves_join_networks_of_different_layers(tiny_runs):
    curves = results.curves(tiny_runs)
    assert curves.sizes["run"] == len(tiny_runs)
    assert curves.layer.values.tolist() == ["conv1", "conv2", "norm1", "conv3", "conv4", "norm2", "fc1"]
    vanilla = curves.entropy.sel(layer="norm1").isel(run=curves.network.values == "vanillaNet")
    assert vanilla.isnull().all()
    first = tiny_runs[0]
    histogram = first.layer("conv3").correlation_histogram
    mean = (abs(histogram.bin) * histogram).sum("bin") / (32 * 31 / 2)
    kept = curves.correlation.sel(run=first.id, layer="conv3")
    np.testing.assert_allclose(kept, mean.transpose(*kept.dims), rtol=1e-5)
    assert curves.correlation.sel(layer="norm1").isnull().all()
    assert curves.weight_norm.sel(layer="norm1").isnull().all()
    model, _ = study.trained_network(first)
    last = model.get_submodule("conv3").weight.norm().item()
    assert curves.weight_norm.sel(run=first.id, layer="conv3")[-1].item() == pytest.approx(last, rel=1e-5)
    assert curves.val_loss.sel(run=first.id).values == pytest.approx(first.root.val_loss.values)


def test_runs_that_differ_in_more_than_the_seed_are_distinguished():
    base = study.Experiment(network="sr2Net")
    labelled = {
        "sr2Net": {},
        "sr2Net ×16": {"lambda_conv_scale": 16.0},
        "sr2Net lambda_=0.1": {"lambda_": 0.1},
        "sr2Net reduction=mean": {"reduction": "mean"},
        "vanillaNet": {"network": "vanillaNet", "lambda_": 0.1, "reduction": "mean", "dropout": 0.5},
        "dropNet dropout=0.5": {"network": "dropNet", "dropout": 0.5},
    }
    for label, fields in labelled.items():
        experiment = base.model_copy(update=fields)
        assert (results.label(experiment), results.others(experiment)) == (label, "")
    other = base.model_copy(update={"batch_size": 32, "init": "pytorch", "device": "cpu", "seed": 3})
    assert results.label(other) == "sr2Net"
    assert results.others(other) == "init=pytorch batch_size=32"


def test_curves_of_no_runs_are_refused():
    with refused():
        results.curves([])
