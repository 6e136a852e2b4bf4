"""The rescale control: entropies and maps follow the factor, the computed probabilities do not."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accessibility import violations
from browser import Visit
from matplotlib import colormaps
from playwright.sync_api import Page
from refusals import refused
from test_explorer_page import pixels

from sparsity_lib import functional, study
from sparsity_lib.study.training.observation import layer_outputs

MOST_BYTES = 300_000


@pytest.fixture
def page(tiny_run: study.Run, page_of: Callable[..., Path], visit: Visit) -> Page:
    opened = visit(page_of(study.rescale_control(tiny_run).data).as_uri())
    opened.get_by_role("slider").wait_for()
    return opened


@pytest.mark.browser
def test_entropies_follow_and_probabilities_stay(tiny_run: study.Run, page: Page) -> None:
    model, prepare = study.trained_network(tiny_run)
    inputs = prepare(torch.from_numpy(tiny_run.root["images"].to_numpy()[:2]).movedim(-1, 1))
    outputs, logits = layer_outputs(model, ["conv4"], inputs)["conv4"], model(inputs)
    expected = logits.softmax(1).sort(1, descending=True).values[:, :3].detach().numpy()
    scale_free = functional.rfav_entropy(functional.standardize(outputs)).mean((1, 2))
    slider = page.get_by_role("slider")
    for exponent in (0, -3, 2.5):
        slider.fill(str(exponent))
        entropies = functional.rfav_entropy(2**exponent * outputs)
        for i, section in enumerate(page.locator(".columns > section").all()):
            entropy, free, *probabilities = section.locator("dd").all_inner_texts()
            assert float(entropy.split()[0]) == pytest.approx(entropies[i].mean().item(), abs=0.006)
            assert float(free.split()[0]) == pytest.approx(scale_free[i].item(), abs=0.006)
            np.testing.assert_allclose([float(text) for text in probabilities], expected[i], atol=0.02)
            assert "change by 0.000000" in section.inner_text()
            shown = colormaps["viridis"]((255 * entropies[i] / np.log(32) + 0.5).int().numpy(), bytes=True)
            found = pixels(page, f".columns > section:nth-child({i + 1}) canvas[role=img] + canvas")
            np.testing.assert_allclose(found.astype(int), shown.astype(int), atol=8)  # activations of 16 bits
    slider.press("ArrowLeft")
    assert slider.get_attribute("aria-valuetext") == f"times {2**2.375:.3g}"


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 360])
def test_the_control_fits_the_screen_and_is_accessible(width: int, page: Page) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for theme in ("light", "dark"):
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        assert not violations(page)


def test_the_published_control_is_small_and_has_a_picture_without_scripts(tiny_runs: list[study.Run]) -> None:
    html: Any = study.rescale_control().data
    assert len(html.encode()) < MOST_BYTES
    assert re.search('<img[^>]* alt="[^"]*conv4', html)
    with refused():
        study.rescale_control(tiny_runs[2])  # normNet
