"""Recordings of a user's training loop, from the docstring's example to the page."""

import inspect
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import Visit
from refusals import refused
from small_network import SmallNetwork
from test_explorer import html_of, levels
from torch.nn.functional import cross_entropy

import sparsity_lib as sl
from sparsity_lib import study

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
INPUTS = torch.from_numpy(IMAGES).movedim(-1, 1) / 255
LABELS = torch.tensor([0, 1, 2, 3])


def stats_of(model: torch.nn.Module, maps: int = len(IMAGES)) -> dict[str, sl.LayerStats]:
    with torch.no_grad(), sl.ActivationMonitor(model.eval(), maps=maps) as monitor:
        model(INPUTS)
    return monitor.compute()


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    """The names that the docstring's example defines, after three epochs of a real training."""
    code = re.search(r"```python\n(.*?)```", inspect.getdoc(sl.Recording) or "", flags=re.DOTALL)
    model = SmallNetwork()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def train_one_epoch(model: torch.nn.Module) -> None:
        optimizer.zero_grad()
        cross_entropy(model.train()(INPUTS), LABELS).backward()
        optimizer.step()

    names = {"sl": sl, "torch": torch, "cross_entropy": cross_entropy, "model": model, "images": IMAGES}
    names |= {"x": INPUTS, "y": LABELS, "epochs": 3, "train_one_epoch": train_one_epoch}
    *lines, last = code[1].strip().splitlines()
    exec("\n".join([*lines, f"explorer = {last}"]), names)
    return names


def test_epochs_may_be_numpys_numbers() -> None:
    recording = sl.Recording(IMAGES, onset=np.int64(1))
    for epoch in np.arange(2):
        recording.add(epoch, stats_of(SmallNetwork()))
    explorer = sl.HeatmapExplorer(recording)
    assert (explorer.epoch, explorer.data["runs"][0]["onset"]) == (1, 1)
    assert '"onset": 1' in explorer.as_html()


def test_the_docstrings_loop_fills_a_recording_that_is_drawn(example: dict[str, Any]) -> None:
    recording, data, model = example["recording"], example["explorer"].data, example["model"]
    (run,) = data["runs"]
    assert (run["label"], run["epochs"], run["saved"]) == ("my network", [0, 1, 2], [0, 1, 2])
    assert (run["onset"], run["judged"]) == (None, False)
    expected = stats_of(model)
    assert [layer["name"] for layer in run["layers"]] == [*expected] == [*recording.layers]
    np.testing.assert_allclose(run["loss"][-1], cross_entropy(model(INPUTS), LABELS).item(), atol=6e-5)
    for layer in run["layers"]:
        stats = expected[layer["name"]]
        np.testing.assert_allclose(layer["means"]["entropy"][-1], stats.entropy, atol=6e-5)
        for measure, maps in (("entropy", stats.maps), ("scale_free_entropy", stats.scale_free_maps)):
            shape = (3, len(IMAGES), layer["height"], layer["width"])
            packed = layer["maps"][measure]
            shown = packed["low"] + packed["step"] * levels(packed, shape)[-1]
            np.testing.assert_allclose(shown, maps.reshape(shape[1:]), atol=0.51 * packed["step"])
    json.dumps(data, allow_nan=False)
    assert "my network" in html_of(example["explorer"])


def test_epochs_without_maps_have_curves_alone() -> None:
    model = SmallNetwork()
    recording = sl.Recording(IMAGES)
    for epoch in range(4):
        recording.add(epoch, stats_of(model, maps=0 if epoch % 2 else len(IMAGES)))
    (run,) = sl.HeatmapExplorer(recording).data["runs"]
    assert (run["epochs"], run["saved"]) == ([0, 1, 2, 3], [0, 2])
    assert {len(layer["means"]["entropy"]) for layer in run["layers"]} == {4}
    assert run["loss"] == [None] * 4


def test_all_data_of_a_recording_are_drawn() -> None:
    model = SmallNetwork().eval()
    recording = sl.Recording(IMAGES, "net", list("abcd"), sl.receptive_fields(model, (3, 6, 6)))
    outputs = {"conv1": model.conv1(INPUTS[:2]), "fc1": model.fc1(torch.rand(2, model.fc1.in_features))}
    recording.add(-1, stats_of(model), 1.5, outputs)
    recording.add(0, stats_of(model))
    recording.add(1, stats_of(model), channels=outputs)
    recording.onset = -1
    data = sl.HeatmapExplorer([recording, recording], compare=1, setting="two of one").data
    run = data["runs"][0]
    assert (
        run["layers"][0]["seen"]["image"]
        == [[[round(i / 6, 4), round((i + 3) / 6, 4)] for i in range(4)]] * 2
    )
    assert (data["images"][0]["captions"], run["onset"]) == (list("abcd"), -1)
    assert (len(data["images"]), data["setting"], run["detailed"]) == (1, "two of one", [-1, 1])
    for layer in run["layers"]:
        wanted = outputs.get(layer["name"])
        assert (layer["activations"] is None) == (wanted is None)
        if wanted is not None:
            kept = recording.layers[layer["name"]].activations
            np.testing.assert_array_equal(kept[1].reshape(wanted.shape), wanted.detach())
            assert (layer["activations"]["images"], kept.shape[0]) == (2, 2)


