"""The explorer of a network's activations on images of the reader's own."""

import errno
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import Visit
from image_folders import png_without_pixels
from PIL import Image
from refusals import refused
from small_network import SmallNetwork
from test_explorer import html_of, levels
from torch import Tensor, nn

import sparsity_lib as sl
from sparsity_lib import study
from sparsity_lib.explorer.payload import LEVELS
from sparsity_lib.study.data import pictures


def of_network(**given: Any) -> sl.ImageExplorer:
    return sl.ImageExplorer(SmallNetwork(), **{"size": (6, 6), "channels": 3} | given)


def random_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def png(pixels: np.ndarray, **settings: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **settings)
    return file.getvalue()


def uploaded(explorer: sl.ImageExplorer, content: bytes, name: str = "mine.png") -> str:
    """The widget's message after a file is chosen."""
    upload, message, _ = explorer.children
    file = {"name": name, "type": "image/png", "size": len(content), "content": memoryview(content)}
    upload.set_state({"value": [file | {"last_modified": 0}]})  # what a page sends
    return message.value


def maps_of(explorer: sl.ImageExplorer, layer: str, measure: str = "entropy") -> np.ndarray:
    """(image, y, x) in nats."""
    (run,), (images,) = (explorer.explorer.data[name] for name in ("runs", "images"))
    entry = next(each for each in run["layers"] if each["name"] == layer)
    shape = (1, len(images["captions"]), entry["height"], entry["width"])
    maps = entry["maps"][measure]
    return (maps["low"] + maps["step"] * levels(maps, shape))[0]


