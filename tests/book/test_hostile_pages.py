"""What a stranger's run file says stays text on every page that is made of it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
from browser import Visit
from bs4 import BeautifulSoup

from sparsity_lib import study
from sparsity_lib.study.described import is_plain

ROOT = Path(__file__).resolve().parents[2]
SPRUNG = "window.sprung=1"
HOSTILE = [
    f"<script>{SPRUNG}</script>",
    f"</script><script>{SPRUNG}</script>",
    f'"onload="{SPRUNG}',
    f"' onerror='{SPRUNG}",
    f'"><img src=x onerror="{SPRUNG}">',
    f"<svg onload={SPRUNG}>",
    f"<math><mtext><style><img src=x onerror={SPRUNG}>",
    f"]]><script>{SPRUNG}</script>",
    f"<!--<script>{SPRUNG}//-->",
    "${" + SPRUNG + "}`\\u003cscript\u2028",
]
MARKDOWN = [
    "![x](https://stranger.example/x.png)",
    "[x](https://stranger.example)",
    "{math}`x`",
    "<https://stranger.example>",
    "$x$",
    "# x | *y* **z** ~~w~~",
]


@pytest.fixture
def hostile(tiny_run: study.Run, tmp_path: Path) -> study.Run:
    """A run that says these things wherever its file may say anything."""
    path = Path(shutil.copy(tiny_run.path, tmp_path / "hostile.nc"))
    with h5py.File(path, "r+") as file:
        file.attrs["classes"] = json.dumps(HOSTILE)
        for name, value in zip(("device", "python", "torch"), (HOSTILE[0], *MARKDOWN), strict=False):
            file.attrs[name] = value
        file.attrs["numerics"] = HOSTILE[3] + "\n\n```{raw} html\n" + HOSTILE[0]
        file["conv1"].attrs["note"] = HOSTILE[0]
    return study.load(path)


def harmless(text: str, *, own_scripts: int = 0) -> BeautifulSoup:
    """The parsed page, which holds no script, handler or embedded thing but our own."""
    page = BeautifulSoup(text, "html.parser")
    assert len(page.find_all("script")) == own_scripts
    assert not page.find_all(["svg", "math", "iframe", "object", "embed", "link", "base", "form"])
    for element in page.find_all(True):
        assert not [name for name in element.attrs if name.startswith("on")]
        assert not str(element.get("href", "")).startswith(("javascript", "http"))
        assert str(element.get("src", "data:")).startswith("data:")
    return page


def test_an_explorer_shows_it_as_text(hostile: study.Run) -> None:
    explorer = study.explore(hostile, images=16)
    labels = hostile.root["image_label"].to_numpy().tolist()
    for image, index in [(labels.index(index), index) for index in sorted(set(labels))][::2]:
        explorer.image = image
        page = harmless(explorer.as_html(), own_scripts=2)
        assert f"class {HOSTILE[index]}" in page.img["alt"]
        said = json.loads(page.find("script", type="application/json").string)
        assert said["state"]["data"]["images"][0]["captions"][image] == f"class {HOSTILE[index]}"
    assert len(set(labels)) > 5


def shown_titles(shown: str) -> str:
    """What a part of a page says in attributes."""
    elements = BeautifulSoup(shown, "html.parser").find_all(True)
    return " ".join(str(value) for element in elements for value in element.attrs.values())


@pytest.mark.browser
def test_nothing_of_it_runs(
    hostile: study.Run, visit: Visit, served: Callable[[Path], str], tmp_path: Path
) -> None:
    head = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Page</title></head><body>'
    explorer = study.explore(hostile, images=16)
    (tmp_path / "page.html").write_text(head + explorer.as_html(), encoding="utf-8")
    page = visit(f"{served(tmp_path)}/page.html")
    page.get_by_role("slider", name="Epoch").wait_for()
    for image, index in enumerate(hostile.root["image_label"].to_numpy()):
        page.get_by_role("radio", name=f"Image {image + 1} of 16").check()
        shown = page.locator(".sparsity-explorer > div").evaluate("host => host.shadowRoot.innerHTML")
        assert HOSTILE[index] in BeautifulSoup(shown, "html.parser").get_text() + shown_titles(shown)
    assert page.evaluate("window.sprung") is None
    assert not page.locator("img[src=x], [onload], [onerror]").count()


@pytest.mark.parametrize("said", [said for said in HOSTILE + MARKDOWN if not is_plain(said)])
def test_what_goes_into_headings_is_refused(said: str, tiny_run: study.Run, tmp_path: Path) -> None:
    described = dict(tiny_run.experiment)
    changes = [
        {"layers": json.dumps([said])},
        {"experiment": json.dumps(described | {"network": f"package:{said}"})},
        {"experiment": json.dumps(described | {"dataset": f"folder:{said.replace('/', '')}"})},
        {"experiment": json.dumps(described | {"network": "package:factory", "sparsity": {said: 1}})},
    ]
    for number, change in enumerate(changes):
        path = Path(shutil.copy(tiny_run.path, tmp_path / f"{number}.nc"))
        with h5py.File(path, "r+") as file:
            file.attrs.update(change)
        with pytest.raises(study.StudyError):
            study.load(path)
