"""Explorers of a running training and of a user's images."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from browser import Visit
from conftest import TINY
from refusals import refused
from test_explorer import html_of, levels
from test_explorer_page import redrawn, to_epoch

from sparsity_lib import study
from sparsity_lib.study.training.loop import EpochRecord

EXPERIMENT = study.Experiment(network="normNet", **TINY | {"epochs": 14})  # 13 is last; 11, 12 are not kept
KEPT = [*range(-1, 11), 13]


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> tuple[study.Run, list[EpochRecord]]:
    """A run, and what was observed while it was trained."""
    records: list[EpochRecord] = []
    return study.train(EXPERIMENT, records.append, tmp_path_factory.mktemp("watched")), records


@pytest.fixture
def records(training: tuple[study.Run, list[EpochRecord]]) -> list[EpochRecord]:
    return training[1]


def saved(explorer: study.TrainingExplorer) -> list[int]:
    return explorer.data["runs"][0]["saved"]


def watched(
    records: list[EpochRecord], explorer: study.TrainingExplorer | None = None
) -> study.TrainingExplorer:
    """An explorer that is drawn after every epoch."""
    explorer = explorer or study.TrainingExplorer(EXPERIMENT, every_seconds=0)
    for record in records:
        explorer._due = 0
        explorer.on_epoch(record)
    return explorer


def test_a_training_is_drawn_epoch_by_epoch(training: tuple[study.Run, list[EpochRecord]]) -> None:
    """At the end it is what the run is, but for what needs each image's loss or the kept networks."""
    run, records = training
    for count in (1, 2, 8, 13, 14):
        (entry,) = watched(records[:count]).data["runs"]
        last = count - 2
        assert entry["epochs"] == list(range(-1, last + 1))
        assert entry["saved"] == [epoch for epoch in range(-1, last + 1) if epoch <= 10 or epoch == last]
        assert len(entry["loss"]) == count
    explorer, expected = watched(records), study.explore(run, images=16)
    (entry,) = expected.data["runs"]
    entry |= {"onset": None, "judged": False, "detailed": []}
    for layer in entry["layers"]:
        layer["activations"] = None
        (own,) = [each for each in explorer.data["runs"][0]["layers"] if each["name"] == layer["name"]]
        shape = (len(KEPT), 16, own["height"], own["width"])
        for measure, steps in {"entropy": 0, "scale_free_entropy": 1}.items():  # the file's are rounded
            ours, theirs = own["maps"].pop(measure), layer["maps"].pop(measure)
            assert ours["low"] == pytest.approx(theirs["low"], abs=1e-6)
            assert np.abs(levels(ours, shape).astype(int) - levels(theirs, shape)).max() <= steps
            np.testing.assert_allclose(own["scales"].pop(measure), layer["scales"].pop(measure), atol=0.02)
    assert explorer.data == expected.data
    kept = explorer._records
    assert [epoch for epoch, record in kept.items() if "conv1/maps" in record] == KEPT
    assert not any(name.startswith("val_image") for record in kept.values() for name in record)


def test_curves_of_a_resumed_training_begin_at_its_first_record(records: list[EpochRecord]) -> None:
    resumed = watched(records[12:])
    assert resumed.data["runs"][0]["epochs"] == [11, 12, 13]
    assert (saved(resumed), resumed.epoch) == ([13], 13)
    assert None not in resumed.data["runs"][0]["loss"]
    assert saved(watched(records[:9] + records[:4])) == [-1, 0, 1, 2]
    assert watched(records[:9] + records[5:]).data == watched(records).data  # from a checkpoint


def test_traits_are_refused_before_the_first_epoch() -> None:
    explorer = study.TrainingExplorer(EXPERIMENT)
    assert html_of(explorer) == ""
    for name, value in {"run": 0, "layer": "conv1", "image": 0, "epoch": -1, "measure": "entropy"}.items():
        with refused(f"{name} {value!r}", error=ValueError):
            explorer.set_trait(name, value)