@pytest.mark.parametrize("training", [True, False])
def test_maps_are_the_monitors_and_the_model_is_left_as_it_was(training: bool) -> None:
    pixels, model = random_pixels(6, 6, 3), SmallNetwork().train(training)
    model.norm1.train(not training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    explorer = sl.ImageExplorer(model, size=(6, 6), channels=3)
    explorer.show(pixels)
    assert (model.training, model.norm1.training, model.conv1.training) == (training, not training, training)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    model.eval()
    with torch.no_grad(), sl.ActivationMonitor(model, maps=1) as monitor:
        outputs = model(torch.from_numpy(pixels).movedim(-1, 0)[None] / 255)
    for layer, stats in monitor.compute().items():
        for maps, measure, step in (
            (stats.maps, "entropy", np.log(stats.channels) / 255),
            (stats.scale_free_maps, "scale_free_entropy", np.ptp(stats.scale_free_maps) / (LEVELS - 1)),
        ):
            shown = maps_of(explorer, layer, measure).reshape(maps.shape)
            np.testing.assert_allclose(shown, maps, atol=0.6 * step + 1e-6)  # rounded twice
    share, index = outputs.softmax(1).max(1)
    (images,) = explorer.explorer.data["images"]
    assert images["captions"] == [f"predicted {index.item()} ({share.item():.2f})"]


def test_a_runs_network_gives_the_maps_of_the_run(tiny_run: study.Run, tmp_path: Path) -> None:
    model, prepare = study.trained_network(tiny_run)
    pixels = tiny_run.root["images"].to_numpy()[3]
    given = sl.ImageExplorer(model, size=(8, 8), channels=1, prepare=prepare, classes=tiny_run.classes)
    kept = study.image_explorer(tiny_run)
    for explorer in (given, kept):
        explorer.show(pixels)
    assert given.explorer.data["images"] == kept.explorer.data["images"]
    assert given.explorer.data["runs"][0]["layers"] == kept.explorer.data["runs"][0]["layers"]
    assert kept.explorer.data["runs"][0]["label"] == "vanillaNet, seed 0"
    stored = tiny_run.layer("conv2")["heatmap"]
    step = stored.encoding["scale_factor"]
    np.testing.assert_allclose(maps_of(kept, "conv2")[0], stored[-1, 3], atol=1.01 * step)
    alone = tmp_path / tiny_run.path.name
    alone.write_bytes(tiny_run.path.read_bytes())
    with refused(tiny_run.id):
        study.image_explorer(study.load(alone))


@pytest.mark.parametrize("shape", [(12, 12), (12, 20), (31, 12), (3, 4), (6, 6)])
def test_image_sources_give_the_same_part_of_the_image(shape: tuple[int, int], tmp_path: Path) -> None:
    pixels = random_pixels(*shape, 3)
    (tmp_path / "picture.png").write_bytes(png(pixels))
    side = min(shape)
    top, left = ((size - side) // 2 for size in shape)
    centre = torch.from_numpy(pixels)[top : top + side, left : left + side].movedim(-1, 0)[None]
    for image in (tmp_path / "picture.png", pixels, Image.fromarray(pixels), None):
        explorer = of_network()
        if image is None:
            assert ">predicted " in uploaded(explorer, png(pixels))
        else:
            explorer.show(image)
        assert torch.equal(explorer._images, pictures.scaled(centre, 6))


def test_images_are_converted_to_the_networks_channels_and_upright() -> None:
    """Grey or in colour, and upright."""
    colour, grey = random_pixels(6, 6, 3), random_pixels(6, 6)
    explorer = of_network()
    explorer.show(io.BytesIO(png(grey)))
    np.testing.assert_array_equal(explorer._images[0, 1], grey)
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera turned
    explorer.show(io.BytesIO(png(colour, exif=exif)))
    np.testing.assert_array_equal(explorer._images[0].movedim(0, -1), np.rot90(colour, -1))
    single = sl.ImageExplorer(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU()), size=(6, 6), channels=1)
    single.show(colour)
    np.testing.assert_array_equal(single._images[0, 0], np.array(Image.fromarray(colour).convert("L")))
    assert single.explorer.data["images"][0]["captions"] == ["your image"]  # it has no classes


def test_the_latest_sixteen_images_are_kept_latest_first() -> None:
    explorer = of_network()
    for value in range(20):
        explorer.show(np.full((6, 6, 3), value, np.uint8))
    assert explorer._images[:, 0, 0, 0].tolist() == list(range(19, 3, -1))
    explorer.explorer.layer, explorer.explorer.image = "conv2", 5
    explorer.show(random_pixels(6, 6, 3))
    assert (explorer.explorer.layer, explorer.explorer.image, explorer.explorer.epoch) == ("conv2", 0, 0)


FORMATS = r"\(BMP, GIF, JPEG, PNG, PPM, TIFF or WEBP\)"
UNREADABLE = {
    "empty": (b"", FORMATS),
    "text": (b"no image", FORMATS),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 6\n", FORMATS),
    "large": (png_without_pixels(12000, 12000), "12000 x 12000 .* 50 million pixels"),
    "bomb": (png_without_pixels(30000, 30000), "179 million pixels .* 50 million"),
    "damaged": (png_without_pixels(6, 6), FORMATS),
    "deep": (png(np.zeros((6, 6), np.uint16)), "I;16"),
    "heavy": (bytes(20_000_001), "20 MB"),
}


@pytest.mark.parametrize(("content", "message"), UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_file_leaves_the_last_image(content: bytes, message: str, tmp_path: Path) -> None:
    explorer = of_network()
    explorer.show(random_pixels(6, 6, 3))
    before = explorer.explorer.data
    (tmp_path / "bad").write_bytes(content)
    for image in (tmp_path / "bad", io.BytesIO(content)):
        with refused(error=ValueError, match=message):
            explorer.show(image)
    assert "mine.png: " in uploaded(explorer, content)
    assert explorer.explorer.data is before
    assert '<span role="status">predicted ' in uploaded(explorer, png(random_pixels(9, 6, 3)))
    assert len(explorer._images) == 2


def test_arguments_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for shape, kind in (((6, 6), float), ((6, 6, 4), np.uint8), ((6,), np.uint8), ((0, 6), np.uint8)):
        with refused("uint8 (H, W)", error=ValueError):
            of_network().show(np.zeros(shape, kind))
    with refused("none.png", os.strerror(errno.ENOENT), error=ValueError):
        of_network().show(tmp_path / "none.png")
    for given, named in (
        ({"size": None}, "size"),
        ({"size": (6, 0)}, "size"),
        ({"channels": None}, "channels"),
        ({"channels": 2}, "channels"),
        ({"layers": ["conv9"]}, "conv9"),
    ):
        with refused(named, error=ValueError):
            of_network(**given)
    with refused("2 classes", 4, error=ValueError):
        of_network(classes=["a", "b"]).show(random_pixels(6, 6, 3))


def test_classes_may_be_an_array() -> None:
    explorer = of_network(classes=np.array(["a", "b", "c", "d"]))
    explorer.show(random_pixels(6, 6, 3))
    assert re.fullmatch(r"predicted [abcd] \(0\.\d\d\)", explorer.explorer.data["images"][0]["captions"][0])


def test_messages_in_the_widget_stay_text() -> None:
    def refuse(images: Tensor) -> Tensor:
        raise RuntimeError("<b>not</b>\nthis one")

    message = uploaded(of_network(prepare=refuse), png(random_pixels(6, 6, 3)))
    assert message.endswith("mine.png: &lt;b&gt;not&lt;/b&gt;</span>")
    message = uploaded(of_network(), b"no image", """<img src=x onerror="alert(1)">$x$""")
    assert "&lt;img src=x onerror=&quot;alert(1)&quot;&gt;$x$: " in message


@pytest.mark.browser
def test_the_page_of_an_image_has_no_epochs(page_of: Callable[..., Path], visit: Visit) -> None:
    """Without a kernel, the page shows the maps shown last."""
    explorer = of_network(classes=["<b>cat</b>", "<i>dog</i>", "$x$", "&amp;"])
    assert explorer._repr_mimebundle_()["text/html"] == ""
    explorer.show(random_pixels(6, 6, 3))
    explorer.explorer.layer = "conv2"
    bundle = explorer._repr_mimebundle_()
    html = bundle["text/html"]
    assert html == html_of(explorer.explorer)
    assert "SmallNetwork: map of the entropy of layer conv2 for image 1, predicted" in html
    assert "application/vnd.jupyter.widget-view+json" in bundle
    page = visit(page_of(html).as_uri())
    heat = page.get_by_role("application", name="Entropy of conv2, SmallNetwork")
    heat.wait_for()
    caption = explorer.explorer.data["images"][0]["captions"][0]
    assert page.get_by_text(f"P{caption[1:]}", exact=True).is_visible()
    assert page.get_by_role("slider").count() == 0
    assert page.locator(".curve:visible, .moments:visible, .curves:visible").count() == 0
    heat.hover()
    assert page.locator(".mark.field").is_visible()