def test_data_that_do_not_fit_are_refused_and_change_nothing() -> None:
    model = SmallNetwork()
    recording = sl.Recording(IMAGES)
    stats = stats_of(model)
    with refused(error=ValueError):
        recording.add(0, stats_of(model, maps=0))
    recording.add(0, stats)
    with torch.no_grad():
        model.conv2.weight[0, 0, 0, 0] = torch.nan
    for given, named in (
        ((0, stats), ["epoch 0"]),
        ((1, {"conv1": stats["conv1"]}), ["norm1, conv2, fc1", "epoch 1"]),
        ((1, stats_of(SmallNetwork(), maps=3)), ["conv1", "3 images", 4]),
        ((1, stats | {"conv2": stats["conv1"]}), ["conv2"]),
        ((1, stats_of(model)), ["conv2", "NaN"]),
        ((1, stats | {"fc1": replace(stats["fc1"], maps=np.full(4, np.nan))}), ["fc1", "mask"]),
        ((1, stats, 1.0, {"conv9": INPUTS}), ["conv1", "conv9"]),
        ((1, stats, 1.0, {"conv1": INPUTS}), ["conv1", "(n, "]),
        ((1, stats, 1.0, {"fc1": torch.full((1, stats["fc1"].channels), torch.inf)}), ["fc1", "infinity"]),
    ):
        with refused(*named, error=ValueError):
            recording.add(*given)
        assert (recording.epochs, recording.saved, len(recording.loss)) == ([0], [0], 1)
        assert {layer.maps["entropy"].shape[0] for layer in recording.layers.values()} == {1}


def test_an_explorer_takes_filled_recordings_of_bytes() -> None:
    for images in (IMAGES / 255, IMAGES[0], IMAGES[..., :2], IMAGES[:0]):
        with refused("uint8 (N, H, W, C)", error=ValueError):
            sl.Recording(images)
    with refused(error=ValueError):
        sl.HeatmapExplorer([])
    with refused("mine", error=ValueError):
        sl.HeatmapExplorer(sl.Recording(IMAGES, "mine"))
    with refused("Recording", "str", error=TypeError):
        sl.HeatmapExplorer(["a.nc"])
    with refused("2 captions", "4 images", error=ValueError):
        sl.Recording(IMAGES, "mine", ["a", "b"])


def test_deprecated_names_warn_and_show_the_same(tiny_runs: list[study.Run]) -> None:
    with pytest.warns(DeprecationWarning, match=r"study\.explore") as caught:
        explorer = sl.HeatmapExplorer(tiny_runs[:2], images=3, compare=1)  # type: ignore[arg-type]
    assert Path(caught[0].filename) == Path(__file__)
    assert explorer.as_html() == study.explore(tiny_runs[:2], images=3, compare=1).as_html()
    with pytest.warns(DeprecationWarning, match=r"study\.image_explorer") as caught:
        of_run = sl.ImageExplorer(tiny_runs[0], layers=["conv1"])
    assert Path(caught[0].filename) == Path(__file__)
    pixels = tiny_runs[0].root["images"].to_numpy()[0]
    same = study.image_explorer(tiny_runs[0], layers=["conv1"])
    for each in (of_run, same):
        each.show(pixels)
    assert of_run.explorer.data == same.explorer.data
    with pytest.warns(DeprecationWarning, match=r"study\.TrainingExplorer"):
        assert sl.TrainingExplorer is study.TrainingExplorer


@pytest.mark.browser
def test_a_page_draws_a_recording(
    example: dict[str, Any], page_of: Callable[..., Path], visit: Visit
) -> None:
    without_loss = sl.Recording(IMAGES, "without loss")
    for epoch in (0, 1):
        without_loss.add(epoch, stats_of(SmallNetwork()))
    explorer = sl.HeatmapExplorer([example["recording"], without_loss], compare=1)
    page = visit(page_of(explorer.as_html()).as_uri())
    page.get_by_role("slider", name="Epoch").wait_for()
    for name in ("my network", "without loss"):
        assert page.get_by_role("application", name=f"Entropy of conv1, {name}").is_visible()
    assert page.get_by_text("Unlabelled", exact=True).first.is_visible()
    page.get_by_role("combobox", name="Network").select_option(index=1)
    page.get_by_role("slider", name="Epoch").fill("0")
    page.get_by_text("Epoch 0 of 1").last.wait_for()
