"""The explorer in Python: what its data hold, what it accepts, and how it keeps in step with a page."""

import base64
import copy
import gzip
import importlib
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from refusals import refused
from torch import Tensor, nn

import sparsity_lib as sl
from sparsity_lib import study
from sparsity_lib.explorer.payload import LEVELS
from sparsity_lib.functional import rfav_entropy
from sparsity_lib.study.analysis import onset
from sparsity_lib.study.explorers import recordings_of
from sparsity_lib.study.runs.results import published_runs

WIDGET = "application/vnd.jupyter.widget-view+json"


def with_images(run: study.Run, change: int) -> study.Run:
    """The run as if it had been shown other images."""
    other = copy.copy(run)
    other.__dict__["root"] = run.root.assign(images=run.root["images"] + np.uint8(change))
    return other


def unpacked(text: str, shape: tuple[int, ...], kind: Any = np.uint8) -> np.ndarray:
    return np.frombuffer(gzip.decompress(base64.b64decode(text)), kind).reshape(shape)


def levels(maps: dict[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    """Maps (saved_epoch, image, y, x) as bytes."""
    return np.cumsum(unpacked(maps["bytes"], shape), axis=0, dtype=np.uint8)


def html_of(explorer: sl.HeatmapExplorer) -> str:
    return explorer._repr_mimebundle_()[0]["text/html"]


def state_of(html: str) -> dict[str, Any]:
    return json.loads(re.findall(r'json">(.*?)</script>', html, flags=re.DOTALL)[0])["state"]


def test_maps_and_curves_are_those_of_the_run_files(tiny_runs: list[study.Run]) -> None:
    """Entropy maps to the byte, scale-free ones to half a level, curves to four decimals."""
    data = study.explore(tiny_runs, images=16).data
    for run, entry in zip(tiny_runs, data["runs"], strict=True):
        assert [layer["name"] for layer in entry["layers"]] == run.layers
        assert entry["saved"] == run.root["saved_epoch"].to_numpy().tolist()
        np.testing.assert_allclose(entry["loss"], run.root["val_loss"], atol=6e-5)
        with h5py.File(run.path) as file:
            for layer in entry["layers"]:
                stored, group = file[layer["name"]]["heatmap"], run.layer(layer["name"])
                maps, scale_free = (layer["maps"][name] for name in ("entropy", "scale_free_entropy"))
                np.testing.assert_array_equal(levels(maps, stored.shape), stored[...])
                assert (maps["low"], maps["step"]) == (0, stored.attrs["scale_factor"])
                values = group["scale_free_heatmap"].to_numpy()
                shown = scale_free["low"] + scale_free["step"] * levels(scale_free, values.shape)
                np.testing.assert_allclose(shown, values, atol=0.51 * scale_free["step"])
                assert scale_free["step"] <= 1.01 * np.ptp(values) / (LEVELS - 1) or np.ptp(values) == 0
                expected = group["entropy"].sel(split="monitor")
                np.testing.assert_allclose(layer["means"]["entropy"], expected, atol=6e-5)


def test_activations_are_those_of_the_kept_networks(tiny_run: study.Run) -> None:
    """A run's file has the activations of two images in float16's precision."""
    entry = study.explore(tiny_run).data["runs"][0]
    moments = tiny_run.root["moment_epoch"].sel(moment=["lowest_loss", "last"])
    assert entry["detailed"] == moments.to_numpy().tolist()
    for layer in entry["layers"]:
        stored = np.moveaxis(tiny_run.layer(layer["name"])["activations"].to_numpy(), 2, -1)
        stored = stored.reshape(*stored.shape[:2], layer["height"], layer["width"], -1)
        found = layer["activations"]
        shape = (2, found["images"], *stored.shape[2:])
        largest = unpacked(found["largest"], shape[:-1], "<u2")[..., None] * (found["top"] / 65535)
        shown = unpacked(found["levels"], shape, np.int8) * largest / found["steps"]
        assert (np.abs(shown[:, :2] - stored) <= largest[:, :2] * 0.51 / found["steps"] + 1e-2).all()


class ChannelsLast(nn.Module):
    """A convolution, and linear layers on its output with channels last, as an image and as a sequence."""

    def __init__(self, in_channels: int, image_size: tuple[int, int], classes: int) -> None:
        super().__init__()
        self.conv, self.square = nn.Conv2d(in_channels, 6, 3, stride=2), nn.Linear(6, 10)
        self.sequence, self.head = nn.Linear(10, 7), nn.Linear(7, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.square(self.conv(x).permute(0, 2, 3, 1))
        return self.head(self.sequence(x.flatten(1, 2)).mean(1))


def test_activations_with_channels_last_are_of_the_maps(tmp_path: Path) -> None:
    own = study.Experiment(network=f"{__name__}:ChannelsLast", dataset="digits", limit=100, epochs=1)
    (recording,), _ = recordings_of([study.train(own, folder=tmp_path)])
    for name, shape in (("conv", (6, 3, 3)), ("square", (10, 3, 3)), ("sequence", (7, 9, 1))):
        layer = recording.layers[name]
        assert layer.activations.shape == (2, 4, *shape)
        entropy = rfav_entropy(torch.from_numpy(layer.activations[-1]))
        step = math.log(shape[0]) / 255  # of maps, which are bytes
        np.testing.assert_allclose(layer.maps["entropy"][-1, :4], entropy, atol=0.51 * step)


def test_receptive_fields_are_outlined_in_shares(tiny_run: study.Run) -> None:
    first, *_, last = study.explore(tiny_run).data["runs"][0]["layers"]
    for seen in first["seen"].values():  # 3 x 3 of 8 x 8 pixels, padded
        assert seen == [[[max(i - 1, 0) / 8, min(i + 2, 8) / 8] for i in range(8)]] * 2
    assert last["seen"] == {"image": [[[0, 1]]] * 2, "input": [[[0, 1]]] * 2}


def test_quantities_that_a_run_lacks_are_left_out(tiny_run: study.Run) -> None:
    """Outlines and channels without a network that can be built; older maps; losses that are not finite."""
    run = copy.copy(tiny_run)
    run.experiment = tiny_run.experiment.model_copy(update={"network": "nobody:has_it"})
    run.layer = lambda name: tiny_run.layer(name).drop_vars("scale_free_heatmap")  # type: ignore[method-assign]
    run.__dict__["root"] = tiny_run.root.assign(val_loss=tiny_run.root["val_loss"] * np.nan)
    data = study.explore(run).data
    (entry,) = data["runs"]
    assert {layer[part] for layer in entry["layers"] for part in ("seen", "activations")} == {None}
    assert [*data["measures"]] == ["entropy"]
    assert set(entry["loss"]) == {None}
    json.dumps(data, allow_nan=False)
    assert [*study.explore(tiny_run).data["measures"]] == ["entropy", "scale_free_entropy"]


def test_the_moment_of_overfitting_is_the_studys(tiny_runs: list[study.Run]) -> None:
    assert {run["judged"] for run in study.explore(tiny_runs).data["runs"]} == {False}  # of 12 epochs
    (path,) = (path for path in published_runs("laptop") if path.name.startswith("vanillaNet"))
    published = study.load(path)
    (shown,) = study.explore(published).data["runs"]
    assert (shown["onset"], shown["judged"]) == (onset.onset(study.curves([published])).item(), True)


def test_runs_share_images_and_ends_of_colours(tiny_runs: list[study.Run]) -> None:
    data = study.explore([*tiny_runs[:2], with_images(tiny_runs[0], 1)], images=3).data
    assert [run["images"] for run in data["runs"]] == [0, 0, 1]
    pixels = tiny_runs[0].root["images"].to_numpy()[:3]
    for images, change in zip(data["images"], (0, 1), strict=True):
        np.testing.assert_array_equal(unpacked(images["pixels"], pixels.shape), pixels + np.uint8(change))
    for measure in data["measures"]:
        layers = [layer for run in data["runs"] for layer in run["layers"]]
        scales = {(layer["name"], *layer["scales"][measure]) for layer in layers}
        assert len(scales) == len({name for name, *_ in scales})
        assert all(low < high for _, low, high in scales)


def test_as_many_images_are_shown_as_all_runs_have(tiny_run: study.Run) -> None:
    published = study.load(published_runs("laptop")[0])
    assert published.root.sizes["image"] < tiny_run.root.sizes["image"]
    data = study.explore([tiny_run, published]).data
    assert {len(images["captions"]) for images in data["images"]} == {published.root.sizes["image"]}


def test_labels_distinguish_runs(tiny_runs: list[study.Run]) -> None:
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


def test_a_page_holds_all_it_needs_and_equal_runs_give_equal_bytes(tiny_runs: list[study.Run]) -> None:
    one, other = (
        study.explore([study.load(run.path) for run in tiny_runs[:3]])._repr_mimebundle_()[0] for _ in "ab"
    )
    assert WIDGET in one
    assert all(one[kind] == other[kind] for kind in ("text/html", "text/plain"))
    html = one["text/html"]
    assert not re.search(r"""(src|href|url|import)\s*[=(]?\s*["']?(https?:)?//""", html)
    picture = re.search(r'alt="([^"]+)" src="data:image/png;base64,([^"]+)"', html)
    assert base64.b64decode(picture[2]).startswith(b"\x89PNG")
    assert "vanillaNet" in picture[1]
    data = re.search(r'<script type="application/json">(.*?)</script>', html, flags=re.DOTALL)
    assert "<" not in data[1]
    assert state_of(html)["epoch"] == 11


def test_traits_set_the_view(tiny_run: study.Run) -> None:
    explorer = study.explore(tiny_run)
    names = ("run", "layer", "image", "epoch", "compare", "measure", "stretched")
    assert [getattr(explorer, name) for name in names] == [0, "conv1", 0, 11, None, "entropy", False]
    wish = {"layer": "fc1", "image": 2, "epoch": -1, "measure": "scale_free_entropy", "stretched": True}
    for name, value in wish.items():
        setattr(explorer, name, value)
    assert wish.items() <= state_of(html_of(explorer)).items()
    assert html_of(explorer) == html_of(study.explore(tiny_run, **wish))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shown", "known"),
    [
        ({"run": 2}, "0, 1"),
        ({"compare": 2}, "0, 1"),
        ({"measure": "sd"}, "entropy, scale_free_entropy"),
        ({"layer": "conv9"}, "conv1, conv2, conv3, conv4, fc1"),
        ({"image": -1}, "0, 1,"),
        ({"epoch": 12}, "-1, 0,"),
    ],
)
def test_unknown_values_are_refused(tiny_runs: list[study.Run], shown: dict[str, Any], known: str) -> None:
    with refused(*shown, *shown.values(), known, error=ValueError):
        study.explore(tiny_runs[:2], **shown)
    explorer = study.explore(tiny_runs[:2])
    before = explorer.as_html()
    for wish in (shown, {"run": 1} | shown):  # as a page sends them
        with refused(error=ValueError):
            explorer.set_state(wish)
        explorer.run = 0
        assert explorer.as_html() == before


def test_changing_the_run_keeps_choices_that_it_has(tiny_runs: list[study.Run]) -> None:
    shorter = with_images(tiny_runs[0], 1)
    shorter.__dict__["root"] = shorter.root.assign_coords(saved_epoch=np.arange(-14, -1))
    norm_net = next(run for run in tiny_runs if "norm1" in run.layers)
    explorer = study.explore([norm_net, tiny_runs[0], shorter], layer="norm1", image=3, compare=1)
    with refused("compare 2", "0, 1", error=ValueError):
        explorer.compare = 2  # of other images
    explorer.run = 1
    assert (explorer.layer, explorer.image, explorer.epoch, explorer.compare) == ("conv1", 3, 11, 1)
    explorer.run = 2
    assert (explorer.epoch, explorer.compare) == (-2, None)


def test_images_and_runs_are_checked(tiny_run: study.Run) -> None:
    nothing = study.explore([], compare=1)
    assert nothing.data["waiting"]
    assert nothing.as_html() == ""
    with refused("images = 0", error=ValueError):
        study.explore(tiny_run, images=0)
    with refused("study.Run", "str", "study.load", error=TypeError):
        study.explore([tiny_run, "a.nc"])


@pytest.mark.parametrize("missing", ["anywidget", "matplotlib"])
def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name in [*sys.modules]:
        if name.startswith(("sparsity_lib.explorer", f"{missing}.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with refused(missing, "pip install 'sparsity-lib[explorer]'", error=ImportError):
        importlib.import_module("sparsity_lib.explorer")
