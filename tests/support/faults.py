"""Trials and losses of the fault tests, counted for `benchmarks/faults.json`.

A test marked `fault(FAULT, WHERE)` causes the fault of that key in FAULTS. A test that passes counts as one
trial, or as one per call of the fixture `survived`; one that fails adds a loss. `--fault-report=FILE` writes
the counts as JSON.
"""

import json
import platform
from collections.abc import Callable
from pathlib import Path

import pytest

FAULTS = {
    "killed": (
        "SIGKILL at a random moment",
        "the same command goes on; every array is bit for bit that of an undisturbed run; no lock is left",
    ),
    "stopped": ("SIGTERM and Ctrl-C", "a checkpoint, one line that says how to go on, an exit code not 0"),
    "two processes": (
        "two processes start the same run",
        "one trains, the other says that it waits, and there is one result",
    ),
    "no room": (
        "no space left, or a folder that cannot be written",
        "one line; earlier results are intact; where there is room again, the same command goes on",
    ),
    "damaged": (
        "a truncated file, or a changed bit",
        "noticed by a checksum, named, set aside and made again; nothing of it is in the book",
    ),
    "one fails": (
        "one of many jobs fails",
        "the others finish; a summary names the job, its log and the command that repeats it",
    ),
}

_counts: dict[tuple[str, str], list[int]] = {}  # trials, losses
_skipped: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault-report", metavar="FILE", help="write what the tests of faults tried as JSON")


@pytest.fixture
def survived(request: pytest.FixtureRequest) -> Callable[[], None]:
    """A function to call after each trial with the right outcome."""
    return lambda: request.node.user_properties.append(("survived", 1))


@pytest.fixture(autouse=True)
def _record_fault(request: pytest.FixtureRequest) -> None:
    if marker := request.node.get_closest_marker("fault"):
        fault, where = marker.args
        assert fault in FAULTS
        request.node.user_properties.append(("fault", (fault, where)))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Count a test's trials; properties of tests in other processes come with the report."""
    properties = list(report.user_properties)
    fault = dict(properties).get("fault")
    if fault and report.skipped:
        _skipped.append(report.nodeid)
    if not fault or report.skipped or not (report.when == "call" or report.failed):
        return
    survived = sum(name == "survived" for name, _ in properties)
    trials, losses = _counts.setdefault((fault[0], fault[1]), [0, 0])
    lost = int(report.failed)
    _counts[fault[0], fault[1]] = [trials + (survived or not lost) + lost, losses + lost]


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--fault-report")
    if not path or hasattr(session.config, "workerinput"):
        return
    absent = _skipped + [what for key, (what, _) in FAULTS.items() if key not in {f for f, _ in _counts}]
    if absent:
        print(f"\nerror: {path} was not written, for not everything was tried: {'; '.join(absent)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return
    rows = [
        {"fault": what, "must hold": must, "where": where, "trials": trials, "losses": losses}
        for key, (what, must) in FAULTS.items()
        for (fault, where), (trials, losses) in sorted(_counts.items())
        if fault == key
    ]
    machine = {"system": platform.system(), "python": platform.python_version()}
    Path(path).write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")
