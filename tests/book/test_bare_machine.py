"""The queue on a machine with the packages that training needs, and no others."""

import re
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from image_folders import make_folder

from sparsity_lib import study

ROOT = Path(__file__).parents[2]
THERE = ("torch", "torchvision", "numpy", "xarray", "h5py")
CARRIED = ("h5netcdf", "filelock", "pydantic", "tqdm")


def with_needs(names: tuple[str, ...]) -> dict[str, Distribution]:
    """The distributions of these names and all that they require."""
    found: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # for another system
            continue
        for need in found[name].requires or ():
            needed = re.match(r"[A-Za-z0-9._-]+", need)
            if needed and "extra ==" not in need:
                waiting.append(needed[0])
    return found


def make_site(folder: Path) -> None:
    """A folder of installed packages, with those alone."""
    folder.mkdir()
    for installed in with_needs(THERE + CARRIED).values():
        for name in {path.parts[0] for path in installed.files or ()} - {"..", "__pycache__"}:
            if not (folder / name).exists():
                (folder / name).symlink_to(installed.locate_file(name))


SCRIPT = """
import sys
from sparsity_lib.study import profiles
from sparsity_lib.study.__main__ import main

if __name__ == "__main__":
    grid = profiles.Grid({cells!r}, seeds=(0,), published_seeds=(0,))
    profiles.PROFILES["two"] = profiles.Profile("two cells", {{"networks": grid}})
    sys.exit(main(["run", "two", "--seconds", "300", "--jobs", "2", "--out", "home"]))
"""


@pytest.mark.slow
def test_the_queue_needs_little_and_leaves_a_file_a_run(tmp_path):
    make_site(tmp_path / "site")
    fields = {"dataset": f"folder:{make_folder(tmp_path / 'images')}", "epochs": 2, "batch_size": 4}
    cells = [{"network": network, **fields} for network in ("vanillaNet", "sr3Net")]
    (tmp_path / "two.py").write_text(SCRIPT.format(cells=cells))
    for outcome in ("2 trained", "2 runs were there, 0 trained"):
        done = subprocess.run(
            [sys.executable, "-S", "-W", "error", "two.py"],  # without this environment's packages
            cwd=tmp_path,
            env={"PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}", "SPARSITY_DATA": str(tmp_path / "data")},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert outcome in done.stdout
    left = [path for path in (tmp_path / "home").iterdir() if path.suffix != ".lock"]
    ids = [study.Experiment(**cell).id for cell in cells]
    assert {path.name for path in left} == {f"{run}{end}" for run in ids for end in (".nc", ".weights.pt")}
    assert all(path.stat().st_size < 300_000 for path in left)
