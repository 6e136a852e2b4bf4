"""The explorer in a real browser: what it draws, how it is used, and that it loads nothing else."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from browser import Visit
from matplotlib import colormaps
from playwright.sync_api import Page

from sparsity_lib import study
from sparsity_lib.explorer.payload import LEVELS, STEPS
from sparsity_lib.study.training.observation import layer_outputs

pytestmark = pytest.mark.browser

MAPS = {"Entropy": "heatmap", "Scale-free entropy": "scale_free_heatmap"}
PIXELS = """(canvas) => {
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  return [height, width, Array.from(data)];
}"""


def redrawn(page: Page) -> None:
    """Wait for the frame in which a change is drawn."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def pixels(page: Page, part: str) -> np.ndarray:
    """Red, green, blue and opacity of a canvas, `(y, x, 4)`."""
    height, width, values = page.locator(part).first.evaluate(PIXELS)
    return np.array(values, np.uint8).reshape(height, width, 4)


def coloured(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values in nats as matplotlib's viridis paints them."""
    share = ((values - low) / (high - low)).clip(0, 1)
    return colormaps["viridis"]((255 * share + 0.5).astype(int), bytes=True)


def stretched(runs: list[study.Run], layer: str, maps: str) -> tuple[float, float]:
    """The values, in nats, at which a layer's stretched colours end, in all runs that have the layer."""
    having = [run.layer(layer) for run in runs if layer in run.layers]
    values = np.concatenate([group[maps].to_numpy()[:, :8].ravel() for group in having])
    low, high = np.percentile(values, [1, 99], method="lower")
    most = np.log(having[0].attrs["channels"])
    high = most if maps == "heatmap" else high
    return min(low, high - 0.05 * most), high


def shown_map(run: study.Run, layer: str, image: int, epoch: int, maps: str = "heatmap") -> np.ndarray:
    """A map in nats `(y, x)`; scale-free ones in the levels of a page."""
    group: xr.Dataset = run.layer(layer)
    values = group[maps]
    if maps != "heatmap":
        low, high = (float(end) for end in (values[:, :8].min(), values[:, :8].max()))
        step = (high - low) / (LEVELS - 1)
        values = low + np.rint((values - low) / step) * step
    return values.sel(saved_epoch=epoch).isel(image=image).to_numpy()


def to_epoch(page: Page, epoch: int) -> None:
    """Move the slider; all epochs of the tiny runs have maps, the first is -1."""
    page.get_by_role("slider").first.fill(str(epoch + 1))
    redrawn(page)


@pytest.mark.parametrize("over_http", [True, False])
def test_pixels_are_those_of_the_runs_maps(
    over_http: bool,
    three: list[study.Run],
    page_of: Callable[..., Path],
    visit: Visit,
    served: Callable[[Path], str],
) -> None:
    """On one scale from 0 to ln D for both measures, and stretched on request; one position is a bar."""
    path = page_of(study.explore(three, compare=2).as_html())
    page = visit(f"{served(path.parent)}/page.html" if over_http else path.as_uri())
    for run, layer, image, epoch, measure, stretch in (
        (0, "conv1", 0, 11, "Entropy", False),
        (1, "norm1", 3, 4, "Entropy", True),
        (2, "conv3", 6, -1, "Entropy", False),
        (1, "conv4", 4, 5, "Scale-free entropy", False),
        (0, "conv2", 7, 10, "Scale-free entropy", True),
        (0, "fc1", 2, 3, "Entropy", False),
    ):
        page.get_by_role("combobox", name="Network").select_option(index=run)
        page.get_by_role("radio", name=layer).check()
        page.get_by_role("radio", name=f"Image {image + 1} of 8").check()
        page.get_by_role("radio", name=measure, exact=True).check()
        page.get_by_role("checkbox", name="Stretch colours").set_checked(stretch)
        to_epoch(page, epoch)
        channels = three[run].layer(layer).attrs["channels"]
        ends = stretched(three, layer, MAPS[measure]) if stretch else (0, np.log(channels))
        for each, kind in ((run, "first"), (2, "second")):
            if each == run or (run != 2 and layer in three[2].layers):
                values = shown_map(three[each], layer, image, epoch, MAPS[measure])
                found = pixels(page, f".map.{kind} canvas")
                if values.size == 1:
                    share = values.item() / ends[1]
                    filled = found[0, :, 3] > 0
                    assert filled.mean() == pytest.approx(share, abs=1 / len(filled))
                    assert filled[: filled.sum()].all()
                    found = found[:, :1]
                np.testing.assert_array_equal(found, coloured(values, *ends))
        picture = three[run].root["images"].to_numpy()[image]
        np.testing.assert_array_equal(
            pixels(page, ".input canvas")[..., :3], np.broadcast_to(picture, (8, 8, 3))
        )
        labels = page.locator(".labels").inner_text()
        assert f"{ends[1]:.2f} nats" in labels
        assert (f"ln {channels} = " in labels) == (not stretch or measure == "Entropy")
        assert (f"{ends[0]:.2f}" in labels) == stretch


def test_keyboard_reaches_every_control(three: list[study.Run], opened: Callable[..., Page]) -> None:
    page = opened(three, epoch=5)

    def press(*keys: str) -> None:
        for key in keys:
            page.keyboard.press(key)
            redrawn(page)

    press("Tab", "ArrowDown", "Tab", "ArrowDown")  # network: normNet; compared with vanillaNet
    press("Tab", "ArrowRight", "Tab", "ArrowRight", "ArrowRight")  # the second image, norm1
    press("Tab", "ArrowDown", "ArrowUp", "Tab", "Space", "Space")  # scale-free, stretched, and back
    press("Tab", "Tab", "Home", "ArrowRight")  # over Play to the slider
    assert page.get_by_role("slider").get_attribute("aria-valuetext") == "Epoch 0 of 11"
    assert page.get_by_text("Epoch 0 of 11").first.is_visible()
    press(
        "Tab", "ArrowUp", *["ArrowDown"] * 3, "ArrowRight", "ArrowUp", *["ArrowLeft"] * 2
    )  # not past the edge
    value = shown_map(three[1], "norm1", 1, 0)[2, 0]
    status = page.get_by_role("status")
    channels = three[1].layer("norm1").attrs["channels"]
    assert status.inner_text().split("\n") == [
        "Row 3 of 8, column 1 of 8, kept",
        f"{value:.2f} nats",
        f"perplexity {np.exp(value):.1f} of {channels} channels",
    ]
    assert page.get_by_text("This network has no layer norm1.").is_visible()
    press("Shift+Tab", "End")  # the slider; the position is kept
    assert f"{shown_map(three[1], 'norm1', 1, 11)[2, 0]:.2f} nats" in status.inner_text()
    press("Tab", "Escape")
    assert status.inner_text().startswith("Mean over the map")


def test_a_position_is_read_kept_and_released(three: list[study.Run], opened: Callable[..., Page]) -> None:
    page = opened(three, layer="conv2", browser={"has_touch": True})
    heat, status = (
        page.get_by_role("application", name="Entropy of conv2, vanillaNet"),
        page.get_by_role("status"),
    )
    box, image = heat.bounding_box(), page.locator(".input canvas").bounding_box()
    heat.hover(position={"x": box["width"] * 4.5 / 8, "y": box["height"] * 0.5 / 8})  # row 0, column 4
    assert f"{shown_map(three[0], 'conv2', 0, 11)[0, 4]:.2f} nats" in status.inner_text()
    for kind, rows, columns in (("proximate", (0, 2), (3, 6)), ("field", (0, 3), (2, 7))):
        mark = page.locator(f".mark.{kind}").bounding_box()
        for axis, size, (first, last) in (("x", "width", columns), ("y", "height", rows)):
            assert mark[axis] - image[axis] == pytest.approx(image[size] * first / 8, abs=1)
            assert mark[size] == pytest.approx(image[size] * (last - first) / 8, abs=1)
    page.get_by_role("slider").hover()
    assert not page.locator(".mark.field").is_visible()
    assert f"{shown_map(three[0], 'conv2', 0, 11).mean():.2f} nats" in status.inner_text()
    place: Any = {"x": box["width"] * 0.6, "y": box["height"] * 0.6}
    for epoch, press in ((3, heat.click), (7, heat.tap)):
        press(position=place)
        to_epoch(page, epoch)
        assert status.inner_text().startswith("Row 5 of 8, column 5 of 8, kept")
        assert f"{shown_map(three[0], 'conv2', 0, epoch)[4, 4]:.2f} nats" in status.inner_text()
        press(position=place)
        page.get_by_role("slider").hover()
        assert status.inner_text().startswith("Mean over the map")


def test_channels_at_the_position_are_those_of_the_network(
    three: list[study.Run], opened: Callable[..., Page]
) -> None:
    """Raw and at unit variance, at the kept epoch nearest to the one shown, which the chart names."""
    page = opened(three[:2], layer="conv2", image=1, compare=1)
    heat = page.locator(".map.first canvas")
    box = heat.bounding_box()
    heat.click(position={"x": box["width"] * 6.5 / 8, "y": box["height"] * 2.5 / 8})
    kept = [int(epoch) for epoch in three[0].root["moment_epoch"].sel(moment=["lowest_loss", "last"])]
    for epoch, moment in ((11, "last"), (-1, "lowest_loss")):
        to_epoch(page, epoch)
        alt = page.locator(".channels svg[role=img]").get_attribute("aria-label") or ""
        assert "row 3, column 7" in alt
        for run, kind in zip(three, ("first", "second"), strict=False):
            model, prepare = study.trained_network(run, moment)  # type: ignore[arg-type]
            images = run.root["images"].to_numpy()[1:2]
            inputs = prepare(torch.from_numpy(images).movedim(-1, 1))
            vector = layer_outputs(model, ["conv2"], inputs)["conv2"][0, :, 2, 6].numpy()
            sd = page.locator(f".channels strong.{kind}").inner_text().removeprefix("SD ")
            assert float(sd) == pytest.approx(vector.std(), abs=float(np.abs(vector).max()) / STEPS / 2)
            raw, unit = (
                page.locator(f".channels .area.{kind}").nth(row).get_attribute("d") or "" for row in (0, 1)
            )
            assert raw.count("H") == unit.count("H") == len(vector)
            heights = [float(y) for y in re.findall(r"V([\d.]+)H", raw)]
            assert heights == sorted(heights)  # the largest first
        assert f"epoch {kept[moment == 'last']}" in alt or len({*kept}) < 2
    page.get_by_role("radio", name="Image 8").check()  # of which no activations are kept
    redrawn(page)
    assert not page.locator(".channels").is_visible()


def test_curves_mark_the_epoch_and_go_to_it(three: list[study.Run], opened: Callable[..., Page]) -> None:
    page = opened(three)
    marks = []
    for epoch in (-1, 5, 11):
        to_epoch(page, epoch)
        marks.append(float(page.locator(".loss .now").get_attribute("x1") or "nan"))
        loss = float(three[0].root["val_loss"].sel(epoch=epoch))
        assert page.locator(".loss strong").first.text_content() == f"{loss:.2f} nats"
        entropy = float(three[0].layer("conv1")["entropy"].sel(split="monitor", epoch=epoch))
        assert page.locator(".entropy strong").first.text_content() == f"{entropy:.2f} nats"
    assert marks[1] - marks[0] == pytest.approx(marks[2] - marks[1])
    name = re.compile("Validation loss over epochs. vanillaNet, seed 0: from .* lowest")
    assert page.get_by_role("img", name=name).is_visible()
    for part, epoch in ((".loss > svg", 3), (".entropy > svg", 8)):
        box = page.locator(part).bounding_box()
        share = (marks[0] + (marks[2] - marks[0]) * (epoch + 1) / 12) / 240  # the axis goes from -1 to 11
        page.locator(part).click(position={"x": box["width"] * share, "y": box["height"] / 2})
        redrawn(page)
        assert page.get_by_role("slider").get_attribute("aria-valuetext") == f"Epoch {epoch} of 11"


def test_epochs_and_moments_are_marked(three: list[study.Run], opened: Callable[..., Page]) -> None:
    explorer = study.explore(three, compare=1)
    explorer.data["runs"][0]["onset"] = 5
    explorer.data["runs"][1] |= {"onset": None, "judged": True}
    page = opened(explorer)
    text = page.locator(".moments").inner_text()
    assert "epoch 5 (vanillaNet, seed 0)" in text
    assert "none (normNet, seed 0)" in text
    to_epoch(page, 5)
    foot = page.locator(".loss g.moment line")
    assert foot.count() == 1
    assert foot.get_attribute("x1") == page.locator(".loss .now").get_attribute("x1")
    labels = page.locator(".slider-marks span").all_inner_texts()
    assert (labels[0], labels[-1]) == ("−1", "11")
    assert "5" in labels
    marks = [one.bounding_box() for one in page.locator(".slider-marks > *").all()]
    at = [mark["x"] + mark["width"] / 2 for mark in marks]
    assert at[labels.index("5")] == pytest.approx(at[-1], abs=1)  # the triangle


@pytest.mark.parametrize(("motion", "pause"), [("no-preference", 250), ("reduce", 1000)])
def test_play_rests_where_the_entropy_changes(
    motion: Any, pause: int, three: list[study.Run], opened: Callable[..., Page]
) -> None:
    explorer = study.explore(three, epoch=-1)
    layer = explorer.data["runs"][0]["layers"][0]
    layer["means"]["entropy"] = [2.0] * 6 + [1.0] * 7  # all of it from epoch 4 to 5
    clock = {"prepare": lambda page: page.clock.install(time=0), "reduced_motion": motion}
    page = opened(explorer, browser=clock)
    page.clock.pause_at(60)
    slider = page.get_by_role("slider")
    page.get_by_role("button", name="Play").click()
    times: dict[str, int] = {}
    for _ in range(40):
        page.clock.run_for(pause // 4)
        text = slider.get_attribute("aria-valuetext") or ""
        times[text] = times.get(text, 0) + 1
    longest = max(list(times)[:-1], key=lambda text: times[text])
    assert longest == "Epoch 4 of 11"
    assert times[longest] > 3 * max(times[f"Epoch {epoch} of 11"] for epoch in (1, 2, 3, 6, 7))
    assert list(times)[-1] == "Epoch 11 of 11"
    page.get_by_role("button", name="Play").click()  # again, from the start
    page.clock.run_for(40)  # a frame
    page.get_by_role("button", name="Pause").click()
    page.clock.run_for(5 * pause)
    assert slider.get_attribute("aria-valuetext") == "Epoch −1, before training"


def test_networks_exchange_places_and_may_lack_a_layer(
    three: list[study.Run], opened: Callable[..., Page]
) -> None:
    page = opened(three[:2], compare=1)
    page.get_by_role("combobox", name="Network").select_option("normNet, seed 0")
    redrawn(page)
    text = "(one) => one.selectedOptions[0].text"
    assert page.get_by_role("combobox", name="Compare").evaluate(text) == "vanillaNet, seed 0"
    page.get_by_role("radio", name="norm2").check()
    page.get_by_role("combobox", name="Network").select_option("vanillaNet, seed 0")  # which has no norm2
    redrawn(page)
    assert page.get_by_role("radio", name="norm2").count() == 0
    assert page.get_by_role("radio", name="conv1").is_checked()
    assert page.get_by_role("application", name="Entropy of conv1, vanillaNet").is_visible()


@pytest.mark.slow
def test_maps_of_two_sizes_are_read_in_their_own_positions(opened: Callable[..., Page]) -> None:
    """LeNet's conv2 has other positions and channels than AlexNet's: each is read in its own."""
    settings: Any = {"dataset": "digits", "limit": 100, "epochs": 1, "size": "quarter", "image_size": 16}
    older = [study.train(study.Experiment(network=network, **settings)) for network in ("LeNet", "AlexNet")]
    page = opened(older, compare=1, layer="conv2")
    sizes = [run.layer("conv2")["heatmap"].shape[2] for run in older]
    assert sizes[0] != sizes[1]
    for kind, size in zip(("first", "second"), sizes, strict=True):
        heat = page.locator(f".map.{kind} canvas")
        box = heat.bounding_box()
        heat.hover(position={"x": box["width"] * 0.9, "y": box["height"] * 0.9})
        text = page.get_by_role("status").inner_text()
        assert f"Row {size} of {size}, column {size} of {size}" in text
        spots = [page.locator(f".map.{one} .mark").bounding_box() for one in ("first", "second")]
        assert all(spots)
        for run, own in zip(older, sizes, strict=True):
            place = int(0.9 * own) if own == size else int((size - 0.5) / size * own)
            assert f"{shown_map(run, 'conv2', 0, 0)[place, place]:.2f} nats" in text
            assert f"of {run.layer('conv2').attrs['channels']} channels" in text


def test_explorers_do_not_interfere(three: list[study.Run], opened: Callable[..., Page]) -> None:
    first, second = study.explore(three), study.explore(three[:1], layer="conv2", epoch=3)
    page = opened(first, second, first)
    to_epoch(page, 7)
    page.get_by_role("radio", name="conv4").first.check()
    page.get_by_role("radio", name="Image 5").first.check()
    epochs = [slider.get_attribute("aria-valuetext") for slider in page.get_by_role("slider").all()]
    assert epochs == ["Epoch 7 of 11", "Epoch 3 of 11", "Epoch 11 of 11"]
    for layer, image, place in (("conv4", 5, 0), ("conv2", 1, 1), ("conv1", 1, 2)):
        explorer = page.locator(".sparsity-explorer").nth(place)
        assert explorer.get_by_role("radio", name=layer).is_checked()
        assert explorer.get_by_role("radio", name=f"Image {image} of 8").is_checked()
