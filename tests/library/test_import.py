"""Importing the library takes torch and numpy, and hardly any time."""

from pathlib import Path

import pytest
from programs import python

import sparsity_lib

ONLY_TORCH_AND_NUMPY = """
import sys, time
import numpy, torch

class Blocker:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ("torch", "numpy", "sparsity_lib"):
            raise AssertionError(f"imports {name}")
        for part in ("study", "explorer"):
            if name.startswith(f"sparsity_lib.{part}"):
                raise AssertionError(f"imports {name}")

sys.meta_path.insert(0, Blocker())
start = time.process_time()
import sparsity_lib as sl
seconds = time.process_time() - start
assert seconds < 0.5, f"{seconds} s beyond torch"
from sparsity_lib import *
print(SparsityReg, ActivationMonitor, functional.rfav_entropy)
"""


def test_import_needs_torch_and_numpy_alone_and_half_a_second_at_most() -> None:
    done = python("-W", "error", "-c", ONLY_TORCH_AND_NUMPY)
    assert done.returncode == 0, done.stderr


def test_every_public_module_is_an_attribute() -> None:
    source = Path(sparsity_lib.__file__).parent
    public = {
        path.stem for path in source.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    names = sorted(name for name in public if not name.startswith("_"))
    assert {"monitor", "regularizers", "study"} <= {*names} <= {*dir(sparsity_lib)}
    assert {"HeatmapExplorer", "ImageExplorer", "Recording", "SparsityReg"} <= {*dir(sparsity_lib)}
    code = f"import sparsity_lib as sl\nfor name in {names}: print(getattr(sl, name).__name__)"
    done = python("-c", code)
    assert done.stdout.split() == [f"sparsity_lib.{name}" for name in names], done.stderr


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        _ = sparsity_lib.Nothing
