"""Trainings with compiled entropies, and the memory that a step frees."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch
from test_networks import factory  # noqa: F401  (used by name)
from test_training import SMALL, Interrupted, equal, interrupt_after

from sparsity_lib import _fusion, study
from sparsity_lib.study.errors import Stopped
from sparsity_lib.study.training import preparation


@pytest.fixture
def quick_compiler(monkeypatch):
    """The compiler's front end alone: what it makes is right, and made in no time."""
    compile_ = torch.compile
    _fusion.fused.cache_clear()
    monkeypatch.setattr(torch, "compile", lambda f, **options: compile_(f, backend="aot_eager", **options))
    yield
    _fusion.fused.cache_clear()


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compiler")
def test_entropies_are_compiled_where_a_whole_run_takes_many_of_them(tmp_path, monkeypatch):
    experiment = study.Experiment(network="sr3Net", **SMALL)
    plain = study.train(experiment, folder=tmp_path / "a")
    assert plain.provenance["compiled"] == 0
    sizes = 2 * 16 * 8 * 8 + 2 * 32 * 4 * 4 + 64
    regularised = 2 * 32 * 4 * 4 + 64
    taken = 3 * (100 * regularised + (199 + 100) * sizes)  # epochs, training and monitored images
    monkeypatch.setattr(preparation, "COMPILED_FROM", taken + 1)
    assert not study.train(experiment, folder=tmp_path / "b").provenance["compiled"]
    monkeypatch.setattr(preparation, "COMPILED_FROM", taken)
    compiled = study.train(experiment, folder=tmp_path / "c")
    assert compiled.provenance["compiled"] == 1
    for quantity in ("train_loss", "val_loss", "penalty_sparsity"):
        np.testing.assert_allclose(compiled.root[quantity], plain.root[quantity], rtol=1e-3)


@pytest.mark.usefixtures("quick_compiler")
def test_a_resumed_run_goes_on_compiled_or_not_as_it_began(tmp_path):
    experiment = study.Experiment(network="sr3Net", **SMALL | {"epochs": 1})
    assert experiment.digest == experiment.model_copy(update={"compiled": True}).digest
    for begun, resumed in ((True, None), (False, True)):
        folder = tmp_path / str(begun)
        with pytest.raises(Stopped):
            study.train(experiment.model_copy(update={"compiled": begun}), folder=folder, stop=lambda: True)
        run = study.train(experiment.model_copy(update={"compiled": resumed}), folder=folder)
        assert run.provenance["compiled"] == begun


@pytest.mark.usefixtures("quick_compiler")
def test_a_compiled_run_is_begun_anew_where_nothing_compiles(tmp_path, monkeypatch):
    experiment = study.Experiment(network="sr3Net", compiled=True, **SMALL | {"epochs": 1})
    with pytest.raises(Stopped):
        study.train(experiment, folder=tmp_path, stop=lambda: True)
    monkeypatch.setattr(torch, "compile", lambda function, **options: lambda *inputs: 1 / 0)
    _fusion.fused.cache_clear()
    epochs = []
    with pytest.warns((UserWarning, RuntimeWarning), match=r"torch\.compile"):
        run = study.train(experiment, lambda record: epochs.append(record["epoch"]), tmp_path)
    assert epochs == [-1, 0]
    assert run.provenance["compiled"] == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler's own
def test_compiled_runs_are_bit_for_bit_repeatable_too(tmp_path):
    experiment = study.Experiment(network="sr3Net", compiled=True, **SMALL)
    unbroken = study.train(experiment, folder=tmp_path / "a")
    with pytest.raises(Interrupted):
        study.train(experiment, interrupt_after(1), tmp_path / "b", checkpoint_seconds=0)
    _fusion.fused.cache_clear()  # as in a new process
    torch.compiler.reset()
    resumed = study.train(experiment, folder=tmp_path / "b")
    assert unbroken.provenance["compiled"] == resumed.provenance["compiled"] == 1
    assert equal(unbroken, resumed)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_that_a_step_frees_is_kept_for_the_next():
    script = """
import resource, statistics, torch
from sparsity_lib.study.training.preparation import keep_freed_memory
def faults(rounds=20):
    counted = []
    for _ in range(rounds):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(2**24).add(1)
        counted.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return statistics.median(counted)
by_default = faults()
keep_freed_memory()
print(by_default, faults())
"""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MALLOC", "GLIBC"))
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    by_default, kept = map(float, done.stdout.split())
    assert kept < by_default / 10