def test_a_view_of_the_last_epoch_follows_the_training(records: list[EpochRecord]) -> None:
    explorer = watched(records[:5])
    assert (explorer.layer, explorer.epoch) == ("conv1", 3)
    explorer.layer, explorer.epoch = "conv2", 1
    watched(records[5:9], explorer)
    assert (explorer.layer, explorer.epoch) == ("conv2", 1)
    explorer.epoch = 7
    watched(records[9:], explorer)
    assert explorer.epoch == 13
    explorer.set_state({"epoch": 11})  # sent by the page before epoch 13
    assert explorer.epoch == 10
    with refused("epoch 14", error=ValueError):
        explorer.epoch = 14


def test_drawing_keeps_the_given_interval(
    records: list[EpochRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    explorer, now, drawn = study.TrainingExplorer(EXPERIMENT, every_seconds=10), [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for second, record in enumerate(records):
        now[0] = second
        explorer.on_epoch(record)
        drawn.append(saved(explorer)[-1])
    assert drawn == [-1] * 10 + [9] * 4 + [13]  # by the second: at 0, at 10, and at the end
    slow = study.TrainingExplorer(EXPERIMENT, every_seconds=0)
    monkeypatch.setattr(slow, "_redraw", lambda: now.__setitem__(0, now[0] + 5))
    slow.on_epoch(records[0])
    assert slow._due - now[0] == 95  # what takes long is done seldom


# A model as of anywidget: it sends what the page sets, and receives what Python sets.
LIVE = """async ([source, state]) => {
  const events = new EventTarget();
  let changes = {};
  window.receive = (news) => {
    Object.assign(state, news);
    Object.keys(news).forEach((name) => events.dispatchEvent(new Event(`change:${name}`)));
  };
  const model = {
    get: (name) => state[name],
    set(name, value) {
      if (state[name] !== value) receive({ [name]: (changes[name] = value) });
    },
    on: (event, listener) => events.addEventListener(event, listener),
    off: (event, listener) => events.removeEventListener(event, listener),
    save_changes() {
      send(changes);
      changes = {};
    },
  };
  const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const { default: widget } = await import(url);
  widget.initialize({ model });
  window.leave = await widget.render({ model, el: document.body });
}"""
STATE = ["data", "run", "compare", "layer", "image", "measure", "stretched", "epoch", "playing"]


@pytest.mark.browser
def test_the_page_follows_a_training_and_keeps_the_readers_choices(
    records: list[EpochRecord], page_of: Callable[..., Path], visit: Visit
) -> None:
    explorer = study.TrainingExplorer(EXPERIMENT, every_seconds=0)
    explorer.comm = comm = Mock(comm_id="front-end")
    pending: list[dict[str, Any]] = []  # a training process receives nothing
    expose = lambda page: page.expose_function("send", lambda state: pending.append(state))  # noqa: E731
    page = visit(page_of().as_uri(), prepare=expose)
    page.evaluate(LIVE, [explorer._esm, explorer.get_state(STATE)])
    assert page.get_by_role("status").inner_text() == "Waiting for the first epoch."

    def after(count: int) -> None:
        watched(records[len(explorer._records) : count], explorer)
        for call in comm.send.call_args_list:
            page.evaluate("receive", call.kwargs["data"]["state"])
        comm.reset_mock()
        redrawn(page)

    slider = page.get_by_role("slider", name="Epoch", include_hidden=True)
    after(1)
    slider.wait_for(state="attached")
    after(5)
    page.get_by_text("Epoch 3 of 3").last.wait_for()  # it follows
    page.get_by_role("radio", name="conv2").check()
    to_epoch(page, 1)
    slider.focus()
    after(9)
    page.get_by_text("Epoch 1 of 7").last.wait_for()  # it stays
    assert page.get_by_role("radio", name="conv2").is_checked()
    assert slider.evaluate("(one) => one.getRootNode().activeElement === one")
    to_epoch(page, 7)
    after(13)
    page.get_by_text("Epoch 11 of 11").last.wait_for()  # it follows again
    page.get_by_role("radio", name="fc1").check()
    after(15)
    page.get_by_text("Epoch 13 of 13").last.wait_for()
    for state in pending:  # the training is over
        explorer.set_state(state)
    assert explorer.layer == "fc1"
    assert page.get_by_role("radio", name="fc1").is_checked()
    page.evaluate("leave()")
    assert page.get_by_role("slider").count() == 0
