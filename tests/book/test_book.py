"""The book builds without a warning, loads nothing from the network, and is accessible."""

import base64
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import nbformat
import numpy as np
import pandas as pd
import pytest
import targets
import yaml
from accessibility import violations
from browser import Visit, contrast
from bs4 import BeautifulSoup, Tag

from sparsity_lib import study
from sparsity_lib.study.figures.data import NIGHT

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"
PHONE, DESK = 360, 1280  # pixels
DATA = 'drawn,setting,value\nmean,"digits, s ×16",0.5\n'


def toc() -> list[str]:
    """The pages of the table of contents, by name."""
    contents = yaml.safe_load((BOOK / "_toc.yml").read_text())
    chapters = [chapter for part in contents["parts"] for chapter in part["chapters"]]
    sections = [section for chapter in chapters for section in chapter.get("sections", [])]
    return [contents["root"], *(page["file"] for page in chapters + sections)]


def stand_in(name: str) -> nbformat.NotebookNode:
    """An executed notebook as the runner leaves it: wide figures, a wide table, and a piece of HTML.

    The first figure carries data, the second none, but a picture for dark pages.
    """
    v4, png = nbformat.v4, io.BytesIO()
    matplotlib.image.imsave(png, np.tile(np.linspace(0, 1, 900), (300, 1)), format="png")
    image = {"image/png": base64.b64encode(png.getvalue()).decode()}
    night = {NIGHT: image["image/png"]}
    about = [
        {"figure": {"name": f"fig-{name}{which}", "caption": "A ramp."}, "image": {"alt": "Dark to light."}}
        for which in ("", "-again")
    ]
    wide = pd.DataFrame([["a wide cell"] * 30], index=["row"]).to_html()
    cells = nbformat.read(ROOT / f"notebooks/{name}.ipynb", 4).cells
    labels = [label for cell in cells for label in re.findall(r"^\(\S+\)=$", cell.source, re.MULTILINE)]
    text = "\n".join(labels) + f"\n# Stand-in for {name}\n\n{{numref}}`fig-{name}`, "
    text += "{eq}`eq-entropy`, {cite}`tsr`, [T10](#t10)."
    cells = [
        v4.new_markdown_cell(text),
        *(
            v4.new_code_cell(
                "figure", outputs=[v4.new_output("display_data", data=data)], metadata={"mystnb": of}
            )
            for of, data in zip(about, (image | {"text/csv": DATA}, image | night), strict=True)
        ),
        *(
            v4.new_code_cell("page", outputs=[v4.new_output("display_data", data={"text/html": html})])
            for html in (wide, '<p class="explorer">An explorer.</p>')
        ),
    ]
    made_from = {"notebook": "0123456789abcdef", "parameters": {"profile": "desktop"}}
    language = {"name": "python", "pygments_lexer": "ipython3"}
    return v4.new_notebook(cells=cells, metadata={"language_info": language, "made_from": made_from})


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, built by the documented command from stand-in notebooks."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(BOOK, root / "book", ignore=shutil.ignore_patterns("experiments", "__pycache__"))
    for name in ("_config.yml", "pyproject.toml", "requirements.lock"):
        shutil.copy(ROOT / name, root)
    for page in toc():
        if page.startswith("experiments/"):
            path = root / "book" / f"{page}.ipynb"
            path.parent.mkdir(exist_ok=True)
            nbformat.write(stand_in(path.stem), path)
    shutil.copytree(ROOT / "benchmarks", root / "benchmarks", ignore=shutil.ignore_patterns("*.py", "__*"))

    first_line = (ROOT / "_config.yml").read_text().splitlines()[0]
    program, *arguments = shlex.split(first_line.removeprefix("# Build: "))
    environment = {k: v for k, v in os.environ.items() if k != "SPARSITY_RUNS"}
    result = subprocess.run(
        [Path(sys.executable).with_name(program), *arguments],
        cwd=root,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
    )
    assert result.returncode == 0, result.stdout
    return root / "_build/html"


@pytest.fixture(scope="module")
def any_book(request: pytest.FixtureRequest) -> Path:
    """The book that `make study` made, which CI has; else that of stand-in notebooks."""
    made = ROOT / "_build/html"
    if (made / "index.html").exists():
        return made
    assert os.environ.get("CI") != "true", "there is no book yet: make study"
    return request.getfixturevalue("book")


@pytest.fixture(scope="module")
def pages(any_book: Path) -> dict[str, BeautifulSoup]:
    return read(any_book)


def read(book: Path) -> dict[str, BeautifulSoup]:
    """The book's pages by name."""
    return {name: BeautifulSoup((book / f"{name}.html").read_bytes(), "html.parser") for name in toc()}


