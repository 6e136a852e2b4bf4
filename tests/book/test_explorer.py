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
from sparsity_lib.explorer.payload import LEVELS
from sparsity_lib.study.analysis import onset
from sparsity_lib.study.runs.results import published_runs

WIDGET = "application/vnd.jupyter.widget-view+json"


def with_images(run: study.Run, change: int) -> study.Run:
    """The run as if it had been shown other images."""
    other = copy.copy(run)
    other.__dict__["root"] = run.root.assign(images=run.root["images"] + np.uint8(change))
    return other


def unpacked(text: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(gzip.decompress(base64.b64decode(text)), np.uint8).reshape(shape)


def levels(maps: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    """Maps (saved_epoch, image, y, x) as bytes."""
    return np.cumsum(unpacked(maps["bytes"], shape), axis=0, dtype=np.uint8)


def page_of(explorer: sl.HeatmapExplorer) -> str:
    return explorer._repr_mimebundle_()[0]["text/html"]


def test_maps_are_the_bytes_of_the_run_files(tiny_runs: list[study.Run]) -> None:
    data = study.explore(tiny_runs, images=16).data
    for run, entry in zip(tiny_runs, data["runs"], strict=True):
        assert [layer["name"] for layer in entry["layers"]] == run.layers
        assert entry["saved"] == run.root["saved_epoch"].to_numpy().tolist()
        with h5py.File(run.path) as file:
            for layer in entry["layers"]:
                stored = file[layer["name"]]["heatmap"]
                maps = layer["maps"]["entropy"]
                np.testing.assert_array_equal(levels(maps, stored.shape), stored[...])
                assert (maps["low"], maps["step"]) == (0, stored.attrs["scale_factor"])


def test_scale_free_maps_are_the_runs_to_half_a_level(tiny_runs: list[study.Run]) -> None:
    for run, entry in zip(tiny_runs, study.explore(tiny_runs, images=16).data["runs"], strict=True):
        for layer in entry["layers"]:
            values = run.layer(layer["name"])["scale_free_heatmap"].to_numpy()
            maps = layer["maps"]["scale_free_entropy"]
            shown = maps["low"] + maps["step"] * levels(maps, values.shape)
            np.testing.assert_allclose(shown, values, atol=0.51 * maps["step"])
            assert maps["step"] <= 1.01 * np.ptp(values) / (LEVELS - 1) or np.ptp(values) == 0


def test_what_is_seen_is_outlined_in_shares(tiny_run: study.Run) -> None:
    first, *_, last = study.explore(tiny_run).data["runs"][0]["layers"]
    for seen in first["seen"].values():  # 3 x 3 of 8 x 8 pixels, padded
        assert seen == [[[max(i - 1, 0) / 8, min(i + 2, 8) / 8] for i in range(8)]] * 2
    assert last["seen"] == {"image": [[[0, 1]]] * 2, "input": [[[0, 1]]] * 2}


def test_a_network_that_cannot_be_built_is_shown_without_outlines(tiny_run: study.Run) -> None:
    elsewhere = copy.copy(tiny_run)
    elsewhere.experiment = tiny_run.experiment.model_copy(update={"network": "nobody:has_it"})
    assert {layer["seen"] for layer in study.explore(elsewhere).data["runs"][0]["layers"]} == {None}


def test_the_moment_of_overfitting_is_the_studys(tiny_runs: list[study.Run]) -> None:
    assert {run["judged"] for run in study.explore(tiny_runs).data["runs"]} == {False}  # of 12 epochs
    (path,) = (path for path in published_runs("laptop") if path.name.startswith("vanillaNet"))
    published = study.load(path)
    (shown,) = study.explore(published).data["runs"]
    assert (shown["onset"], shown["judged"]) == (onset.onset(study.curves([published])).item(), True)


def test_correlations_are_those_of_the_run(tiny_runs: list[study.Run]) -> None:
    norm_net = next(run for run in tiny_runs if "norm1" in run.layers)
    for layer in study.explore(norm_net).data["runs"][0]["layers"]:
        group = norm_net.layer(layer["name"])
        if "correlation_histogram" not in group:
            assert layer["correlation"] is None
            continue
        counts = group["correlation_histogram"].sel(center="filters").to_numpy()  # (epoch, bin)
        found = layer["correlation"]
        words = gzip.decompress(base64.b64decode(found["shares"]))
        shares = np.frombuffer(words, "<u2").reshape(-1, found["bins"]) * (found["top"] / 65535)
        np.testing.assert_allclose(shares.sum(1), 1, atol=2e-3)
        np.testing.assert_allclose(shares[:, 33], counts[:, 99:102].sum(1) / counts.sum(1), atol=1e-4)
        mean = counts @ np.abs(np.linspace(-1, 1, 201)) / counts.sum(1)
        np.testing.assert_allclose(found["mean"], mean, atol=6e-5)


def test_runs_of_before_scale_free_maps_are_shown_without(tiny_run: study.Run) -> None:
    older = copy.copy(tiny_run)
    older.layer = lambda name: tiny_run.layer(name).drop_vars("scale_free_heatmap")  # type: ignore[method-assign]
    assert [*study.explore(older).data["measures"]] == ["entropy"]
    assert [*study.explore(tiny_run).data["measures"]] == ["entropy", "scale_free_entropy"]


def test_equal_images_are_stored_once(tiny_runs: list[study.Run]) -> None:
    data = study.explore([*tiny_runs[:2], with_images(tiny_runs[0], 1)], images=3).data
    assert [run["images"] for run in data["runs"]] == [0, 0, 1]
    pixels = tiny_runs[0].root["images"].to_numpy()[:3]
    for images, change in zip(data["images"], (0, 1), strict=True):
        np.testing.assert_array_equal(unpacked(images["pixels"], pixels.shape), pixels + np.uint8(change))


def test_a_layer_has_one_scale_in_all_runs(tiny_runs: list[study.Run]) -> None:
    runs = study.explore(tiny_runs).data["runs"]
    for measure in ("entropy", "scale_free_entropy"):
        scales = {(layer["name"], *layer["scales"][measure]) for run in runs for layer in run["layers"]}
        assert len(scales) == len({name for name, *_ in scales})
        assert all(low < high for _, low, high in scales)


def test_curves_are_those_of_the_run(tiny_run: study.Run) -> None:
    entry = study.explore(tiny_run).data["runs"][0]
    np.testing.assert_allclose(entry["loss"], tiny_run.root["val_loss"], atol=6e-5)
    expected = tiny_run.layer("conv2")["entropy"].sel(split="monitor")
    np.testing.assert_allclose(entry["layers"][1]["means"]["entropy"], expected, atol=6e-5)


def test_values_that_are_missing_are_null(tiny_run: study.Run) -> None:
    broken = copy.copy(tiny_run)
    broken.__dict__["root"] = tiny_run.root.assign(val_loss=tiny_run.root["val_loss"] * np.nan)
    data = study.explore(broken).data
    assert set(data["runs"][0]["loss"]) == {None}
    json.dumps(data, allow_nan=False)


def test_labels_tell_runs_apart(tiny_runs: list[study.Run]) -> None:
    other = copy.copy(tiny_runs[0])
    noisy, common = "30 % of labels redrawn", "SGD, lr 0.1, 12 epochs"
    for changed, first, setting in (
        ({"limit": 150}, "vanillaNet, seed 1", f"size s, digits, {noisy}, {common}"),
        ({"lr": 0.05}, "vanillaNet, lr 0.1, seed 1", f"size s, digits, {noisy}, SGD, 12 epochs"),
        ({"size": "m"}, "vanillaNet, size s, seed 1", f"digits, {noisy}, {common}"),
    ):
        other.experiment = tiny_runs[0].experiment.model_copy(update=changed)
        data = study.explore([*tiny_runs, other]).data
        labels = [run["label"] for run in data["runs"]]
        assert (labels[1], data["setting"]) == (first, setting)
        assert len(set(labels)) == len(labels)


def test_equal_runs_give_equal_bytes(tiny_runs: list[study.Run]) -> None:
    bundles = [
        study.explore([study.load(run.path) for run in tiny_runs[:3]])._repr_mimebundle_()[0]
        for _ in range(2)
    ]
    for kind in ("text/html", "text/plain"):
        assert bundles[0][kind] == bundles[1][kind]
    assert WIDGET in bundles[0]


def test_page_holds_all_it_needs(tiny_run: study.Run) -> None:
    html = page_of(study.explore(tiny_run))
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
    explorer = study.explore(tiny_run)
    assert (explorer.run, explorer.layer, explorer.image, explorer.epoch) == (0, "conv1", 0, 11)
    assert (explorer.beside, explorer.measure) == (None, "entropy")
    explorer.layer, explorer.image, explorer.epoch = "fc1", 2, -1
    explorer.measure = "scale_free_entropy"
    state = json.loads(re.findall(r'json">(.*?)</script>', page_of(explorer), flags=re.DOTALL)[0])["state"]
    assert (state["layer"], state["image"], state["epoch"]) == ("fc1", 2, -1)
    assert state["measure"] == "scale_free_entropy"
    same = study.explore(tiny_run, layer="fc1", image=2, measure="scale_free_entropy", epoch=-1)
    assert page_of(explorer) == page_of(same)


def test_what_was_refused_is_not_kept(tiny_runs: list[study.Run]) -> None:
    explorer = study.explore(tiny_runs[:2])
    before = explorer.as_html()
    for wish in ({"layer": "nope"}, {"run": 5}, {"run": 1, "layer": "nope"}):  # as a page sends them
        with pytest.raises(ValueError, match="there is no "):
            explorer.set_state(wish)
        explorer.run = 0
        assert explorer.as_html() == before


def test_only_runs_of_the_same_images_stand_side_by_side(tiny_runs: list[study.Run]) -> None:
    explorer = study.explore([*tiny_runs[:2], with_images(tiny_runs[0], 1)], beside=1)
    with pytest.raises(ValueError, match=r"there is no beside 2 to show; there are 0, 1$"):
        explorer.beside = 2
    explorer.run = 2
    assert explorer.beside is None


def test_another_run_settles_on_what_it_has(tiny_runs: list[study.Run]) -> None:
    shorter = copy.copy(tiny_runs[0])
    shorter.__dict__["root"] = tiny_runs[0].root.assign_coords(saved_epoch=np.arange(-14, -1))
    norm_net = next(run for run in tiny_runs if "norm1" in run.layers)
    explorer = study.explore([norm_net, tiny_runs[0], shorter], layer="norm1", image=3)
    explorer.run = 1
    assert (explorer.layer, explorer.image, explorer.epoch) == ("conv1", 3, 11)
    explorer.run = 2
    assert explorer.epoch == -2


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ({"run": 2}, "there is no run 2 to show; there are 0, 1"),
        ({"beside": 2}, "there is no beside 2 to show; there are 0, 1"),
        ({"measure": "sd"}, "no measure 'sd' to show; there are entropy, scale_free_entropy"),
        ({"layer": "conv9"}, "no layer 'conv9' to show; there are conv1, conv2, conv3, conv4, fc1"),
        ({"image": -1}, "no image -1 to show; there are 0, 1,"),
        ({"epoch": 12}, "no epoch 12 to show; there are -1, 0,"),
    ],
)
def test_what_does_not_exist_is_refused(tiny_runs: list[study.Run], shown: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as refusal:
        study.explore(tiny_runs[:2], **shown)
    assert "\n" not in str(refusal.value)
    explorer = study.explore(tiny_runs[:2])
    with pytest.raises(ValueError, match=said):
        explorer.set_trait(*next(iter(shown.items())))
    assert (explorer.run, explorer.layer, explorer.image, explorer.epoch) == (0, "conv1", 0, 11)


def test_runs_are_needed(tiny_run: study.Run) -> None:
    with pytest.raises(ValueError, match=r"^there are no runs to explore; give at least one study.Run$"):
        study.explore([])
    with pytest.raises(ValueError, match=r"^images = 0: show at least one$"):
        study.explore(tiny_run, images=0)
    with pytest.raises(TypeError, match=r"^runs are study.Run objects, not str; study.load opens a file$"):
        study.explore([tiny_run, "a.nc"])


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
    explorer = study.explore([tiny_runs[0], norm_net])
    explorer.comm = comm = Mock(comm_id="a-front-end")
    explorer.epoch = 3
    assert comm.send.call_args.kwargs["data"]["state"] == {"epoch": 3}
    seen: dict[str, Any] = {}
    explorer.observe(lambda change: seen.update({change.name: change.new}), ["run", "layer", "epoch"])
    explorer.set_state({"run": 1, "layer": "norm1"})  # what a page sends
    assert (explorer.run, explorer.layer, explorer.epoch) == (1, "norm1", 3)
    assert seen == {"run": 1, "layer": "norm1"}
