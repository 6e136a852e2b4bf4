"""The benchmarks measure the quantities they name, and compare equivalent trainings."""

import json
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import targets
import torch

import benchmarks.__main__ as command
from benchmarks.compiling import compiling
from benchmarks.counterparts import counterparts
from benchmarks.growth import by_channels, growth
from benchmarks.measure import exponent, interleaved, peak_bytes, ratio
from benchmarks.naive import NaiveTraining
from benchmarks.precision import accuracies, precisions
from benchmarks.resnet18 import costs
from benchmarks.steps import PARTS, matrix_products, parts, regularised_bytes, steps
from benchmarks.trainings import random_data, training
from benchmarks.whole_runs import epoch_parts, monitor_parts, scripts, whole
from benchmarks.workflow import ENOUGH, MOST, ROOT
from sparsity_lib.study import Experiment

CPU = torch.device("cpu")


def test_times_are_of_a_call_and_ratios_of_the_same_round() -> None:
    work = {"short": lambda: time.sleep(0.01), "long": lambda: time.sleep(0.03)}
    times = interleaved(work, rounds=3, seconds=0.03)
    assert all(0.01 <= seconds < 0.03 for seconds in times["short"])
    assert ratio([2.0, 3.0, 8.0], [1.0, 1.0, 2.0]).median == 3
    assert exponent({1: 5, 2: 20, 4: 80}) == pytest.approx(2)


@pytest.mark.slow
def test_costs_on_a_resnet_are_compared_with_their_goals() -> None:
    rows = [*costs(rounds=2, size=32)]
    assert len(rows) == 7
    for row in rows:
        assert row["low"] <= row["median"] <= row["high"]
        assert row["goal"] > 0
    assert all(row["median"] > 0.5 for row in rows if row["unit"] == " ×")


def test_peak_memory_is_the_largest_at_one_moment() -> None:
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


@pytest.mark.parametrize(("precision", "of_each"), [("float32", 4), ("bf16", 2)])
def test_activations_are_counted(precision: str, of_each: int) -> None:
    one = training("sr2Net", "s", CPU, random_data(64, CPU, held_out=8), precision=precision)
    assert regularised_bytes(one) == of_each * 64 * (2 * 32 * 16 * 16 + 64)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-2), ("bf16", 2.0)])
def test_both_ways_to_multiply_give_the_same_product(precision: str, tolerance: float) -> None:
    ways, operations = matrix_products(CPU, precision)
    product, convolved = (way().float() for way in ways.values())
    assert operations == 2 * len(product) ** 3
    laid_out = convolved.permute(0, 2, 3, 1).reshape(product.shape)
    torch.testing.assert_close(laid_out, product, rtol=0, atol=tolerance)


ON_A_CPU = {
    "steps": [
        {
            "size": "s",
            "network": "sr1Net, compiled",
            "precision": "float32",
            "median": 1.25,
            "extra_memory": 1.01,
        }
    ],
    "scripts": [{"run": "first", "median": 1.49}],
}


def test_targets_are_met_missed_or_not_measured() -> None:
    judged = {target.what: target.judged(ON_A_CPU).get("met") for target in targets.CPU}
    assert judged.pop("a step of sr1Net, size s, over vanillaNet's") is True
    (memory,) = (name for name in judged if name.startswith("memory") and "size s" in name)
    assert judged.pop(memory) is False
    assert judged.pop("images per second over those of the script with a DataLoader, size s") is False
    assert set(judged.values()) == {None}
    assert not any(target.judged(None) for target in targets.GPU)


def test_a_target_of_a_share_of_what_was_measured_is_scaled() -> None:
    row = {"part": "monitor", "compiled": True, "median": 0.24, "low": 0.2, "high": 0.3}
    (target,) = (one for one in targets.CPU if one.what.endswith("an epoch of 50,000"))
    judged = target.judged({"epoch": [row]})
    assert judged == pytest.approx({"value": 0.048, "met": True, "low": 0.04, "upper": 0.06})


def test_every_target_on_a_cpu_was_measured() -> None:
    rows = targets.judge(ROOT / "benchmarks/results")
    assert all("met" in row for row in rows if row["device"] == "CPU")


