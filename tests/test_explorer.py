"""The explorer in Python: what its data say, what it accepts, and how it stays in step with a page."""

import base64
import copy
import gzip
import importlib
import json
import re
import sys
from typing import Any
from unittest.mock import Mock

import h5py
import numpy as np
import pytest

import sparsity_lib as sl
from sparsity_lib import study

WIDGET = "application/vnd.jupyter.widget-view+json"


def with_images(run: study.Run, change: int) -> study.Run:
    """The run as if it had been shown other images."""
    other = copy.copy(run)
    other.__dict__["root"] = run.root.assign(images=run.root["images"] + np.uint8(change))
    return other


def unpacked(text: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(gzip.decompress(base64.b64decode(text)), np.uint8).reshape(shape)


def page_of(explorer: sl.HeatmapExplorer) -> str:
    return explorer._repr_mimebundle_()[0]["text/html"]


def test_maps_are_the_bytes_of_the_run_files(tiny_runs: list[study.Run]) -> None:
    data = sl.HeatmapExplorer(tiny_runs).data
    for run, entry in zip(tiny_runs, data["runs"], strict=True):
        assert [layer["name"] for layer in entry["layers"]] == run.layers
        assert entry["saved"] == run.root["saved_epoch"].to_numpy().tolist()
        with h5py.File(run.path) as file:
            for layer in entry["layers"]:
                stored = file[layer["name"]]["heatmap"][...]
                differences = unpacked(layer["maps"], stored.shape)
                np.testing.assert_array_equal(np.cumsum(differences, axis=0, dtype=np.uint8), stored)


def test_equal_images_are_stored_once(tiny_runs: list[study.Run]) -> None:
    data = sl.HeatmapExplorer([*tiny_runs[:2], with_images(tiny_runs[0], 1)]).data
    assert [run["images"] for run in data["runs"]] == [0, 0, 1]
    pixels = tiny_runs[0].root["images"].to_numpy()
    for images, change in zip(data["images"], (0, 1), strict=True):
        np.testing.assert_array_equal(unpacked(images["pixels"], pixels.shape), pixels + np.uint8(change))


def test_a_layer_has_one_scale_in_all_runs(tiny_runs: list[study.Run]) -> None:
    runs = sl.HeatmapExplorer(tiny_runs).data["runs"]
    lows = {(layer["name"], layer["low"]) for run in runs for layer in run["layers"]}
    assert len(lows) == len({name for name, _ in lows})
    assert all(low < 255 for _, low in lows)


def test_curves_are_those_of_the_run(tiny_run: study.Run) -> None:
    entry = sl.HeatmapExplorer(tiny_run).data["runs"][0]
    np.testing.assert_allclose(entry["loss"], tiny_run.root["val_loss"], atol=6e-5)
    expected = tiny_run.layer("conv2")["entropy"].sel(split="monitor")
    np.testing.assert_allclose(entry["layers"][1]["entropy"], expected, atol=6e-5)


def test_values_that_are_missing_are_null(tiny_run: study.Run) -> None:
    broken = copy.copy(tiny_run)
    broken.__dict__["root"] = tiny_run.root.assign(val_loss=tiny_run.root["val_loss"] * np.nan)
    data = sl.HeatmapExplorer(broken).data
    assert set(data["runs"][0]["loss"]) == {None}
    json.dumps(data, allow_nan=False)


def test_labels_tell_runs_apart(tiny_runs: list[study.Run]) -> None:
    longer = copy.copy(tiny_runs[0])
    longer.experiment = tiny_runs[0].experiment.model_copy(update={"lr": 0.05})
    labels = [run["label"] for run in sl.HeatmapExplorer([*tiny_runs, longer]).data["runs"]]
    assert labels[1] == "vanillaNet, size s, digits, noise 0.3, seed 1"
    assert len(set(labels)) == len(labels)


def test_equal_runs_give_equal_bytes(tiny_runs: list[study.Run]) -> None:
    bundles = [
        sl.HeatmapExplorer([study.load(run.path) for run in tiny_runs[:3]])._repr_mimebundle_()[0]
        for _ in range(2)
    ]
    for kind in ("text/html", "text/plain"):
        assert bundles[0][kind] == bundles[1][kind]
    assert WIDGET in bundles[0]


def test_page_holds_all_it_needs(tiny_run: study.Run) -> None:
    html = page_of(sl.HeatmapExplorer(tiny_run))
    assert not re.search(r"""(src|href|url|import)\s*[=(]?\s*["']?(https?:)?//""", html)
    picture = re.search(r'alt="([^"]+)" src="data:image/png;base64,([^"]+)"', html)
    assert picture
    assert base64.b64decode(picture[2]).startswith(b"\x89PNG")
    assert "vanillaNet" in picture[1]
    assert "still picture" in html
    data = re.search(r'<script type="application/json">(.*?)</script>', html, flags=re.DOTALL)
    assert data
    assert "<" not in data[1]
    assert json.loads(data[1])["state"]["epoch"] == 11


def test_what_is_shown_can_be_set(tiny_run: study.Run) -> None:
    explorer = sl.HeatmapExplorer(tiny_run)
    assert (explorer.run, explorer.layer, explorer.image, explorer.epoch) == (0, "conv1", 0, 11)
    explorer.layer, explorer.image, explorer.epoch = "fc1", 2, -1
    state = json.loads(re.findall(r'json">(.*?)</script>', page_of(explorer), flags=re.DOTALL)[0])["state"]
    assert (state["layer"], state["image"], state["epoch"]) == ("fc1", 2, -1)
    assert page_of(explorer) == page_of(sl.HeatmapExplorer(tiny_run, layer="fc1", image=2, epoch=-1))


def test_another_run_settles_on_what_it_has(tiny_runs: list[study.Run]) -> None:
    shorter = copy.copy(tiny_runs[0])
    shorter.__dict__["root"] = tiny_runs[0].root.assign_coords(saved_epoch=np.arange(-14, -1))
    norm_net = next(run for run in tiny_runs if "norm1" in run.layers)
    explorer = sl.HeatmapExplorer([norm_net, tiny_runs[0], shorter], layer="norm1", image=3)
    explorer.run = 1
    assert (explorer.layer, explorer.image, explorer.epoch) == ("conv1", 3, 11)
    explorer.run = 2
    assert explorer.epoch == -2


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ({"run": 2}, "there is no run 2 to show; there are 0, 1"),
        ({"layer": "conv9"}, "no layer 'conv9' to show; there are conv1, conv2, conv3, conv4, fc1"),
        ({"image": -1}, "no image -1 to show; there are 0, 1,"),
        ({"epoch": 12}, "no epoch 12 to show; there are -1, 0,"),
    ],
)
def test_what_does_not_exist_is_refused(tiny_runs: list[study.Run], shown: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as refusal:
        sl.HeatmapExplorer(tiny_runs[:2], **shown)
    assert "\n" not in str(refusal.value)
    explorer = sl.HeatmapExplorer(tiny_runs[:2])
    with pytest.raises(ValueError, match=said):
        explorer.set_trait(*next(iter(shown.items())))
    assert (explorer.run, explorer.layer, explorer.image, explorer.epoch) == (0, "conv1", 0, 11)


def test_runs_are_needed(tiny_run: study.Run) -> None:
    with pytest.raises(ValueError, match=r"^there are no runs to explore; give at least one study.Run$"):
        sl.HeatmapExplorer([])
    with pytest.raises(TypeError, match=r"^runs are study.Run objects, not str; study.load opens a file$"):
        sl.HeatmapExplorer([tiny_run, "a.nc"])


@pytest.mark.parametrize("missing", ["anywidget", "matplotlib"])
def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name in [*sys.modules]:
        if name.startswith(("sparsity_lib.explorer", f"{missing}.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(
        ImportError, match=rf"^HeatmapExplorer needs {missing}[^\n]*: pip install \S+ brings it$"
    ):
        importlib.import_module("sparsity_lib.explorer")


def test_python_and_page_keep_in_step(tiny_runs: list[study.Run]) -> None:
    norm_net = next(run for run in tiny_runs if "norm1" in run.layers)
    explorer = sl.HeatmapExplorer([tiny_runs[0], norm_net])
    explorer.comm = comm = Mock(comm_id="a-front-end")
    explorer.epoch = 3
    assert comm.send.call_args.kwargs["data"]["state"] == {"epoch": 3}
    seen: dict[str, Any] = {}
    explorer.observe(lambda change: seen.update({change.name: change.new}), ["run", "layer", "epoch"])
    explorer.set_state({"run": 1, "layer": "norm1"})  # what a page sends
    assert (explorer.run, explorer.layer, explorer.epoch) == (1, "norm1", 3)
    assert seen == {"run": 1, "layer": "norm1"}
