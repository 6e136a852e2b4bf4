"""The explorer on a page, in a real browser: what it draws, how it is used, and that it asks nobody else."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import xarray as xr
from accessibility import violations
from browser import Visit, contrast, luminance
from matplotlib import colormaps
from playwright.sync_api import Page

import sparsity_lib as sl
from benchmarks.explorer import measured
from sparsity_lib import study
from sparsity_lib.explorer.payload import LEVELS

pytestmark = pytest.mark.browser

MAPS = {"Entropy": "heatmap", "Scale-free entropy": "scale_free_heatmap"}

# What the first explorer of a page draws on its canvases: red, green and blue of every pixel.
PIXELS = """(part) => {
  const root = document.querySelector(".sparsity-explorer > div").shadowRoot;
  const canvas = [...root.querySelectorAll("canvas")].find((one) => one.matches(part));
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  return [height, width, Array.from(data).filter((_, i) => i % 4 < 3)];
}"""


@pytest.fixture(scope="module")
def three(tiny_runs: list[study.Run]) -> list[study.Run]:
    """vanillaNet, normNet and sr3Net."""
    return tiny_runs[::2]


@pytest.fixture(scope="module")
def older() -> list[study.Run]:
    """LeNet and AlexNet."""
    settings: dict[str, Any] = {"dataset": "digits", "limit": 100, "epochs": 1, "size": "quarter"}
    settings["image_size"] = 16
    return [study.train(study.Experiment(network=network, **settings)) for network in ("LeNet", "AlexNet")]


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """`written(explorer, ...)` is a page that holds them."""

    def write(*explorers: sl.HeatmapExplorer) -> Path:
        body = "".join(explorer.as_html() for explorer in explorers)
        head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        path = tmp_path / "page.html"
        path.write_text(
            f'<!doctype html><html lang="en"><head>{head}<title>Page</title></head>'
            f"<body><main><h1>Page</h1>{body}</main></body></html>"
        )
        return path

    return write


def ready(page: Page, count: int = 1) -> Page:
    page.get_by_role("slider", name="Epoch").nth(count - 1).wait_for()
    return page


def redrawn(page: Page) -> None:
    """Wait for the frame in which a change is drawn."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def pixels(page: Page, part: str) -> np.ndarray:
    height, width, values = page.evaluate(PIXELS, part)
    return np.array(values, np.uint8).reshape(height, width, 3)


def ends(runs: list[study.Run], layer: str, maps: str) -> tuple[float, float]:
    """The values, in nats, at which a layer's colours end, in all runs that have the layer."""
    having = [run.layer(layer) for run in runs if layer in run.layers]
    values = np.concatenate([group[maps].to_numpy()[:, :8].ravel() for group in having])
    low, high = np.percentile(values, [1, 99], method="lower")
    most = np.log(having[0].attrs["channels"])
    high = most if maps == "heatmap" else high
    return min(low, high - 0.05 * most), high


