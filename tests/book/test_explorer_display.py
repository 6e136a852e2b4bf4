"""The explorer on a phone, in both themes, without scripts, and the time that drawing takes."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from accessibility import violations
from browser import Visit, contrast, luminance
from explorer_speed import measured
from playwright.sync_api import Page

from sparsity_lib import study

pytestmark = pytest.mark.browser


def test_a_phone_shows_play_maps_and_curves_on_one_screen(
    three: list[study.Run], opened: Callable[..., Page]
) -> None:
    """Nothing is wider than the screen, and Play, maps and curves are on one."""
    page = opened(three, run=1, compare=0, browser={"viewport": {"width": 360, "height": 740}})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for part in page.locator(".explorer *:visible").all():
        if box := part.bounding_box():  # a part of a picture may have no extent
            assert 0 <= box["x"] <= box["x"] + box["width"] <= 360
    tops, bottoms = zip(
        *(
            (box["y"], box["y"] + box["height"])
            for part in (".epoch button", ".map.first", ".map.second", ".loss", ".entropy")
            for box in [page.locator(part).bounding_box()]
        ),
        strict=True,
    )
    assert max(bottoms) - min(tops) <= 740
    rendering = "(map) => getComputedStyle(map).imageRendering"
    assert page.locator(".map.first canvas").evaluate(rendering) == "pixelated"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_themes_are_legible_and_accessible(
    scheme: Any, three: list[study.Run], opened: Callable[..., Page]
) -> None:
    page = opened(three, compare=1, browser={"color_scheme": scheme})
    style = "(part, name) => getComputedStyle(part)[name]"

    def ground(part: str = ".explorer") -> str:
        return page.locator(part).first.evaluate(style, "backgroundColor")

    assert (luminance(ground()) < 0.5) == (scheme == "dark")
    theme = "light" if scheme == "dark" else "dark"
    page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")  # the book's own switch comes first
    page.wait_for_function(
        "(dark) => document.querySelector(':not(a)[dark]') !== null === dark", arg=theme == "dark"
    )
    assert (luminance(ground()) < 0.5) == (theme == "dark")
    for part, paint in (("output", "color"), (".curve text", "fill")):
        text = page.locator(part).first.evaluate(style, paint)
        assert contrast(text, ground()) > 4.5, part
    for width in (1280, 360):
        page.set_viewport_size({"width": width, "height": 800})
        assert not violations(page)
    page.get_by_role("slider").evaluate("(part) => part.after(document.createElement('button'))")
    assert [line.partition(":")[0] for line in violations(page)] == ["button-name (critical)"]


def test_a_page_without_scripts_has_a_still_picture(
    three: list[study.Run], page_of: Callable[..., Path], visit: Visit
) -> None:
    page = visit(page_of(study.explore(three).as_html()).as_uri(), java_script_enabled=False)
    name = re.compile("^vanillaNet, seed 0: maps of the entropy of layer conv1")
    assert page.get_by_role("img", name=name).is_visible()
    assert page.get_by_text("A still picture.").is_visible()


@pytest.mark.slow
def test_drawing_takes_less_than_a_frame(visit: Visit, tmp_path: Path) -> None:
    """Two networks of five layers, 16 images and 100 epochs: a frame for a move, a second to begin."""
    (tmp_path / "empty.html").write_text('<!doctype html><html lang="en"><title>Empty</title></html>')
    first, redraw = measured(visit((tmp_path / "empty.html").as_uri()), tmp_path)
    assert redraw < 16
    assert first < 1000
