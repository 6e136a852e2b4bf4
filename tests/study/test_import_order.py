"""Imports go one way: the library knows no study, and the study's parts form no circle."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest
from programs import python

PACKAGE = Path(__file__).resolve().parents[2] / "sparsity_lib"
STUDY = "sparsity_lib.study"


class Import(NamedTuple):
    """An import of one module of the package by another, by full names; `function` is "" at top level."""

    module: str
    imported: str
    function: str


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(module: str) -> Iterator[Import]:
    """All imports from the package, those in functions too, but for those that only a type checker sees."""

    def walk(node: ast.AST, function: str) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            names = []
            if isinstance(child, ast.Import):
                names = [alias.name for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                assert not child.level, f"{module} imports relatively"
                within = [f"{child.module}.{alias.name}" for alias in child.names]
                names = [name if name in PATHS else str(child.module) for name in within]
            yield from (
                Import(module, name, function) for name in names if name.split(".")[0] == PACKAGE.name
            )
            if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
                child = ast.Module(child.orelse, [])
            inside = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else ""
            yield from walk(child, function or inside)

    yield from walk(ast.parse(PATHS[module].read_text(encoding="utf-8")), "")


IMPORTS = [each for module in PATHS for each in imports_of(module)]


def in_study(module: str) -> bool:
    return f"{module}.".startswith(f"{STUDY}.")


def part(module: str) -> str:
    """The module or package right inside the study."""
    return module.removeprefix(STUDY).lstrip(".").partition(".")[0]


def test_the_study_is_imported_by_itself_alone() -> None:
    found = {each for each in IMPORTS if in_study(each.imported) and not in_study(each.module)}
    names_of_before = Import(PACKAGE.name, f"{STUDY}.explorers", "__getattr__")
    assert found == {names_of_before}


def test_imports_have_no_circle() -> None:
    graph: dict[str, set[str]] = {module: set() for module in PATHS}
    for module, imported, function in IMPORTS:
        # A package's __init__ may import its own modules, and they one another.
        if not function and not f"{module}.".startswith(f"{imported}."):
            graph[module].add(imported)
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle
    parts: dict[str, set[str]] = {}  # of the study; here imports in functions count too
    for module, imported, _ in IMPORTS:
        if in_study(module) and in_study(imported) and part(module) != part(imported):
            parts.setdefault(part(module), set()).add(part(imported))
    TopologicalSorter(parts).prepare()


def test_files_and_packages_stay_small() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in PATHS.values()}
    assert not [path for path, count in lines.items() if count > 350]
    packages = {path.parent for path in PATHS.values()} - {PACKAGE}
    assert not [package for package in packages if len(list(package.glob("*.py"))) > 15]


@pytest.mark.parametrize(
    ("program", "absent"),
    [
        ("from sparsity_lib.study.__main__ import main; main(['status', 'laptop'])", {"torch"}),
        ("from sparsity_lib.study import data; data.load('digits')", {"torchvision", "PIL"}),
        ("import sparsity_lib.explorer", {"sparsity_lib.study", "xarray", "h5py"}),
        pytest.param("import sparsity_lib.study.training.loop", {"pandas", "xarray"}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("runs_folder")
def test_modules_that_take_long_are_imported_only_where_they_are_needed(
    program: str, absent: set[str]
) -> None:
    code = f"import sys; {program}; assert not {absent} & set(sys.modules)"
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
