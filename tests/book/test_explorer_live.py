"""Explorers that change: of a training while it runs, and of images of one's own."""

import io
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from browser import Visit
from conftest import TINY
from PIL import Image
from playwright.sync_api import Page
from small_network import SmallNetwork
from test_explorer import levels, page_of
from test_explorer_page import LIVE, redrawn, to_epoch
from torch import Tensor, nn

import sparsity_lib as sl
from sparsity_lib import study
from sparsity_lib.explorer.payload import LEVELS
from sparsity_lib.study.data import pictures
from sparsity_lib.study.training.loop import EpochRecord

EXPERIMENT = study.Experiment(
    network="normNet", **TINY | {"epochs": 14}
)  # 11 and 12 are not kept, 13 is last
KEPT = [*range(-1, 11), 13]


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> tuple[study.Run, list[EpochRecord]]:
    """A run, and what was observed while it was trained."""
    records: list[EpochRecord] = []
    return study.train(EXPERIMENT, records.append, tmp_path_factory.mktemp("watched")), records


@pytest.fixture
def records(training: tuple[study.Run, list[EpochRecord]]) -> list[EpochRecord]:
    return training[1]


def saved(explorer: study.TrainingExplorer) -> list[int]:
    return explorer.data["runs"][0]["saved"]


def watched(records: list[EpochRecord]) -> study.TrainingExplorer:
    """An explorer that was drawn after every epoch."""
    explorer = study.TrainingExplorer(EXPERIMENT, every_seconds=0)
    for record in records:
        explorer._due = 0
        explorer.on_epoch(record)
    return explorer


def test_after_the_last_epoch_it_is_the_runs(training: tuple[study.Run, list[EpochRecord]]) -> None:
    run, records = training
    expected = study.explore(run, images=16)
    explorer = watched(records)
    expected.data["runs"][0] |= {"onset": None, "judged": False}  # which needs each image's loss
    assert explorer.data == expected.data
    assert page_of(explorer) == page_of(expected)


def test_it_grows_by_the_epoch(records: list[EpochRecord]) -> None:
    for count in (1, 2, 8, 13, 14):
        explorer = watched(records[:count])
        last = count - 2
        assert explorer.data["runs"][0]["epochs"] == list(range(-1, last + 1))
        assert saved(explorer) == [epoch for epoch in range(-1, last + 1) if epoch <= 10 or epoch == last]
        assert len(explorer.data["runs"][0]["loss"]) == count


def test_what_begins_later_or_anew_is_shown_from_there(records: list[EpochRecord]) -> None:
    resumed = watched(records[12:])
    assert resumed.data["runs"][0]["epochs"] == [11, 12, 13]
    assert (saved(resumed), resumed.epoch) == ([13], 13)
    np.testing.assert_array_equal(None not in resumed.data["runs"][0]["loss"], True)
    assert saved(watched(records[:9] + records[:4])) == [-1, 0, 1, 2]
    assert watched(records[:9] + records[5:]).data == watched(records).data  # from a checkpoint


def test_before_the_first_epoch_nothing_can_be_set() -> None:
    explorer = study.TrainingExplorer(EXPERIMENT)
    assert "<p>Waiting for the first epoch.</p>" in page_of(explorer)
    for name, value in {"run": 0, "layer": "conv1", "image": 0, "epoch": -1, "measure": "entropy"}.items():
        with pytest.raises(
            ValueError, match=rf"^there is no {name} {value!r} to show; there is nothing yet$"
        ):
            explorer.set_trait(name, value)


def test_who_looks_at_the_last_epoch_follows(records: list[EpochRecord]) -> None:
    explorer = watched(records[:5])
    assert (explorer.layer, explorer.epoch) == ("conv1", 3)
    explorer.layer, explorer.epoch = "conv2", 1
    for record in records[5:9]:
        explorer._due = 0
        explorer.on_epoch(record)
    assert (explorer.layer, explorer.epoch) == ("conv2", 1)
    explorer.epoch = 7
    explorer._due = 0
    explorer.on_epoch(records[9])
    assert explorer.epoch == 8


def test_what_was_the_last_epoch_may_be_asked_for_later(records: list[EpochRecord]) -> None:
    explorer = watched(records)
    explorer.set_state({"epoch": 11, "layer": "conv2"})  # sent by the page while nobody listened
    assert (explorer.epoch, explorer.layer) == (10, "conv2")
    with pytest.raises(ValueError, match="there is no epoch 14 to show"):
        explorer.epoch = 14


