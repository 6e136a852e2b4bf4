"""The benchmarks measure what they say, and compare trainings that do the same."""

import re
import time

import pytest
import torch

from benchmarks.counterparts import counterparts
from benchmarks.measure import exponent, interleaved, peak_bytes, ratio
from benchmarks.naive import NaiveTraining, explicit_decorrelation
from benchmarks.steps import regularised_bytes
from benchmarks.trainings import random_data, training
from benchmarks.workflow import ENOUGH, MOST, ROOT
from sparsity_lib import functional
from sparsity_lib.study import Experiment

CPU = torch.device("cpu")


def test_times_are_of_a_call_and_ratios_of_the_same_round() -> None:
    work = {"short": lambda: time.sleep(0.01), "long": lambda: time.sleep(0.03)}
    times = interleaved(work, rounds=3, seconds=0.03)
    assert all(0.01 <= seconds < 0.03 for seconds in times["short"])
    assert ratio([2.0, 3.0, 8.0], [1.0, 1.0, 2.0]).median == 3
    assert exponent([1, 2, 4], [5, 20, 80]) == pytest.approx(2)


def test_peak_is_what_is_held_at_one_moment() -> None:
    def work() -> None:
        a = torch.ones(1000)
        b = a * 2
        del a
        b * 3

    assert peak_bytes(work, CPU) == pytest.approx(2 * 4000, abs=100)


@pytest.mark.parametrize("network", ["vanillaNet", "sr1Net", "sr3Net"])
def test_the_naive_form_trains_the_same(network: str) -> None:
    data = random_data(64, CPU, held_out=8)
    ours = training(network, "s", CPU, data)
    naive = NaiveTraining(Experiment(network=network, size="s"), CPU, data)
    naive.model.load_state_dict(ours.model.state_dict())
    record = ours.train_epoch()
    total = sum(float(value) for name, value in record.items() if name.startswith(("train_loss", "penalty_")))
    assert naive.train_epoch() == pytest.approx(total, rel=1e-5)


def test_activations_are_counted() -> None:
    assert regularised_bytes(training("sr2Net", "s", CPU, random_data(64, CPU, held_out=8))) == 4 * 64 * (
        2 * 32 * 16 * 16 + 64
    )


def test_explicit_decorrelation_is_the_penalty() -> None:
    weight = torch.randn(40, 27)
    assert explicit_decorrelation(weight).item() == pytest.approx(
        functional.decorrelation(weight).item(), abs=1e-4
    )


@pytest.mark.slow
def test_counterparts_are_compared_with_what_they_replace() -> None:
    rows = counterparts("s", CPU, rounds=2)
    assert [row["over"] for row in rows if row["step"].startswith("Sparseout")] == ["dropout"] * 4
    assert all(0 < row["low"] <= row["median"] <= row["high"] for row in rows)


def test_what_a_job_costs_is_told_of_jobs_as_they_are_planned():
    planned = (ROOT / "workflow" / "Snakefile").read_text(encoding="utf-8")
    assert dict(re.findall(r"^(MOST|ENOUGH) = (\d+)", planned, re.MULTILINE)) == {
        "MOST": str(MOST),
        "ENOUGH": str(ENOUGH),
    }
