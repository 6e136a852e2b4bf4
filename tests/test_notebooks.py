"""The notebooks themselves, by plain papermill from a folder that is not the project's."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_papermill_runs_it_from_any_folder(notebook: Path, tmp_path: Path) -> None:
    small = {"epochs": 6, "limit": 100, "seeds": "0,1", "label_noise": "0.3"}
    given = [text for name, value in small.items() for text in ("-p", name, str(value))]
    papermill = Path(sys.executable).with_name("papermill")
    result = subprocess.run(
        [papermill, notebook, "out.ipynb", "--no-progress-bar", *given],
        cwd=tmp_path,
        env=os.environ | {"SPARSITY_RUNS": str(tmp_path / "runs")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    outputs = [
        out for cell in nbformat.read(tmp_path / "out.ipynb", 4).cells for out in cell.get("outputs", [])
    ]
    pictures = [out for out in outputs if "image/png" in out.get("data", {})]
    texts = "".join(out["data"]["text/markdown"] for out in outputs if "text/markdown" in out.get("data", {}))
    assert len(pictures) >= 6
    assert "epoch" in texts
    assert "n = 2" in texts
    assert any("sparsity-explorer" in out.get("data", {}).get("text/html", "") for out in outputs)
    assert list((tmp_path / "runs").glob("*.nc"))
