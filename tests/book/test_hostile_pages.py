"""Text of another person's run file stays text on every page that is made of it."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
from browser import Visit
from bs4 import BeautifulSoup
from run_files import changed

from sparsity_lib import study
from sparsity_lib.study.configuration import is_plain

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
    "![x](https://elsewhere.example/x.png)",
    "[x](https://elsewhere.example)",
    "{math}`x`",
    "<https://elsewhere.example>",
    "$x$",
    "# x | *y* **z** ~~w~~",
]


@pytest.fixture
def hostile(tiny_run: study.Run, tmp_path: Path) -> study.Run:
    """A run with these texts wherever its file may hold any."""

    def change(file: h5py.File) -> None:
        file.attrs["classes"] = json.dumps(HOSTILE)
        for name, value in zip(("device", "python", "torch"), (HOSTILE[0], *MARKDOWN), strict=False):
            file.attrs[name] = value
        file.attrs["numerics"] = HOSTILE[3] + "\n\n```{raw} html\n" + HOSTILE[0]
        file["conv1"].attrs["note"] = HOSTILE[0]

    return study.load(changed(tiny_run.path, tmp_path, change))


def check_harmless(page: BeautifulSoup) -> None:
    """It holds no script, handler or embedded thing but the explorer's two scripts."""
    assert len(page.find_all("script")) == 2
    assert not page.find_all(["svg", "math", "iframe", "object", "embed", "link", "base", "form"])
    for element in page.find_all(True):
        assert not [name for name in element.attrs if name.startswith("on")]
        assert not str(element.get("href", "")).startswith(("javascript", "http"))
        assert str(element.get("src", "data:")).startswith("data:")


@pytest.mark.browser
def test_an_explorer_shows_markup_as_text(
    hostile: study.Run, visit: Visit, served: Callable[[Path], str], page_of: Callable[..., Path]
) -> None:
    explorer = study.explore(hostile, images=16)
    labels = hostile.root["image_label"].to_numpy().tolist()
    assert len({*labels}) > 5
    for index in sorted({*labels})[::2]:
        explorer.image = labels.index(index)
        still = BeautifulSoup(explorer.as_html(), "html.parser")
        check_harmless(still)
        assert f"class {HOSTILE[index]}" in still.img["alt"]
        state = json.loads(still.find("script", type="application/json").string)["state"]
        assert state["data"]["images"][0]["captions"][explorer.image] == f"class {HOSTILE[index]}"
    name = HOSTILE[4] + MARKDOWN[4]
    conv1 = hostile.layer("conv1")
    hostile.layer = lambda _: conv1  # type: ignore[method-assign]
    hostile.layers = [name]
    hostile.experiment = hostile.experiment.model_copy(update={"network": name, "dataset": name})
    explorer = study.explore(hostile, images=16)
    page = visit(f"{served(page_of(explorer.as_html()).parent)}/page.html")
    page.get_by_role("slider", name="Epoch").wait_for()
    assert page.get_by_role("radio", name=name, exact=True).is_checked()
    assert name in (page.get_by_role("combobox", name="Network").text_content() or "")
    for image, index in enumerate(labels):
        page.get_by_role("radio", name=f"Image {image + 1} of 16").check()
        shown = BeautifulSoup(
            page.locator(".sparsity-explorer > div").evaluate("host => host.shadowRoot.innerHTML"),
            "html.parser",
        )
        titles = [str(value) for element in shown.find_all(True) for value in element.attrs.values()]
        assert any(HOSTILE[index] in text for text in (shown.get_text(), *titles))
    assert page.evaluate("window.sprung") is None
    assert not page.locator("img[src=x], [onload], [onerror]").count()


@pytest.mark.parametrize("text", [text for text in HOSTILE + MARKDOWN if not is_plain(text)])
def test_markup_in_headings_is_refused(text: str, tiny_run: study.Run, tmp_path: Path) -> None:
    described = dict(tiny_run.experiment)
    for change in (
        {"layers": json.dumps([text])},
        {"experiment": json.dumps(described | {"network": f"package:{text}"})},
        {"experiment": json.dumps(described | {"dataset": f"folder:{text.replace('/', '')}"})},
        {"experiment": json.dumps(described | {"network": "package:factory", "sparsity": {text: 1}})},
    ):
        path = changed(tiny_run.path, tmp_path, lambda file, change=change: file.attrs.update(change))
        with pytest.raises(study.StudyError):
            study.load(path)