def test_contents_list_all_pages() -> None:
    written = {path.stem for path in BOOK.glob("*.md")}
    assert written == {name for name in toc() if "/" not in name}


def test_the_front_page_shows_the_primary_claims(pages: dict[str, BeautifulSoup]) -> None:
    (table,) = (each for each in pages["index"].select("table") if "The primary claims" in each.get_text())
    rows = [[cell.get_text().replace("\xa0", " ") for cell in row("td")] for row in table.select("tbody tr")]
    assert len(rows) == 6
    assert {row[4].split(":")[0] for row in rows} <= {"holds", "does not hold"}


def test_pages_load_nothing_from_elsewhere(any_book: Path) -> None:
    loading = re.compile(
        r"<(?:script|img|iframe|link|source|video)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>"
    )
    for path in any_book.rglob("*.html"):
        assert not loading.findall(path.read_text()), path
    for path in any_book.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)]*", path.read_text()), path
    assert (any_book / "_static/tex-svg.js").exists()


def test_no_button_leads_to_a_repository_that_is_not_ours(book: Path) -> None:
    for name, page in read(book).items():
        links = [str(link["href"]) for link in page.select(".article-header-buttons a[href]")]
        assert all(link.startswith("../_sources/") or link.startswith("_sources/") for link in links), name


def test_markup_is_rendered(pages: dict[str, BeautifulSoup]) -> None:
    for name, page in pages.items():
        text = " ".join(p.get_text(" ", strip=True) for p in article(page).find_all(["p", "li", "td"]))
        assert not re.search(r"\|\s*-{3}|—\||\{(ref|cite|eq|numref)\}|\]\(#|\*\*", text), name


def test_figures_offer_their_data_and_their_notebook(any_book: Path, pages: dict[str, BeautifulSoup]) -> None:
    for name, page in pages.items():
        notebook = any_book / f"_sources/{name}.ipynb"
        carried = carries_data(notebook) if notebook.exists() else {}
        assert not carried or any(carried.values()), f"{name} was executed before figures had data"
        for figure in article(page).select("figure[id]"):  # the explorer's has none
            links = figure.select("figcaption .figure-files a")
            expected = ["Data (CSV)"] * carried.get(figure["id"], False) + ["Notebook"] * notebook.exists()
            assert [link.get_text() for link in links] == expected, f"{name}: {figure['id']}"
            number = figure.select_one(".caption-number").get_text().split()[-1]
            for link in links:
                assert link["aria-label"] == f"{link.get_text()} of Figure {number}"
                assert link.has_attr("download")
                target = (any_book / name).parent / str(link["href"])
                if target.suffix == ".csv":
                    table = pd.read_csv(target)
                    assert table.columns[0] == "drawn"
                    assert len(table)
                else:
                    assert target.resolve() == notebook


def carries_data(notebook: Path) -> dict[str, bool]:
    """A notebook's figures by name, and whether their output has data."""
    cells = [cell for cell in nbformat.read(notebook, 4).cells if "figure" in cell.metadata.get("mystnb", {})]
    return {
        cell.metadata.mystnb.figure.name: any("text/csv" in each.get("data", {}) for each in cell.outputs)
        for cell in cells
    }


def test_data_are_written_as_the_output_carries_them(book: Path) -> None:
    assert (book / "_downloads/fig-01-monitoring.csv").read_bytes().decode() == DATA
    assert not (book / "_downloads/fig-01-monitoring-again.csv").exists()
    chart, maps = article(read(book)["experiments/01-monitoring"]).select("figure")
    assert ["keeps-colours" in figure["class"] for figure in (chart, maps)] == [False, True]
    assert chart.select_one("a[href$='.png'] > img")  # in full size
    assert (book / "experiments" / str(maps.select_one(".by-night")["href"])).is_file()


def test_environment_page_shows_what_is_there(book: Path, tiny_run: study.Run) -> None:
    text = article(read(book)["environment"]).get_text(" ", strip=True)
    for fact in (tiny_run.provenance["numerics"], "profile = desktop", "vanillaNet"):
        assert fact in text
    assert f"torch {tiny_run.provenance['torch'].partition('+')[0]}" in text


def test_the_page_of_costs_shows_what_was_measured(book: Path) -> None:
    text = article(read(book)["speed"]).get_text(" ", strip=True).replace("’", "'").replace("−", "-")
    for row in targets.judge(ROOT / "benchmarks/results"):
        shown = f"{row['what']} {'≤' if row['high'] else '≥'} {row['bound']:g}{row['unit']} "
        if "met" in row:
            quartiles = f" {row['low']:.3f} to {row['upper']:.3f}" if "low" in row else ""
            shown += f"{row['value']:.3f}{row['unit']}{quartiles}"
            verdict = text.partition(shown)[2].split(maxsplit=1)[:1]
            assert verdict in ([["met"], ["no"]] if row["met"] else [["missed"]])  # "no difference is seen"
        else:
            shown += "not measured"
        assert shown in text
    assert "e+0" not in text


