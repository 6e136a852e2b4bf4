"""The API reference describes every public name, and the examples of the study run."""

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import accessible_html
import api_reference
import pandas as pd
import pytest
import repository_links
import torch
from bs4 import BeautifulSoup
from examples import run_example

import sparsity_lib as sl
from sparsity_lib import study

ROOT = Path(__file__).resolve().parents[2]
EXPLORERS = ["HeatmapExplorer", "ImageExplorer", "Recording"]


def names_of(module: str) -> list[str]:
    """The names in a module's `__all__`, which is not imported, as it may need more than is installed."""
    tree = ast.parse((ROOT / module.replace(".", "/")).with_suffix(".py").read_text())
    (names,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    return [f"{module}.{name}" for name in ast.literal_eval(names)]


def test_reference_describes_public_names_once() -> None:
    pages = "\n".join(path.read_text() for path in (ROOT / "book/reference").glob("*.md"))
    described = re.findall(r"^\.\. auto(?:class|data|exception|function):: (\S+)", pages, re.MULTILINE)
    public = [
        f"sparsity_lib.{name}"
        for name in [*sl.__all__, *EXPLORERS]
        if not inspect.ismodule(getattr(sl, name))
    ]
    for module in ("functional", "models", "integrations.lightning", "integrations.transformers"):
        public += names_of(f"sparsity_lib.{module}")
    public += [f"sparsity_lib.study.{name}" for name in study.__all__]
    assert sorted(described) == sorted(public)


def test_reference_describes_each_constant() -> None:
    pages = "\n".join(path.read_text() for path in (ROOT / "book/reference").glob("*.md"))
    constants = re.findall(r"^\.\. autodata:: (\S+)\.(\w+)", pages, re.MULTILINE)
    assert constants
    for module, name in constants:
        lines = inspect.getsource(importlib.import_module(module)).splitlines()
        (at,) = (i for i, line in enumerate(lines) if re.match(rf"{name}\b.* = ", line))
        assert [line[:3] == "#: " for line in lines[at - 2 : at]] == [False, True], name


@pytest.mark.parametrize("name", study.__all__)
def test_examples_of_the_study_run(name: str, tiny_run: study.Run) -> None:
    surroundings: dict[str, Any] = {
        **{"study": study, "experiment": tiny_run.experiment, "experiments": [tiny_run.experiment]},
        **{"run": tiny_run, "runs": [tiny_run, tiny_run], "path": tiny_run.path},
        "images": torch.zeros(2, 1, 8, 8, dtype=torch.uint8),
    }
    run_example(getattr(study, name), surroundings)


def test_links_to_the_repository_appear_once_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project.urls]\nRepository = "https://github.com/a/b/"')
    address = repository_links.repository(tmp_path)
    assert address == "https://github.com/a/b"
    assert repository_links.colab(address, "experiments/02-sr1").endswith(
        "/github/a/b/blob/main/notebooks/02-sr1.ipynb"
    )
    assert repository_links.colab(address, "own-network") is None
    assert repository_links.colab("", "experiments/02-sr1") is None


def test_names_of_an_index_stand_in_the_row_of_the_last_headings() -> None:
    index = pd.MultiIndex.from_tuples([("digits", "conv3")], names=["setting", "layer"])
    two = pd.MultiIndex.from_tuples([("runs", "n"), ("SD", "end")])
    rows = [["setting", "layer", "n", "end"]]
    for columns, above in ((two, [["", "", "runs", "SD"]]), (["n", "end"], [])):
        context = {"body": pd.DataFrame([[1, 2.0]], index, columns).to_html(classes="dataframe")}
        accessible_html._correct(None, "", "", context)
        head = BeautifulSoup(context["body"], "html.parser").thead
        assert [
            [cell.text for cell in row.find_all(["th", "td"])] for row in head.find_all("tr")
        ] == above + rows


def test_every_field_of_an_experiment_is_described() -> None:
    described = dict(api_reference.described_fields(study.Experiment))
    assert described.keys() == study.Experiment.model_fields.keys()
    assert "'glorot'" in described["init"]
    assert "(#t6)" in described["init"]
