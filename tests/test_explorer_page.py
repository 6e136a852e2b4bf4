"""The explorer on a page, in a real browser: what it draws, how it is used, and that it asks nobody else."""

import copy
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from browser import Visit, contrast, luminance
from matplotlib import colormaps
from playwright.sync_api import Page

import sparsity_lib as sl
from sparsity_lib import study

pytestmark = pytest.mark.browser

# What the first explorer of a page draws on its canvases: red, green and blue of every pixel.
PIXELS = """(part) => {
  const root = document.querySelector(".sparsity-explorer > div").shadowRoot;
  const { width, height } = root.querySelector(part);
  const { data } = root.querySelector(part).getContext("2d").getImageData(0, 0, width, height);
  return [height, width, Array.from(data).filter((_, i) => i % 4 < 3)];
}"""


@pytest.fixture(scope="module")
def three(tiny_runs: list[study.Run]) -> list[study.Run]:
    """vanillaNet, normNet and sr3Net."""
    return tiny_runs[::2]


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """`written(explorer, ...)` is a page that holds them."""

    def write(*explorers: sl.HeatmapExplorer) -> Path:
        body = "".join(explorer._repr_mimebundle_()[0]["text/html"] for explorer in explorers)
        head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        path = tmp_path / "page.html"
        path.write_text(f'<!doctype html><html lang="en"><head>{head}<title>Page</title></head>{body}</html>')
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


def low(runs: list[study.Run], layer: str) -> float:
    """The entropy, in nats, at which a layer's colours begin, in all runs that have the layer."""
    having = [run.layer(layer) for run in runs if layer in run.layers]
    maps = np.concatenate([group["heatmap"].to_numpy().ravel() for group in having])
    return float(np.percentile(maps, 1, method="lower"))


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
    path = written(sl.HeatmapExplorer(three))
    page = ready(visit(f"{served(path.parent)}/page.html" if over_http else path.as_uri()))
    for run, layer, image, epoch in (
        (0, "conv1", 0, 11),
        (1, "norm1", 3, 4),
        (1, "fc1", 3, 5),
        (2, "conv3", 15, -1),
    ):
        page.get_by_role("combobox", name="Network").select_option(index=run)
        page.get_by_role("radio", name=layer).check()
        page.get_by_role("radio", name=f"Image {image + 1} of 16").check()
        to_epoch(page, epoch)
        group = three[run].layer(layer)
        values = group["heatmap"].sel(saved_epoch=epoch).isel(image=image).to_numpy()
        lowest, highest = low(three, layer), np.log(group.attrs["channels"])
        share = (values.clip(lowest) - lowest) / (highest - lowest)
        expected = colormaps["viridis"]((255 * share + 0.5).astype(int), bytes=True)[..., :3]
        np.testing.assert_array_equal(pixels(page, ".map canvas"), expected)
        shown = three[run].root["images"].to_numpy()[image]
        np.testing.assert_array_equal(pixels(page, ".input canvas"), np.broadcast_to(shown, (8, 8, 3)))
        assert page.get_by_text(f"ln {group.attrs['channels']} = ").text_content() == (
            f"ln {group.attrs['channels']} = {highest:.2f} nats"
        )


def test_keyboard_alone(three: list[study.Run], written: Callable[..., Path], visit: Visit) -> None:
    page = ready(visit(written(sl.HeatmapExplorer(three, epoch=5)).as_uri()))
    keys = page.keyboard
    keys.press("Tab")
    keys.press("ArrowDown")  # network: normNet
    keys.press("Tab")
    keys.press("ArrowRight")  # image: the second
    keys.press("Tab")
    for _ in range(2):
        keys.press("ArrowRight")  # layer: norm1
    redrawn(page)
    keys.press("Tab")
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "ArrowUp", "ArrowLeft", "ArrowLeft"):
        keys.press(key)  # over the map, not past its edge
    values = three[1].layer("norm1")["heatmap"].isel(image=1).sel(saved_epoch=5).to_numpy()
    status = page.get_by_role("status")
    assert status.inner_text().split("\n") == [
        "Row 2 of 8, column 1 of 8",
        f"{values[1, 0]:.2f} nats",
        f"perplexity {np.exp(values[1, 0]):.1f} of {three[1].layer('norm1').attrs['channels']} channels",
    ]
    keys.press("Tab")
    keys.press("Tab")
    keys.press("Home")  # slider
    redrawn(page)
    assert page.get_by_role("slider").get_attribute("aria-valuetext") == "Epoch −1, before training"
    assert page.get_by_text("Epoch −1, before training").is_visible()
    assert status.inner_text().startswith("Mean over the map")


def test_pointer_reads_the_map(three: list[study.Run], written: Callable[..., Path], visit: Visit) -> None:
    page = ready(visit(written(sl.HeatmapExplorer(three, layer="conv3")).as_uri()))
    heat = page.get_by_role("application", name="Entropy of conv3")
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
    page = ready(visit(written(sl.HeatmapExplorer(three)).as_uri()))
    marks = []
    for epoch in (-1, 5, 11):
        to_epoch(page, epoch)
        marks.append(float(page.locator(".loss .now").get_attribute("x1") or "nan"))
        loss = float(three[0].root["val_loss"].sel(epoch=epoch))
        assert page.locator(".loss strong").text_content() == f"{loss:.2f} nats"
        entropy = float(three[0].layer("conv1")["entropy"].sel(split="monitor", epoch=epoch))
        assert page.locator(".entropy strong").text_content() == f"{entropy:.2f} nats"
    assert marks[1] - marks[0] == pytest.approx(marks[2] - marks[1])
    assert page.get_by_role(
        "img", name=re.compile("Validation loss over epochs: from .* lowest")
    ).is_visible()