def test_columns_of_tables_have_names_and_missing_numbers_are_blank(book: Path) -> None:
    for name, page in read(book).items():
        heads = article(page).select("table thead th")
        assert all(head.get_text(strip=True) for head in heads), name
        assert not article(page).find("td", string="NaN"), name


def test_the_page_of_a_cluster_shows_what_a_job_costs(book: Path) -> None:
    rows = json.loads((ROOT / "benchmarks/workflow.json").read_text())["rows"]
    text = article(read(book)["cluster"]).get_text(" ", strip=True).replace("’", "'")
    assert {row["how"] for row in rows} == {"this machine's cores", "Slurm"}
    for row in rows:
        assert row["jobs"] >= 100
        share = row["cost"] / row["runs_per_job"]
        assert share < 0.1
        assert f"{row['how']} {row['jobs']} {row['runs_per_job']} runs {100 * share:.2g} %" in text


def article(page: BeautifulSoup) -> Tag:
    found = page.find("article")
    assert isinstance(found, Tag)
    return found


@pytest.fixture
def shown(any_book: Path) -> list[str]:
    """All pages of the built book; a few of the stand-ins."""
    few = ["index", "experiments/01-monitoring", "environment", "references"]
    return toc() if any_book == ROOT / "_build/html" else few


@pytest.mark.browser
def test_pages_fit_the_screen_and_load_nothing_from_elsewhere(
    any_book: Path, shown: list[str], visit: Visit
) -> None:
    """Pages opened from the disk load nothing from elsewhere, raise no error and fit the screen."""
    page = visit(f"{any_book.as_uri()}/index.html", viewport={"width": DESK, "height": 800})
    for name in shown:
        page.goto(f"{any_book.as_uri()}/{name}.html", wait_until="load")
        formulas = page.locator(".bd-article .math").count()
        page.wait_for_function(
            f"document.querySelectorAll('.bd-article .math mjx-container').length >= {formulas}"
        )
        for width in (DESK, PHONE):
            page.set_viewport_size({"width": width, "height": 800})
            for theme in ("light", "dark"):
                page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
                root = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
                assert root[0] <= root[1], f"{name} is {root[0]} pixels wide at {width}, {theme}"
                text, ground = page.evaluate(
                    """() => [getComputedStyle(document.querySelector('.bd-article p')).color,
                              getComputedStyle(document.body).backgroundColor]"""
                )
                assert contrast(text, ground) > 7, f"{name}, {theme}"


@pytest.mark.browser
def test_figures_are_shown_for_the_theme_and_in_full_size(book: Path, visit: Visit) -> None:
    page = visit(f"{book.as_uri()}/index.html", viewport={"width": PHONE, "height": 800})
    page.goto(f"{book.as_uri()}/experiments/01-monitoring.html")
    chart, maps = page.locator(".bd-article figure").all()
    for theme, shown in (("light", [True, False]), ("dark", [False, True])):
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        pictures = [maps.locator(f"{kind} img, img{kind}") for kind in (".by-day", ".by-night")]
        assert [each.is_visible() for each in pictures] == shown
    narrow = chart.locator("img").bounding_box()
    chart.locator("img").click()
    wide = chart.locator("dialog img").bounding_box()
    assert narrow
    assert wide
    assert wide["width"] > 2 * narrow["width"]
    page.get_by_role("button", name="Close").click()
    chart.locator("dialog").wait_for(state="detached")  # its removal follows its "close" event
    assert chart.locator("img").count() == 1
    assert page.url.endswith("01-monitoring.html")


@pytest.mark.browser
def test_pages_are_accessible(any_book: Path, shown: list[str], visit: Visit) -> None:
    page = visit(f"{any_book.as_uri()}/index.html", viewport={"width": DESK, "height": 800})
    found = {}
    for name in shown:
        page.goto(f"{any_book.as_uri()}/{name}.html", wait_until="load")
        for theme in ("light", "dark"):
            page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
            if lines := violations(page):
                found[name, theme] = lines
    assert not found


@pytest.mark.browser
def test_search_finds_a_page(book: Path, visit: Visit, served: Callable[[Path], str]) -> None:
    page = visit(f"{served(book)}/search.html?q=perplexity")
    page.wait_for_selector("ul.search li a")
    page.wait_for_load_state("networkidle")  # excerpts are fetched one by one
