"""The book's printed code runs, its commands and parameters exist, its arithmetic is right."""

import ast
import inspect
import math
import re
import shlex
from pathlib import Path

import described_images
import nbformat
import pytest
from docutils import nodes
from docutils.utils import new_document

import notebooks
from sparsity_lib import study
from sparsity_lib.models import WIDTHS
from sparsity_lib.study.__main__ import _field, _parser
from sparsity_lib.study.analysis import pilot_onset
from sparsity_lib.study.experiment import FIELD_NETWORKS
from sparsity_lib.study.profiles import PROFILES

ROOT = Path(__file__).resolve().parents[2]
BOOK = ROOT / "book"


def blocks(text: str, language: str) -> list[str]:
    """The text's code blocks in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", ["own-network", "penalties"])
def test_printed_python_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # it writes for TensorBoard
    namespace: dict[str, object] = {}
    for code in blocks((BOOK / f"{page}.md").read_text(), "python"):
        if page == "penalties":  # each block runs alone
            namespace = {}
        exec(compile(code, f"{page}.md", "exec"), namespace)
    assert namespace


def commands_in(start: str) -> list[str]:
    """The text after `start` in the shell lines of the pages and notebooks, and in the README's table."""
    notebooks = [nbformat.read(path, 4) for path in ROOT.glob("notebooks/*.ipynb")]
    prose = [cell.source for notebook in notebooks for cell in notebook.cells if cell.cell_type == "markdown"]
    pages = [path.read_text() for path in BOOK.glob("*.md")]
    printed = [block for text in (*prose, *pages) for block in blocks(text, "sh")]
    printed += re.findall(r"`([^`\n]+)`", (ROOT / "README.md").read_text())
    return re.findall(rf"{re.escape(start)}(.*)", "\n".join(printed).replace("\\\n", " "))


def test_printed_commands_are_parsed() -> None:
    commands = commands_in("python -m sparsity_lib.study ")
    for line in commands:
        arguments = _parser().parse_args(shlex.split(line, comments=True))
        study.Experiment(**dict(map(_field, getattr(arguments, "fields", []))))
    assert len(commands) >= 6


def test_printed_papermill_lines_name_parameters_that_exist() -> None:
    commands = 0
    for line in commands_in("papermill notebooks/"):
        notebook, *arguments = shlex.split(line, comments=True)
        assert set(arguments[2::3]) <= set(notebooks.defaults(ROOT / "notebooks" / notebook))
        commands += 1
    assert commands >= 12


def test_parameters_on_the_page_of_readings_exist() -> None:
    text = re.sub(r"\{cite(:t)?\}`\w+`", "", (BOOK / "readings.md").read_text())
    ours, analysis = study.Experiment.model_fields, inspect.signature(pilot_onset).parameters
    named = {}
    for name, value in re.findall(r"`([a-z_]+)(?:=([^`]+))?`", text):
        assert name in ours or name in analysis, name
        named[name] = value
        if value and name in ours:
            network = FIELD_NETWORKS.get(name, ("vanillaNet",))[0]
            study.Experiment(**{"network": network, name: ast.literal_eval(value)})
    assert len(named) > 15
    assert [int(n) for n in re.findall(r"^## T(\d+) ·", text, re.MULTILINE)] == list(range(1, 20))
    assert set(re.findall(r"\]\(#(t\d+)\)", text)) == {f"t{n}" for n in range(1, 20)}
    others = re.findall(r"^### ([ISG]\d) ·", text, re.MULTILINE)
    assert [f"({name.lower()})=\n### {name} ·" in text for name in others] == [True] * 7


def test_the_table_of_strengths_is_computed_correctly() -> None:
    """λ R ln D at λ = 0.001: R falls by four with each pooling, to 1 in fc1."""
    text = (BOOK / "penalties.md").read_text()
    rows = re.findall(r"\* - (\d+) × \d+, (\w+)\n((?:  - [\d.]+\n){5})", text)
    for side, size, cells in rows:
        positions = [int(side) ** 2] * 2 + [int(side) ** 2 // 4] * 2 + [1]
        expected = [0.001 * r * math.log(d) for r, d in zip(positions, WIDTHS[size], strict=True)]
        assert [float(cell) for cell in re.findall(r"[\d.]+", cells)] == pytest.approx(expected, abs=5e-4)
    assert len(rows) == 3


def test_the_table_of_grids_has_the_cells_of_each_profile() -> None:
    text = (BOOK / "reproduce.md").read_text()
    heading, _, *rows = re.findall(r"^\| grid .+\n(?:\|.+\n)+", text, re.MULTILINE)[0].splitlines()
    shown: dict[str, dict[str, int]] = {name: {} for name in heading.strip("| ").split(" | ")[2:]}
    for row in rows:
        grid, _, *counts = (cell.strip() for cell in row.strip("|").split("|"))
        for name, count in zip(shown, counts, strict=True):
            shown[name] |= {grid.strip("`"): int(count)} if count else {}
    assert shown == {
        name: {grid: len(each.cells) for grid, each in PROFILES[name].grids.items()} for name in shown
    }
    assert PROFILES.keys() - shown == {"language"}


def test_images_without_a_description_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(described_images.logger, "warning", lambda text, **_: warnings.append(text))
    page = new_document("page")
    page += nodes.figure("", nodes.image(uri="a.png", alt="A ramp."), nodes.caption("", "A ramp."))
    described_images._check(None, page)
    assert not warnings
    page += nodes.image(uri="b.png")
    described_images._check(None, page)
    assert len(warnings) == 2  # no alternative text, no caption
    page += nodes.image(uri="c.png", alt="c.png")
    described_images._check(None, page)
    assert len(warnings) == 2 + 4
