"""Constructs that the source must not have: code execution from files that are read, or from parameters."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = [
    path for part in ("sparsity_lib", "scripts", "book", "benchmarks") for path in (ROOT / part).rglob("*.py")
]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

RUN_TEXT = {"eval", "exec", "compile", "__import__"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput", "pty.spawn"}
UNPICKLE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
IMPORTERS = {
    "sparsity_lib/study/experiment.py",  # of a network of one's own, by name
    *("sparsity_lib/__init__.py", "sparsity_lib/study/__init__.py"),  # of their own modules, when asked for
}
UNPICKLERS = {"sparsity_lib/study/data/cifar.py"}  # of an archive whose digest is the published one


def source_of(path: Path) -> str:
    """Python, of a notebook that of its code cells; cells' magics would be no Python."""
    if path.suffix == ".py":
        return path.read_text(encoding="utf-8")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Each call with what is called, as it is written: `torch.load`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def imported(tree: ast.AST) -> Iterator[str]:
    """The names that are imported, in full."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def said(call: ast.Call, keyword: str) -> object:
    """The constant that a keyword is given, or None."""
    found = [each.value for each in call.keywords if each.arg == keyword]
    return found[0].value if found and isinstance(found[0], ast.Constant) else None


def faults(source: str, name: str) -> Iterator[str]:
    """Constructs of a source that execute data."""
    tree = ast.parse(source)
    for whole in imported(tree):
        unpickles = whole.split(".")[0] in UNPICKLE and name not in UNPICKLERS
        if unpickles or whole in SHELLS:
            yield f"imports {whole}"
        if whole.startswith("importlib") and "import_module" in whole:
            yield f"imports {whole}"
    for called, call in calls(tree):
        last = called.rpartition(".")[2]
        if called in RUN_TEXT or called in SHELLS or called.startswith(("os.exec", "os.spawn")):
            yield f"calls {called}"
        if last == "import_module" and name not in IMPORTERS:
            yield f"calls {called}"
        if any(each.arg == "shell" for each in call.keywords):
            yield f"calls {called} with a shell"
        if called == "torch.load" and said(call, "weights_only") is not True:
            yield "torch.load without weights_only=True"
        if called in ("np.load", "numpy.load") and said(call, "allow_pickle") is not False:
            yield "np.load without allow_pickle=False"
        if called.startswith("yaml.") and last not in ("safe_load", "safe_dump"):
            yield f"calls {called}"
        if last in ("read_pickle", "to_pickle"):
            yield f"calls {called}"


@pytest.mark.parametrize("path", FILES + NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_read_is_run(path: Path) -> None:
    assert list(faults(source_of(path), str(path.relative_to(ROOT)))) == []


@pytest.mark.parametrize(
    "bad",
    [
        "import pickle",
        "from pickle import loads",
        "eval(text)",
        "exec(text)",
        "import os\nos.system(text)",
        "from os import system",
        "subprocess.run(text, shell=True)",
        "subprocess.run(text, shell=maybe)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.Loader)",
        "importlib.import_module(name)",
        "from importlib import import_module",
        "__import__(name)",
        "pd.read_pickle(path)",
        "os.execvp(name, names)",
    ],
)
def test_each_way_in_would_be_found(bad: str) -> None:
    assert len(list(faults(bad, "elsewhere.py"))) == 1


def test_the_files_are_found() -> None:
    assert len(FILES) > 80
    assert len(NOTEBOOKS) > 10
    assert {"sparsity_lib/study/training/loop.py", "book/_ext/study_facts.py"} <= {
        str(path.relative_to(ROOT)) for path in FILES
    }


def test_every_address_in_the_code_is_encrypted_or_this_machine() -> None:
    named = []
    for path in FILES + NOTEBOOKS:
        for node in ast.walk(ast.parse(source_of(path))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named += [word for word in node.value.split() if "://" in word]
    assert any("tiny-imagenet" in address for address in named)
    allowed = ("https://", "http://www.w3.org/2000/svg", "http://127.0.0.1")
    assert [each for each in named if not each.lstrip("(<'\"`").startswith(allowed)] == []
