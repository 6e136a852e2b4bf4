"""Absent from the source: ways for a file or an address to run code.

Ruff refuses `eval`, `exec`, pickles, shells and unsafe YAML (rules S in pyproject.toml).
"""

import ast
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = [
    path for part in ("sparsity_lib", "scripts", "book", "benchmarks") for path in (ROOT / part).rglob("*.py")
]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IMPORTERS = {
    "sparsity_lib/study/experiment.py",  # of a user's network, by name
    *("sparsity_lib/__init__.py", "sparsity_lib/study/__init__.py"),  # of their own modules, lazily
    "book/_ext/api_reference.py",  # of the modules that it describes
}


def source_of(path: Path) -> str:
    """Python; of a notebook that of its code cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    return "\n".join("".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "code")


def faults(source: str, name: str) -> list[str]:
    """The calls that ruff has no rule for: loaders that may unpickle, and imports by name."""
    found = []
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        called = ast.unparse(call.func)
        given = {each.arg: ast.unparse(each.value) for each in call.keywords}
        if (
            (called == "torch.load" and given.get("weights_only") != "True")
            or (called in ("np.load", "numpy.load") and given.get("allow_pickle") != "False")
            or (called.endswith(("import_module", "resolve_name", "__import__")) and name not in IMPORTERS)
        ):
            found.append(ast.unparse(call))
    return found


def test_sources_have_no_call_that_runs_data() -> None:
    assert len(FILES) > 80
    assert len(NOTEBOOKS) > 10
    for path in FILES + NOTEBOOKS:
        assert faults(source_of(path), str(path.relative_to(ROOT))) == [], path


def test_addresses_in_sources_are_encrypted_or_local() -> None:
    named = []
    for path in FILES + NOTEBOOKS:
        for node in ast.walk(ast.parse(source_of(path))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named += [word for word in node.value.split() if "://" in word]
    assert any("tiny-imagenet" in address for address in named)
    allowed = ("https://", "http://www.w3.org/2000/svg", "http://127.0.0.1")
    assert [each for each in named if not each.lstrip("(<'\"`").startswith(allowed)] == []