def test_a_penalty_adds_the_shares_of_a_step_that_the_page_states() -> None:
    rows = json.loads((ROOT / "benchmarks/results/cpu.json").read_text(encoding="utf-8"))
    added: dict[tuple[str, bool], list[int]] = {}
    for row in rows["sections"]["steps"]["rows"]:
        if row["network"] != "vanillaNet" and "naive" not in row["network"]:
            place = row["size"], "compiled" in row["network"]
            added.setdefault(place, []).append(round(100 * (row["median"] - 1)))
    assert {place: (min(each), max(each)) for place, each in added.items()} == {
        ("s", False): (24, 73),
        ("s", True): (14, 30),
        ("m", False): (5, 17),
        ("m", True): (1, 7),
    }


def test_a_section_is_measured_again_and_the_rest_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    made = {"one": [lambda: [{"median": 1.0}]], "two": [lambda: [{"median": 2.0}], lambda: [{"median": 3.0}]]}
    monkeypatch.setattr(command, "cases", lambda device: made)
    assert command.main(["--device", "cpu"]) == 0
    made["two"] = [lambda: [{"median": 4.0}]]
    assert command.main(["--device", "cpu", "--only", "two"]) == 0
    measured = json.loads((tmp_path / "cpu.json").read_text())
    assert [section["rows"] for section in measured["sections"].values()] == [
        [{"median": 1.0}],
        [{"median": 4.0}],
    ]
    assert {"date", "commit", "numerics"} <= measured["sections"]["one"].keys()
    with pytest.raises(SystemExit):
        command.main(["--device", "cpu", "--only", "three"])
    assert re.search("--only three.* one, two", capsys.readouterr().err)
    monkeypatch.setattr(command, "machine", lambda device: {"device": "another"})
    with pytest.raises(SystemExit):
        command.main(["--device", "cpu", "--only", "one"])
    assert "another machine" in capsys.readouterr().err


MEASURED: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "counterparts": lambda: counterparts("s", CPU, rounds=2),
    "steps": lambda: steps("s", CPU, 2, "float32")[1:],
    "steps in bf16": lambda: steps("s", CPU, 2, "bf16")[1:],
    "parts of monitoring": lambda: monitor_parts(CPU, rounds=2),
    "parts of an epoch": lambda: epoch_parts(CPU, compiled=False, images=256, rounds=2),
    "growth": lambda: growth(CPU, 2, small=True),
    "by channels": lambda: by_channels(CPU, 5, activations=2**18),
    "precisions": lambda: precisions("s", CPU, 2),
    "scripts": lambda: scripts(CPU, rounds=2, images=100, epochs=1),
}


@pytest.mark.slow
@pytest.mark.parametrize("section", MEASURED)
def test_sections_have_medians_within_their_quartiles(section: str) -> None:
    rows = MEASURED[section]()
    assert rows
    for row in rows:
        assert math.isfinite(row["median"])
        assert row.get("low", row["median"]) <= row["median"] <= row.get("high", row["median"])


@pytest.mark.slow
def test_parts_add_up() -> None:
    for row in parts("s", CPU, rounds=1):
        assert sum(row[name] for name in (*PARTS, "the rest")) == pytest.approx(row["all"])
        assert row["entropy and its gradient"] > 0
    shares = {row["part"]: row["median"] for row in monitor_parts(CPU, rounds=2)}
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.slow
def test_whole_runs_are_measured() -> None:
    plain = steps("s", CPU, 2, "float32")[0]
    assert (plain["network"], plain["median"], plain["extra_memory"]) == ("vanillaNet", 1, 0)
    assert [row["n"] for row in accuracies(CPU, seeds=2, epochs=1)] == [2, 2]
    row = whole("sr3Net", "s", CPU, epochs=2, images=128, precision="bf16", compiled=True)
    assert row.pop("seconds") > 0
    assert row.pop("teraflops") > 0
    assert row["compiled"]
    empty, filled = compiling(("s",), rounds=1)
    assert empty["steps"] > max(filled["steps"], 0)  # compiled before: little, as differences of times go


def test_costs_of_jobs_are_those_of_planned_jobs():
    planned = (ROOT / "workflow" / "Snakefile").read_text(encoding="utf-8")
    assert dict(re.findall(r"^(MOST|ENOUGH) = (\d+)", planned, re.MULTILINE)) == {
        "MOST": str(MOST),
        "ENOUGH": str(ENOUGH),
    }