def test_it_is_drawn_no_more_often_than_asked(
    records: list[EpochRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    explorer = study.TrainingExplorer(EXPERIMENT, every_seconds=10)
    clock = iter(range(100))
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    drawn = []
    for record, now[0] in zip(records, map(float, clock), strict=False):
        explorer.on_epoch(record)
        drawn.append(saved(explorer)[-1])
    assert drawn == [-1] * 10 + [9] * 4 + [13]  # by the second: at 0, at 10, and at the end
    slow = study.TrainingExplorer(EXPERIMENT, every_seconds=0)
    monkeypatch.setattr(slow, "_redraw", lambda: now.__setitem__(0, now[0] + 5))
    slow.on_epoch(records[0])
    assert slow._due - now[0] == 95  # what takes long is done seldom


def test_what_is_not_drawn_is_not_kept(records: list[EpochRecord]) -> None:
    kept = watched(records)._records
    assert [epoch for epoch, record in kept.items() if "conv1/maps" in record] == KEPT
    assert not any(name.startswith("val_image") for record in kept.values() for name in record)


def live(page: Page, explorer: Any) -> None:
    """Draw the explorer by a model that talks to it through `explorer.comm`, a mock."""
    names = ["data", "run", "beside", "layer", "image", "measure", "epoch", "playing"]
    page.evaluate(LIVE, [explorer._esm, explorer.get_state(names)])


def delivered(page: Page, comm: Mock) -> None:
    """Give the page what was sent to it."""
    for call in comm.send.call_args_list:
        page.evaluate("receive", call.kwargs["data"]["state"])
    comm.reset_mock()
    redrawn(page)


@pytest.mark.browser
def test_the_page_grows_and_its_reader_stays(
    records: list[EpochRecord], tmp_path: Path, visit: Visit
) -> None:
    (tmp_path / "page.html").write_text("<!doctype html><title>Page</title><main></main>")
    explorer = study.TrainingExplorer(EXPERIMENT, every_seconds=0)
    explorer.comm = comm = Mock(comm_id="front-end")
    unheard: list[dict[str, Any]] = []  # a process that trains does not listen
    page = visit(
        (tmp_path / "page.html").as_uri(),
        prepare=lambda page: page.expose_function("send", lambda state: unheard.append(state)),
    )
    live(page, explorer)
    assert page.get_by_role("status").inner_text() == "Waiting for the first epoch."

    def after(count: int) -> None:
        for record in records[len(explorer._records) : count]:
            explorer._due = 0
            explorer.on_epoch(record)
        delivered(page, comm)

    slider = page.get_by_role("slider", name="Epoch", include_hidden=True)
    after(1)
    slider.wait_for(state="attached")
    after(5)
    page.wait_for_function("document.querySelector('main ~ div') !== null")
    page.get_by_text("Epoch 3 of 3").last.wait_for()  # it follows
    page.get_by_role("radio", name="conv2").check()
    to_epoch(page, 1)
    slider.focus()
    after(9)
    page.get_by_text("Epoch 1 of 7").last.wait_for()  # it stays
    assert page.get_by_role("radio", name="conv2").is_checked()
    assert slider.evaluate("(one) => one.getRootNode().activeElement === one")
    to_epoch(page, 7)
    after(13)
    page.get_by_text("Epoch 11 of 11").last.wait_for()  # it follows again
    page.get_by_role("radio", name="fc1").check()
    after(15)
    page.get_by_text("Epoch 13 of 13").last.wait_for()
    for state in unheard:  # the training is over
        explorer.set_state(state)
    assert explorer.layer == "fc1"
    delivered(page, comm)
    assert page.get_by_role("radio", name="fc1").is_checked()


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., Path]:
    """`files(array, name)` is a picture's file."""

    def write(pixels: np.ndarray, name: str = "picture.png") -> Path:
        Image.fromarray(pixels).save(tmp_path / name)
        return tmp_path / name

    return write


def of_network(**given: Any) -> sl.ImageExplorer:
    return sl.ImageExplorer(SmallNetwork(), **{"size": (6, 6), "channels": 3} | given)


def random_pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def uploaded(explorer: sl.ImageExplorer, content: bytes, name: str = "mine.png") -> str:
    """What the widget says after a file is chosen."""
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


def test_maps_of_an_image_are_the_monitors() -> None:
    pixels = random_pixels(6, 6, 3)
    explorer = of_network()
    explorer.show(pixels)
    model = SmallNetwork().eval()
    with torch.no_grad(), sl.ActivationMonitor(model, maps=1) as monitor:
        outputs = model(torch.from_numpy(pixels).movedim(-1, 0)[None] / 255)
    for layer, stats in monitor.compute().items():
        for maps, measure, step in (
            (stats.maps, "entropy", np.log(stats.channels) / 255),
            (stats.scale_free_maps, "scale_free_entropy", np.ptp(stats.scale_free_maps) / (LEVELS - 1)),
        ):
            assert maps is not None
            shown = maps_of(explorer, layer, measure).reshape(maps.shape)
            np.testing.assert_allclose(shown, maps, atol=0.6 * step + 1e-6)  # rounded twice
    share, index = outputs.softmax(1).max(1)
    assert explorer.explorer.data["images"][0]["captions"] == [
        f"predicted {index.item()} ({share.item():.2f})"
    ]


def test_a_runs_network_is_the_same_as_one_that_is_given(tiny_run: study.Run) -> None:
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


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training: bool) -> None:
    model = SmallNetwork().train(training)
    model.norm1.train(not training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    sl.ImageExplorer(model, size=(6, 6), channels=3).show(random_pixels(6, 6, 3))
    assert (model.training, model.norm1.training, model.conv1.training) == (training, not training, training)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("shape", [(12, 12), (12, 20), (31, 12), (3, 4), (6, 6)])
@pytest.mark.parametrize("kind", ["path", "array", "pillow", "upload"])
def test_every_way_gives_the_same_part_of_the_image(
    shape: tuple[int, int], kind: str, files: Callable[..., Path]
) -> None:
    pixels = random_pixels(*shape, 3)
    explorer = of_network()
    if kind == "upload":
        assert ">predicted " in uploaded(explorer, files(pixels).read_bytes())
    else:
        explorer.show(
            {"path": files(pixels), "array": pixels, "pillow": Image.fromarray(pixels)}[kind]  # type: ignore[arg-type]
        )
    side = min(shape)
    top, left = ((size - side) // 2 for size in shape)
    centre = torch.from_numpy(pixels)[top : top + side, left : left + side].movedim(-1, 0)[None]
    assert torch.equal(explorer._images, pictures.scaled(centre, 6))


def test_grey_and_colour_become_what_the_network_takes(files: Callable[..., Path]) -> None:
    colour, grey = random_pixels(6, 6, 3), random_pixels(6, 6)
    explorer = of_network()
    explorer.show(files(grey))
    np.testing.assert_array_equal(explorer._images[0, 1], grey)
    single = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU())
    for image in (colour, Image.fromarray(colour)):
        explorer = sl.ImageExplorer(single, size=(6, 6), channels=1)
        explorer.show(image)
        np.testing.assert_array_equal(explorer._images[0, 0], np.array(Image.fromarray(colour).convert("L")))
    assert explorer.explorer.data["images"][0]["captions"] == ["your image"]  # it has no classes


def test_an_image_is_upright(tmp_path: Path) -> None:
    pixels = random_pixels(6, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # taken with the camera turned
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    explorer = of_network()
    explorer.show(tmp_path / "turned.png")
    np.testing.assert_array_equal(explorer._images[0].movedim(0, -1), np.rot90(pixels, -1))


def test_the_latest_of_sixteen_comes_first() -> None:
    explorer = of_network()
    for value in range(20):
        explorer.show(np.full((6, 6, 3), value, np.uint8))
    assert explorer._images[:, 0, 0, 0].tolist() == list(range(19, 3, -1))
    explorer.explorer.layer, explorer.explorer.image = "conv2", 5
    explorer.show(random_pixels(6, 6, 3))
    assert (explorer.explorer.layer, explorer.explorer.image, explorer.explorer.epoch) == ("conv2", 0, 0)


def huge_png(side: int) -> bytes:
    """The head of a PNG file of side x side pixels, of which there are none."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )


def deep_png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((6, 6), np.uint16)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it cannot be read as an image"),
        (b"no image", r"it cannot be read as an image \(BMP, GIF, JPEG, PNG, PPM, TIFF or WEBP\)$"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 6\n", "it cannot be read as an image"),
        (b"\x80\x04N.", "it cannot be read as an image"),  # a pickle
        (huge_png(8000), "8000 x 8000 is too many: an image may have at most 50 million pixels"),
        (huge_png(12000), "12000 x 12000 is too many: an image may have at most 50 million pixels"),
        (huge_png(30000), "more than 179 million pixels is too many: an image may have at most 50 million"),
        (huge_png(6), "it cannot be read as an image"),
        (deep_png(), "its pixels are of mode I;16; store it with 8 bits a channel"),
        (bytes(20_000_001), "the file has 20 MB; at most 20 are read"),
    ],
    ids=["empty", "text", "postscript", "pickle", "large", "larger", "bomb", "damaged", "deep", "heavy"],
)
def test_what_cannot_be_read_leaves_the_last_image(content: bytes, said: str, tmp_path: Path) -> None:
    explorer = of_network()
    explorer.show(random_pixels(6, 6, 3))
    before = explorer.explorer.data
    (tmp_path / "bad").write_bytes(content)
    for image in (tmp_path / "bad", io.BytesIO(content)):
        with pytest.raises(ValueError, match=said) as refusal:
            explorer.show(image)
        assert "\n" not in str(refusal.value)
    assert "mine.png: " in uploaded(explorer, content)
    assert explorer.explorer.data is before
    good = io.BytesIO()
    Image.fromarray(random_pixels(9, 6, 3)).save(good, "PNG")
    assert '<span role="status">predicted ' in uploaded(explorer, good.getvalue())
    assert len(explorer._images) == 2


@pytest.mark.parametrize(
    "image",
    [np.zeros((6, 6)), np.zeros((6, 6, 4), np.uint8), np.zeros(6, np.uint8), np.zeros((0, 6), np.uint8)],
)
def test_arrays_are_bytes_of_an_image(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"^an array is uint8 \(H, W\), \(H, W, 1\) or \(H, W, 3\), not "):
        of_network().show(image)


def test_a_path_to_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.png cannot be read: No such file or directory$"):
        of_network().show(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"size": None}, "size is the height and width that the module takes, in pixels, not None"),
        ({"size": (6, 0)}, "size is the height and width"),
        ({"channels": None}, "channels is 1 for grey or 3 for RGB, not None"),
        ({"channels": 2}, "channels is 1 for grey or 3 for RGB, not 2"),
        ({"layers": ["conv9"]}, "conv9"),
    ],
)
def test_what_a_module_needs_is_asked_for(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        of_network(**given)


def test_a_run_needs_its_network(tiny_run: study.Run, tmp_path: Path) -> None:
    alone = tmp_path / tiny_run.path.name
    alone.write_bytes(tiny_run.path.read_bytes())
    with pytest.raises(study.StudyError, match="was not kept"):
        study.image_explorer(study.load(alone))


def test_a_module_that_fails_says_why_in_the_widget() -> None:
    def refuse(images: Tensor) -> Tensor:
        raise RuntimeError("<b>not</b>\nthis one")

    explorer = of_network(prepare=refuse)
    file = io.BytesIO()
    Image.fromarray(random_pixels(6, 6, 3)).save(file, "PNG")
    assert uploaded(explorer, file.getvalue()).endswith("mine.png: &lt;b&gt;not&lt;/b&gt;</span>")
    with pytest.raises(ValueError, match="2 classes are named; the module puts out 4"):
        of_network(classes=["a", "b"]).show(random_pixels(6, 6, 3))


def test_a_hostile_name_stays_text() -> None:
    name = """<img src=x onerror="alert(1)">$x$"""
    said = uploaded(of_network(), b"no image", name)
    assert "<img" not in said
    assert "&lt;img src=x onerror=&quot;alert(1)&quot;&gt;$x$: it cannot be read" in said


def test_without_a_kernel_there_are_the_maps_shown_last() -> None:
    explorer = of_network()
    assert "<p>Waiting for an image.</p>" in explorer._repr_mimebundle_()["text/html"]
    explorer.show(random_pixels(6, 6, 3))
    explorer.explorer.layer = "conv2"
    bundle = explorer._repr_mimebundle_()
    assert bundle["text/html"] == page_of(explorer.explorer)
    assert "SmallNetwork: map of the entropy of layer conv2 for image 1, predicted" in bundle["text/html"]
    assert "application/vnd.jupyter.widget-view+json" in bundle


@pytest.mark.browser
@pytest.mark.parametrize("classes", [None, ["<b>cat</b>", "<i>dog</i>", "$x$", "&amp;"]])
def test_one_image_has_no_epochs_on_the_page(classes: list[str] | None, tmp_path: Path, visit: Visit) -> None:
    explorer = of_network(classes=classes)
    explorer.show(random_pixels(6, 6, 3))
    html = explorer._repr_mimebundle_()["text/html"]
    (tmp_path / "page.html").write_text(f'<!doctype html><meta charset="utf-8"><title>Page</title>{html}')
    page = visit((tmp_path / "page.html").as_uri())
    heat = page.get_by_role("application", name="Entropy of conv1, SmallNetwork")
    heat.wait_for()
    caption = explorer.explorer.data["images"][0]["captions"][0]
    assert page.get_by_text(f"P{caption[1:]}", exact=True).is_visible()
    assert page.get_by_role("slider").count() == 0
    assert page.locator(".curve:visible, .moments:visible, .curves:visible").count() == 0
    heat.hover()
    assert page.locator(".mark.field").is_visible()