@pytest.mark.parametrize(("motion", "pause"), [("no-preference", 250), ("reduce", 1000)])
def test_play_goes_to_the_end(
    motion: Any, pause: int, three: list[study.Run], written: Callable[..., Path], visit: Visit
) -> None:
    path = written(sl.HeatmapExplorer(three, epoch=9))
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
    page = ready(visit(written(sl.HeatmapExplorer(three, run=1, layer="norm2")).as_uri()))
    assert page.get_by_role("radio", name="norm2").is_checked()
    page.get_by_role("combobox").select_option(index=0)
    redrawn(page)
    assert page.get_by_role("radio", name="norm2").count() == 0
    assert page.get_by_role("radio", name="conv1").is_checked()
    assert page.get_by_role("application", name="Entropy of conv1").is_visible()


def test_explorers_do_not_interfere(
    three: list[study.Run], written: Callable[..., Path], visit: Visit
) -> None:
    first, second = sl.HeatmapExplorer(three), sl.HeatmapExplorer(three[:1], layer="conv2", epoch=3)
    page = ready(visit(written(first, second, first).as_uri()), count=3)
    to_epoch(page, 7)
    page.get_by_role("radio", name="conv4").first.check()
    page.get_by_role("radio", name="Image 5").first.check()
    said = [slider.get_attribute("aria-valuetext") for slider in page.get_by_role("slider").all()]
    assert said == ["Epoch 7 of 11", "Epoch 3 of 11", "Epoch 11 of 11"]
    for layer, image, place in (("conv4", 5, 0), ("conv2", 1, 1), ("conv1", 1, 2)):
        explorer = page.locator(".sparsity-explorer").nth(place)
        assert explorer.get_by_role("radio", name=layer).is_checked()
        assert explorer.get_by_role("radio", name=f"Image {image} of 16").is_checked()


def test_names_stay_text(tiny_run: study.Run, written: Callable[..., Path], visit: Visit) -> None:
    name = """</script><img src=x onerror="alert('!')"> & 'q' $x$ <b>bold</b>"""
    hostile = copy.copy(tiny_run)
    hostile.classes, hostile.layers = [name] * 10, [name]
    hostile.layer = lambda _: tiny_run.layer("conv1")  # type: ignore[method-assign]
    e = tiny_run.experiment
    fields = SimpleNamespace(**dict(e), strengths=e.strengths, architecture=e.architecture)
    hostile.experiment = fields  # type: ignore[assignment]
    fields.network = fields.dataset_name = name
    dialogs: list[str] = []
    listen = lambda page: page.on("dialog", lambda dialog: dialogs.append(dialog.message))  # noqa: E731
    page = ready(visit(written(sl.HeatmapExplorer(hostile)).as_uri(), prepare=listen))
    assert not dialogs
    assert page.locator("img, b").count() == 0
    assert page.get_by_text(f"Class {name}", exact=True).is_visible()
    assert page.get_by_role("radio", name=name, exact=True).is_checked()
    assert name in (page.get_by_role("combobox").text_content() or "")


def test_phone(three: list[study.Run], written: Callable[..., Path], visit: Visit) -> None:
    size: Any = {"width": 360, "height": 740}
    page = ready(visit(written(sl.HeatmapExplorer(three, run=1)).as_uri(), viewport=size))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for part in page.locator(".explorer *:visible").all():
        box = part.bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360
    assert (
        page.locator(".map canvas").evaluate("(map) => getComputedStyle(map).imageRendering") == "pixelated"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(
    scheme: Any, three: list[study.Run], written: Callable[..., Path], visit: Visit
) -> None:
    page = ready(visit(written(sl.HeatmapExplorer(three)).as_uri(), color_scheme=scheme))
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
            (".loss strong", "color", ".explorer"),
            (".entropy strong", "color", ".explorer"),
            (".curve text", "fill", ".explorer"),
            (".layer label", "color", ".layer label"),
            ("button", "color", "button"),
        ):
            text = page.locator(part).first.evaluate(style, colour)
            assert contrast(text, ground(behind)) > 4.5, (theme, part)


def test_without_scripts(three: list[study.Run], written: Callable[..., Path], visit: Visit) -> None:
    page = visit(written(sl.HeatmapExplorer(three)).as_uri(), java_script_enabled=False)
    still = page.get_by_role("img", name=re.compile("^vanillaNet, size s.* entropy maps of layer conv1"))
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
    explorer = sl.HeatmapExplorer(three[:2])
    explorer.comm = comm = Mock(comm_id="front-end")
    page = visit(written().as_uri(), prepare=lambda page: page.expose_function("send", explorer.set_state))
    names = ["data", "run", "layer", "image", "epoch", "playing"]
    page.evaluate(LIVE, [explorer._esm, explorer.get_state(names)])
    ready(page)

    to_epoch(page, 4)
    page.get_by_role("combobox").select_option(index=1)
    page.get_by_role("radio", name="norm1").check()
    assert (explorer.run, explorer.layer, explorer.epoch) == (1, "norm1", 4)

    comm.reset_mock()
    explorer.epoch = 3
    explorer.run = 0
    for call in comm.send.call_args_list:
        page.evaluate("receive", call.kwargs["data"]["state"])
    redrawn(page)
    assert page.get_by_role("slider").get_attribute("aria-valuetext") == "Epoch 3 of 11"
    assert page.get_by_role("application", name="Entropy of conv1").is_visible()
    page.evaluate("leave()")
    assert page.get_by_role("slider").count() == 0
