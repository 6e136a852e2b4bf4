"""Time that an explorer takes to draw in Chromium.

Two made-up networks of five layers of size s on images of 32 x 32, 16 images, 100 epochs that all have maps:
a fair share of noise, so that nothing is small because it is regular.
"""

import statistics
from pathlib import Path

import numpy as np
from playwright.sync_api import Page

from sparsity_lib import models
from sparsity_lib.explorer.page import page as to_html
from sparsity_lib.explorer.payload import payload
from sparsity_lib.explorer.recording import MEASURES, RecordedLayer, Recording, known_fields
from sparsity_lib.explorer.still import Still

IMAGES, EPOCHS, MOVES = 16, 100, 60
LAYERS = {"conv1": (16, 32), "conv2": (16, 32), "conv3": (32, 16), "conv4": (32, 16), "fc1": (64, 1)}

# The time that the page's own script takes for one frame, layout included: what is requested in a frame is
# drawn in the next, so that time spent waiting does not count.
_REDRAWS = """async (moves) => {
  const root = document.querySelector(".sparsity-explorer > div").shadowRoot;
  const slider = root.querySelector("input[type=range]");
  const frame = window.requestAnimationFrame.bind(window);
  let spent = 0;
  window.requestAnimationFrame = (draw) =>
    frame((now) => {
      const start = performance.now();
      draw(now);
      root.querySelector(".explorer").getBoundingClientRect();
      spent = performance.now() - start;
    });
  const times = [];
  for (let move = 0; move < moves; move++) {
    slider.value = (7 * move) % (Number(slider.max) + 1);
    slider.dispatchEvent(new Event("input"));
    await new Promise((done) => frame(() => frame(done)));
    times.push(spent);
  }
  return times;
}"""


def made_up(label: str) -> Recording:
    """A recording of a network whose maps wander at random."""
    random, saved = np.random.default_rng(0), list(range(-1, EPOCHS - 1))

    def walk(images: int, side: int) -> np.ndarray:  # (epoch, image, y, x) in [0, 1]
        steps = random.normal(0, 0.05, (len(saved), images, side, side))
        return (0.8 + steps.cumsum(0)).clip(0, 1)

    layers = {}
    for name, (channels, side) in LAYERS.items():
        maps = {measure: walk(IMAGES, side) * np.log(channels) for measure in MEASURES}
        means = {measure: values.mean((1, 2, 3)) for measure, values in maps.items()}
        layers[name] = RecordedLayer(channels, maps, means)
    return Recording(
        random.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8),
        label,
        [f"class {number % 10}" for number in range(IMAGES)],
        known_fields(models.vanilla_net(), (3, 32, 32)),
        layers,
        saved,
        saved,
        loss=walk(1, 1)[:, 0, 0, 0],
    )


def measured(page: Page, folder: Path) -> tuple[float, float]:
    """Milliseconds from the start of a page to its first drawing, and to redraw it after a move (median)."""
    data = payload([made_up("vanillaNet"), made_up("sr2Net")], "size s")
    shown = {"run": 0, "compare": 1, "layer": "conv2", "image": 3, "measure": "entropy", "epoch": 98}
    html = to_html({"data": data, "playing": False, "stretched": False, **shown}, Still(b"", "none"))
    path = folder / "explorer.html"
    path.write_text(f'<!doctype html><html lang="en"><meta charset="utf-8"><title>-</title>{html}</html>')
    page.goto(path.as_uri())
    page.get_by_role("slider", name="Epoch").wait_for()
    first = page.evaluate("performance.now()")
    return first, statistics.median(page.evaluate(_REDRAWS, MOVES))