def coloured(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values in nats as matplotlib's viridis paints them: red, green and blue."""
    share = ((values - low) / (high - low)).clip(0, 1)
    return colormaps["viridis"]((255 * share + 0.5).astype(int), bytes=True)[..., :3]


def in_levels(group: xr.Dataset, maps: str) -> xr.DataArray:
    """Scale-free maps in the levels of a page, in nats."""
    low, high = (float(end) for end in (group[maps][:, :8].min(), group[maps][:, :8].max()))
    step = (high - low) / (LEVELS - 1)
    return low + np.rint((group[maps] - low) / step) * step


def to_epoch(page: Page, epoch: int) -> None:
    """Move the slider; all epochs of the tiny runs have maps, the first is -1."""
    page.get_by_role("slider").first.fill(str(epoch + 1))
    redrawn(page)


@pytest.mark.parametrize("over_http", [True, False])
def test_pixels_are_the_runs(
    over_http: bool,
    three: list[study.Run],
    written: Callable[..., Path],
    visit: Visit,
    served: Callable[[Path], str],
) -> None:
    path = written(study.explore(three))
    page = ready(visit(f"{served(path.parent)}/page.html" if over_http else path.as_uri()))
    for run, layer, image, epoch, measure in (
        (0, "conv1", 0, 11, "Entropy"),
        (1, "norm1", 3, 4, "Entropy"),
        (1, "fc1", 3, 5, "Scale-free entropy"),
        (2, "conv3", 6, -1, "Entropy"),
        (2, "conv2", 7, 10, "Scale-free entropy"),
    ):
        page.get_by_role("combobox", name="Network").select_option(index=run)
        page.get_by_role("radio", name=layer).check()
        page.get_by_role("radio", name=f"Image {image + 1} of 8").check()
        page.get_by_role("radio", name=measure, exact=True).check()
        to_epoch(page, epoch)
        group, maps = three[run].layer(layer), MAPS[measure]
        values = group[maps] if measure == "Entropy" else in_levels(group, maps)
        low, high = ends(three, layer, maps)
        expected = coloured(values.sel(saved_epoch=epoch).isel(image=image).to_numpy(), low, high)
        np.testing.assert_array_equal(pixels(page, ".map.first canvas"), expected)
        shown = three[run].root["images"].to_numpy()[image]
        np.testing.assert_array_equal(pixels(page, ".input canvas"), np.broadcast_to(shown, (8, 8, 3)))
        top = f"ln {group.attrs['channels']} =" if measure == "Entropy" else "≥"
        assert page.locator(".labels").inner_text().endswith(f"{top} {high:.2f} nats")


def test_every_map_is_the_runs(three: list[study.Run], written: Callable[..., Path], visit: Visit) -> None:
    """Layers, images and epochs of two networks side by side, pixel by pixel."""
    page = ready(visit(written(study.explore(three, run=0, beside=2)).as_uri()))
    for layer in three[0].layers:
        page.get_by_role("radio", name=layer).check()
        for image in range(0, 8, 3):
            page.get_by_role("radio", name=f"Image {image + 1} of 8").check()
            for epoch in range(-1, 12, 4):
                to_epoch(page, epoch)
                for run, kind in ((three[0], "first"), (three[2], "second")):
                    values = run.layer(layer)["heatmap"].sel(saved_epoch=epoch).isel(image=image).to_numpy()
                    expected = coloured(values, *ends(three, layer, "heatmap"))
                    np.testing.assert_array_equal(pixels(page, f".map.{kind} canvas"), expected)


def test_keyboard_alone(three: list[study.Run], written: Callable[..., Path], visit: Visit) -> None:
    page = ready(visit(written(study.explore(three, epoch=5)).as_uri()))
    keys = page.keyboard
    keys.press("Tab")
    keys.press("ArrowDown")  # network: normNet
    redrawn(page)
    keys.press("Tab")
    keys.press("ArrowDown")  # beside: vanillaNet
    keys.press("Tab")
    keys.press("ArrowRight")  # image: the second
    keys.press("Tab")
    for _ in range(2):
        keys.press("ArrowRight")  # layer: norm1
        redrawn(page)
    keys.press("Tab")
    keys.press("ArrowDown")  # scale-free
    keys.press("ArrowUp")  # and back
    keys.press("Tab")
    keys.press("Tab")
    keys.press("Home")  # slider
    keys.press("ArrowRight")
    redrawn(page)
    assert page.get_by_role("slider").get_attribute("aria-valuetext") == "Epoch 0 of 11"
    assert page.get_by_text("Epoch 0 of 11").first.is_visible()
    keys.press("Tab")
    for key in (
        "ArrowUp",
        "ArrowDown",
        "ArrowDown",
        "ArrowDown",
        "ArrowRight",
        "ArrowUp",
        "ArrowLeft",
        "ArrowLeft",
    ):
        keys.press(key)  # onto the map and over it, not past its edge
    values = three[1].layer("norm1")["heatmap"].isel(image=1).sel(saved_epoch=0).to_numpy()
    status = page.get_by_role("status")
    assert status.inner_text().split("\n") == [
        "Row 3 of 8, column 1 of 8, kept",
        f"{values[2, 0]:.2f} nats",
        f"perplexity {np.exp(values[2, 0]):.1f} of {three[1].layer('norm1').attrs['channels']} channels",
    ]
    assert page.get_by_text("This network has no layer norm1.").is_visible()
    keys.press("Shift+Tab")
    keys.press("End")  # the slider; the position is kept
    redrawn(page)
    values = three[1].layer("norm1")["heatmap"].isel(image=1, saved_epoch=-1).to_numpy()
    assert f"{values[2, 0]:.2f} nats" in status.inner_text()
    keys.press("Tab")
    keys.press("Escape")
    assert status.inner_text().startswith("Mean over the map")


def test_pointer_reads_the_map(three: list[study.Run], written: Callable[..., Path], visit: Visit) -> None:
    page = ready(visit(written(study.explore(three, layer="conv3")).as_uri()))
    heat = page.get_by_role("application", name="Entropy of conv3, vanillaNet")
    box = heat.bounding_box()
    assert box
    values = three[0].layer("conv3")["heatmap"].isel(image=0, saved_epoch=-1).to_numpy()
    heat.hover(position={"x": box["width"] * 0.7, "y": box["height"] * 0.3})
    assert "Row 2 of 4, column 3 of 4" in page.get_by_role("status").inner_text()
    assert f"{values[1, 2]:.2f} nats" in page.get_by_role("status").inner_text()
    page.get_by_role("slider").hover()
    assert f"{values.mean():.2f} nats" in page.get_by_role("status").inner_text()


def test_the_epoch_is_marked_on_the_curves(
    three: list[study.Run], written: Callable[..., Path], visit: Visit
) -> None:
    page = ready(visit(written(study.explore(three)).as_uri()))
    marks = []
    for epoch in (-1, 5, 11):
        to_epoch(page, epoch)
        marks.append(float(page.locator(".loss .now").get_attribute("x1") or "nan"))
        loss = float(three[0].root["val_loss"].sel(epoch=epoch))
        assert page.locator(".loss strong").first.text_content() == f"{loss:.2f} nats"
        entropy = float(three[0].layer("conv1")["entropy"].sel(split="monitor", epoch=epoch))
        assert page.locator(".entropy strong").first.text_content() == f"{entropy:.2f} nats"
    assert marks[1] - marks[0] == pytest.approx(marks[2] - marks[1])
    assert page.get_by_role(
        "img", name=re.compile("Validation loss over epochs. vanillaNet, seed 0: from .* lowest")
    ).is_visible()


@pytest.mark.parametrize(("motion", "pause"), [("no-preference", 250), ("reduce", 1000)])
def test_play_goes_to_the_end(
    motion: Any, pause: int, three: list[study.Run], written: Callable[..., Path], visit: Visit
) -> None:
    path = written(study.explore(three, epoch=9))
    page = ready(visit(path.as_uri(), prepare=lambda page: page.clock.install(time=0), reduced_motion=motion))
    page.clock.pause_at(60)
    said = page.get_by_role("slider")
    page.get_by_role("button", name="Play").click()
    for elapsed, epoch in ((pause - 50, 9), (100, 10), (pause, 11), (pause, 11)):
        page.clock.run_for(elapsed)
        assert said.get_attribute("aria-valuetext") == f"Epoch {epoch} of 11"
    page.get_by_role("button", name="Play").click()  # again, from the start
    page.clock.run_for(pause + 100)
    assert said.get_attribute("aria-valuetext") == "Epoch 0 of 11"
    page.get_by_role("button", name="Pause").click()
    page.clock.run_for(5 * pause)
    assert said.get_attribute("aria-valuetext") == "Epoch 0 of 11"


def test_a_layer_that_the_next_network_lacks(
    three: list[study.Run], written: Callable[..., Path], visit: Visit
) -> None:
    page = ready(visit(written(study.explore(three, run=1, layer="norm2")).as_uri()))
    assert page.get_by_role("radio", name="norm2").is_checked()
    page.get_by_role("combobox", name="Network").select_option(index=0)
    redrawn(page)
    assert page.get_by_role("radio", name="norm2").count() == 0
    assert page.get_by_role("radio", name="conv1").is_checked()
    assert page.get_by_role("application", name="Entropy of conv1").is_visible()


def test_two_networks_share_the_spot_and_the_colours(
    three: list[study.Run], written: Callable[..., Path], visit: Visit
) -> None:
    page = ready(visit(written(study.explore(three[:2], layer="conv3", epoch=4)).as_uri()))
    page.get_by_role("combobox", name="Beside").select_option("normNet, seed 0")
    second = page.get_by_role("application", name="normNet")
    box = second.bounding_box()
    assert box
    second.hover(position={"x": box["width"] * 0.7, "y": box["height"] * 0.3})
    told = page.get_by_role("status").inner_text().split("\n")
    values = [run.layer("conv3")["heatmap"].sel(saved_epoch=4)[0, 1, 2].item() for run in three[:2]]
    assert [line for line in told if "nats" in line] == [f"{value:.2f} nats" for value in values]
    assert [line for line in told if "perplexity" in line] == [
        f"perplexity {np.exp(value):.1f} of 32 channels" for value in values
    ]
    spots = [page.locator(f".map.{kind} .mark").get_attribute("style") for kind in ("first", "second")]
    assert spots[0] == spots[1]
    page.get_by_role("combobox", name="Network").select_option("normNet, seed 0")  # they change places
    redrawn(page)
    assert page.get_by_role("combobox", name="Beside").evaluate("(one) => one.selectedOptions[0].text") == (
        "vanillaNet, seed 0"
    )


def test_maps_of_two_sizes(visit: Visit, written: Callable[..., Path], older: list[study.Run]) -> None:
    """LeNet's conv2 has other positions and channels than AlexNet's: each is read in its own."""
    page = ready(visit(written(study.explore(older, beside=1, layer="conv2")).as_uri()))
    sizes = [run.layer("conv2")["heatmap"].shape[2] for run in older]
    assert sizes[0] != sizes[1]
    for kind, size in zip(("first", "second"), sizes, strict=True):
        heat = page.locator(f".map.{kind} canvas")
        box = heat.bounding_box()
        assert box
        heat.hover(position={"x": box["width"] * 0.9, "y": box["height"] * 0.9})
        told = page.get_by_role("status").inner_text()
        assert f"Row {size} of {size}, column {size} of {size}" in told
        for run, own in zip(older, sizes, strict=True):
            place = int(0.9 * own) if own == size else int((size - 0.5) / size * own)
            value = run.layer("conv2")["heatmap"].isel(image=0, saved_epoch=-1, y=place, x=place).item()
            assert f"{value:.2f} nats" in told
            assert f"of {run.layer('conv2').attrs['channels']} channels" in told


def test_a_click_keeps_the_position_and_lets_go(
    three: list[study.Run], written: Callable[..., Path], visit: Visit
) -> None:
    page = ready(visit(written(study.explore(three)).as_uri(), has_touch=True))
    heat, told = page.locator(".map.first canvas"), page.get_by_role("status")
    for press in (heat.click, heat.tap):
        box = heat.bounding_box()
        assert box
        place: Any = {"x": box["width"] * 0.6, "y": box["height"] * 0.6}
        press(position=place)
        page.get_by_role("slider").hover()
        assert told.inner_text().startswith("Row 5 of 8, column 5 of 8, kept")
        to_epoch(page, 3)
        value = three[0].layer("conv1")["heatmap"].sel(saved_epoch=3).isel(image=0, y=4, x=4).item()
        assert f"{value:.2f} nats" in told.inner_text()
        press(position=place)
        page.get_by_role("slider").hover()
        assert told.inner_text().startswith("Mean over the map")


def test_what_a_position_sees_is_outlined(
    three: list[study.Run], written: Callable[..., Path], visit: Visit
) -> None:
    page = ready(visit(written(study.explore(three, layer="conv2")).as_uri()))
    heat = page.get_by_role("application", name="Entropy of conv2")
    box, image = heat.bounding_box(), page.locator(".input canvas").bounding_box()
    assert box
    assert image
    heat.hover(position={"x": box["width"] * 4.5 / 8, "y": box["height"] * 0.5 / 8})  # row 0, column 4
    for kind, rows, columns in (("proximate", (0, 2), (3, 6)), ("field", (0, 3), (2, 7))):
        mark = page.locator(f".mark.{kind}").bounding_box()
        assert mark
        for axis, size, (first, last) in (("x", "width", columns), ("y", "height", rows)):
            assert mark[axis] - image[axis] == pytest.approx(image[size] * first / 8, abs=1)
            assert mark[size] == pytest.approx(image[size] * (last - first) / 8, abs=1)
    page.get_by_role("slider").hover()
    assert not page.locator(".mark.field").is_visible()


def test_a_click_on_a_curve_goes_to_its_epoch(
    three: list[study.Run], written: Callable[..., Path], visit: Visit
) -> None:
    page = ready(visit(written(study.explore(three)).as_uri()))
    for part, epoch in ((".loss > svg", 3), (".entropy > svg", 8)):
        box = page.locator(part).bounding_box()
        assert box
        share = (34 + 200 * (epoch + 1) / 12) / 240  # the axis goes from -1 to 11
        page.locator(part).click(position={"x": box["width"] * share, "y": box["height"] / 2})
        redrawn(page)
        assert page.get_by_role("slider").get_attribute("aria-valuetext") == f"Epoch {epoch} of 11"


def test_the_moment_of_overfitting_is_told(
    three: list[study.Run], written: Callable[..., Path], visit: Visit
) -> None:
    explorer = study.explore(three, beside=1)
    explorer.data["runs"][0]["onset"] = 5
    explorer.data["runs"][1] |= {"onset": None, "judged": True}
    page = ready(visit(written(explorer).as_uri()))
    told = page.locator(".moments").inner_text()
    assert "epoch 5 (vanillaNet, seed 0)" in told
    assert "none (normNet, seed 0)" in told
    to_epoch(page, 5)
    foot = page.locator(".loss g.moment line")
    assert foot.count() == 1
    assert foot.get_attribute("x1") == page.locator(".loss .now").get_attribute("x1")


def test_the_histogram_is_of_the_epoch_shown(
    three: list[study.Run], written: Callable[..., Path], visit: Visit
) -> None:
    page = ready(visit(written(study.explore(three, run=1, layer="conv2")).as_uri()))
    for epoch in (-1, 11):
        to_epoch(page, epoch)
        counts = three[1].layer("conv2")["correlation_histogram"].sel(center="filters", epoch=epoch)
        mean = float((counts * abs(counts["bin"])).sum() / counts.sum())
        name = f"Histogram of correlations of conv2's filters. normNet, seed 0: mean |c| {mean:.2f}. "
        assert page.get_by_role("img", name=name).is_visible()
    page.get_by_role("radio", name="norm1").check()  # which has no filters
    redrawn(page)
    assert not page.get_by_role("img", name="Histogram").is_visible()


def test_explorers_do_not_interfere(
    three: list[study.Run], written: Callable[..., Path], visit: Visit
) -> None:
    first, second = study.explore(three), study.explore(three[:1], layer="conv2", epoch=3)
    page = ready(visit(written(first, second, first).as_uri()), count=3)
    to_epoch(page, 7)
    page.get_by_role("radio", name="conv4").first.check()
    page.get_by_role("radio", name="Image 5").first.check()
    said = [slider.get_attribute("aria-valuetext") for slider in page.get_by_role("slider").all()]
    assert said == ["Epoch 7 of 11", "Epoch 3 of 11", "Epoch 11 of 11"]
    for layer, image, place in (("conv4", 5, 0), ("conv2", 1, 1), ("conv1", 1, 2)):
        explorer = page.locator(".sparsity-explorer").nth(place)
        assert explorer.get_by_role("radio", name=layer).is_checked()
        assert explorer.get_by_role("radio", name=f"Image {image} of 8").is_checked()


def test_names_stay_text(tiny_run: study.Run, written: Callable[..., Path], visit: Visit) -> None:
    name = """</script><img src=x onerror="alert('!')"> & 'q' $x$ <b>bold</b>"""
    hostile = copy.copy(tiny_run)
    hostile.classes, hostile.layers = [name] * 10, [name]
    hostile.layer = lambda _: tiny_run.layer("conv1")  # type: ignore[method-assign]
    hostile.experiment = tiny_run.experiment.model_copy(update={"network": name, "dataset": name})
    dialogs: list[str] = []
    listen = lambda page: page.on("dialog", lambda dialog: dialogs.append(dialog.message))  # noqa: E731
    page = ready(visit(written(study.explore(hostile)).as_uri(), prepare=listen))
    assert not dialogs
    assert page.locator("img, b").count() == 0
    assert page.get_by_text(f"Class {name}", exact=True).is_visible()
    assert page.get_by_role("radio", name=name, exact=True).is_checked()
    assert name in (page.get_by_role("combobox", name="Network").text_content() or "")
    assert page.get_by_text(f"Maps of the entropy of layer {name}").count() == 0


def test_phone(three: list[study.Run], written: Callable[..., Path], visit: Visit) -> None:
    size: Any = {"width": 360, "height": 740}
    page = ready(visit(written(study.explore(three, run=1, beside=0)).as_uri(), viewport=size))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for part in page.locator(".explorer *:visible").all():
        if not (box := part.bounding_box()):  # a part of a picture that has no extent
            continue
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360
    assert (
        page.locator(".map.first canvas").evaluate("(map) => getComputedStyle(map).imageRendering")
        == "pixelated"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(
    scheme: Any, three: list[study.Run], written: Callable[..., Path], visit: Visit
) -> None:
    page = ready(visit(written(study.explore(three, beside=1)).as_uri(), color_scheme=scheme))
    style = "(part, name) => getComputedStyle(part)[name]"

    def ground(part: str = ".explorer") -> str:
        return page.locator(part).first.evaluate(style, "backgroundColor")

    assert (luminance(ground()) < 0.5) == (scheme == "dark")
    for theme in ("dark", "light"):  # the book's own switch comes first
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        page.wait_for_function(
            "(dark) => document.querySelector(':not(a)[dark]') !== null === dark", arg=theme == "dark"
        )
        assert (luminance(ground()) < 0.5) == (theme == "dark")
        for part, colour, behind in (
            ("output", "color", ".explorer"),
            (".muted", "color", ".explorer"),
            (".loss strong.first", "color", ".explorer"),
            (".loss strong.second", "color", ".explorer"),
            (".curve text", "fill", ".explorer"),
            (".layer label", "color", ".layer label"),
            ("button", "color", "button"),
        ):
            text = page.locator(part).first.evaluate(style, colour)
            assert contrast(text, ground(behind)) > 4.5, (theme, part)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_nothing_is_inaccessible(
    scheme: Any, width: int, three: list[study.Run], written: Callable[..., Path], visit: Visit
) -> None:
    size: Any = {"width": width, "height": 800}
    explorer = study.explore(three, beside=1)
    page = ready(visit(written(explorer).as_uri(), viewport=size, color_scheme=scheme))
    assert not violations(page)
    page.get_by_role("slider").evaluate("(part) => part.after(document.createElement('button'))")
    assert [line.partition(":")[0] for line in violations(page)] == ["button-name (critical)"]


def test_without_scripts(three: list[study.Run], written: Callable[..., Path], visit: Visit) -> None:
    page = visit(written(study.explore(three)).as_uri(), java_script_enabled=False)
    still = page.get_by_role(
        "img", name=re.compile("^vanillaNet, seed 0: maps of the entropy of layer conv1")
    )
    assert still.is_visible()
    assert page.get_by_text("A still picture.").is_visible()


# What anywidget does: a model that sends what is set on it, and receives what Python sets.
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


def test_python_and_page_move_each_other(
    three: list[study.Run], written: Callable[..., Path], visit: Visit
) -> None:
    explorer = study.explore(three[:2])
    explorer.comm = comm = Mock(comm_id="front-end")
    page = visit(written().as_uri(), prepare=lambda page: page.expose_function("send", explorer.set_state))
    names = ["data", "run", "beside", "layer", "image", "measure", "epoch", "playing"]
    page.evaluate(LIVE, [explorer._esm, explorer.get_state(names)])
    ready(page)

    to_epoch(page, 4)
    page.get_by_role("combobox", name="Network").select_option(index=1)
    page.get_by_role("combobox", name="Beside").select_option(index=1)
    page.get_by_role("radio", name="norm1").check()
    page.get_by_role("radio", name="Scale-free").check()
    assert (explorer.run, explorer.layer, explorer.epoch) == (1, "norm1", 4)
    assert (explorer.beside, explorer.measure) == (0, "scale_free_entropy")

    comm.reset_mock()
    explorer.epoch = 3
    explorer.run, explorer.beside, explorer.measure = 0, None, "entropy"
    for call in comm.send.call_args_list:
        page.evaluate("receive", call.kwargs["data"]["state"])
    redrawn(page)
    assert page.get_by_role("slider").get_attribute("aria-valuetext") == "Epoch 3 of 11"
    assert page.get_by_role("application", name="Entropy of conv1, vanillaNet").is_visible()
    assert page.get_by_role("application").count() == 1
    page.evaluate("leave()")
    assert page.get_by_role("slider").count() == 0


@pytest.mark.slow
def test_drawing_is_quick(visit: Visit, tmp_path: Path) -> None:
    """Two networks of five layers, 16 images and 100 epochs: a frame for a move, a second to begin."""
    (tmp_path / "empty.html").write_text('<!doctype html><html lang="en"><title>Empty</title></html>')
    times = measured(visit((tmp_path / "empty.html").as_uri()), tmp_path)
    assert times["redraw_median_ms"] < 16
    assert times["first_ms"] < 1000
