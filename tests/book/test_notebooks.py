"""The notebooks themselves, by plain papermill from a folder that is not the project's."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from refusals import refused

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))
BY_STEM = {path.stem: path for path in NOTEBOOKS}
SCALE, EXPLORER = BY_STEM["09-sparsity-or-scale"], BY_STEM["15-explorer"]


def executed(notebook: Path, folder: Path, **parameters: object) -> list[dict[str, Any]]:
    """The outputs' data of a notebook that papermill executes in `folder`, with runs in a folder there."""
    given = [text for name, value in parameters.items() for text in ("-p", name, str(value))]
    papermill = Path(sys.executable).with_name("papermill")
    result = subprocess.run(
        [papermill, notebook, "out.ipynb", "--no-progress-bar", *given],
        cwd=folder,
        env=os.environ | {"SPARSITY_RUNS": str(folder / "runs")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    cells = nbformat.read(folder / "out.ipynb", 4).cells
    outputs = [out.get("data", {}) for cell in cells for out in cell.get("outputs", [])]
    shown = [html for data in outputs if "<table" in (html := data.get("text/html", ""))]
    shown += [data.get("text/markdown", "") for data in outputs]
    assert not [text for text in shown if re.search(r"\bnan\b", text)]
    return outputs


@pytest.mark.parametrize(
    "notebook",
    [path for path in NOTEBOOKS if '"profile = ' in path.read_text(encoding="utf-8")],
    ids=lambda path: path.stem,
)
def test_unknown_profiles_are_refused_with_the_known(notebook: Path) -> None:
    code = [cell for cell in nbformat.read(notebook, 4).cells if cell.cell_type == "code"]
    parameters, first = code[:2]
    namespace: dict[str, object] = {}
    exec(parameters.source, namespace)
    name = "source" if notebook == SCALE else "profile"
    if name not in namespace:
        pytest.skip("it shows the published runs of several profiles")
    namespace[name] = "nonsense"
    with refused("nonsense", "laptop, desktop, registered, paper, language"):
        exec(first.source, namespace)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["02-sr1", "06-lenet-alexnet"])
def test_papermill_trains_from_any_folder(name: str, tmp_path: Path) -> None:
    outputs = executed(BY_STEM[name], tmp_path, epochs=6, limit=100, seeds="0,1", label_noise=0.3)
    texts = "".join(data.get("text/markdown", "") for data in outputs)
    assert sum("image/png" in data for data in outputs) >= 6
    assert texts
    assert any("sparsity-explorer" in data.get("text/html", "") for data in outputs)
    assert list((tmp_path / "runs").glob("*.nc"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["10-early-warning", "13-choices"])
def test_a_page_of_published_runs_takes_a_profile_without_any(name: str, tmp_path: Path) -> None:
    outputs = executed(BY_STEM[name], tmp_path, profile="paper")
    assert "".join(data.get("text/markdown", "") for data in outputs)
    assert not list((tmp_path / "runs").glob("*.nc"))


@pytest.mark.slow
def test_the_page_of_choices_shows_runs_of_other_seeds(tmp_path: Path) -> None:
    outputs = executed(BY_STEM["13-choices"], tmp_path, epochs=2, limit=60, seeds="0")
    assert sum("image/png" in data for data in outputs) == 10
    assert list((tmp_path / "runs").glob("*.nc"))


@pytest.mark.slow
def test_the_page_of_the_explorer_shows_runs_a_training_and_an_image(tmp_path: Path) -> None:
    outputs = executed(EXPLORER, tmp_path, epochs=6, limit=100, seeds="0,1", networks="vanillaNet,normNet")
    assert len(list((tmp_path / "runs").glob("*.nc"))) == 3
    pages = [data["text/html"] for data in outputs if "text/html" in data]
    assert ["sparsity-explorer" in page for page in pages] == [True, False, True]
    assert "predicted" in pages[2]
