"""Commands, lock, citation, notebooks and book agree with one another."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from programs import python

import notebooks

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The result of `make ...` in a folder, also when make itself runs the tests."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A checkout in which nothing was set up."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml", "scripts/installer.lock"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def test_ci_runs_the_commands_of_the_readme() -> None:
    commands = re.findall(r"^make ([a-z-]+)", (ROOT / "README.md").read_text(), flags=re.MULTILINE)[:2]
    called = re.findall(r"^make ([a-z-]+)", (ROOT / ".ci/run").read_text(), flags=re.MULTILINE)
    assert commands == ["study", "test"]
    assert called == [*commands, "test-slow"]
    assert (ROOT / ".ci/run").stat().st_mode & 0o111


@pytest.mark.parametrize("failing", ["study", "test", "test-slow", "nothing"])
def test_ci_fails_where_a_command_fails(tmp_path: Path, failing: str) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    for name in ("dpkg-query", "make"):  # nothing to install; the rest is make's
        (tmp_path / name).write_text(f"#!/bin/sh\nprintf installed\n[ $1 != {failing} ]\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run([tmp_path / ".ci/run"], env=os.environ | {"PATH": path}, check=False)
    assert bool(result.returncode) == (failing != "nothing")


def test_help_lists_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    listed = re.findall(r"^  make ([a-z-]+) ", make(ROOT, "help").stdout, flags=re.MULTILINE)
    assert sorted(listed) == sorted(phony[1].split())


def test_an_unfit_python_is_refused_in_one_line(bare: Path) -> None:
    result = make(bare, "test", "PYTHON=no-such-python")
    assert result.returncode == 2
    assert "no-such-python" in result.stderr
    assert "3.11" in result.stderr
    assert len([line for line in result.stderr.splitlines() if not line.startswith("make")]) == 1
    assert not (bare / ".venv").exists()


def test_clean_keeps_what_was_not_made_here(bare: Path) -> None:
    kept = [".venv/x", "data/x", "runs/x", "results/laptop/x", "book/index.md"]
    made = ["_build/html/x", "book/experiments/x"]
    for name in kept + made:
        (bare / name).parent.mkdir(parents=True, exist_ok=True)
        (bare / name).write_text("")
    assert make(bare, "clean").returncode == 0
    assert all((bare / name).exists() for name in kept)
    assert not any((bare / name).exists() for name in made)


def test_the_lock_holds_every_direct_dependency() -> None:
    pinned = re.findall(r"^([a-z0-9._-]+)==", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)
    extras = PYPROJECT["optional-dependencies"]
    of_frameworks = {"lightning", "transformers"}  # 120 MB that neither the study nor the book needs
    wanted = [PYPROJECT["dependencies"], *(extras[name] for name in extras.keys() - of_frameworks)]
    names = {re.split(r"[><=~!\[ ]", each)[0] for group in wanted for each in group}
    assert names - {PYPROJECT["name"]} <= set(pinned)  # an extra may name another


def test_the_citation_is_complete() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "type", "authors", "version", "license"} <= citation.keys()
    assert citation["version"] == PYPROJECT["version"]
    assert citation["license"] == PYPROJECT["license"]
    assert citation["authors"] == [{"name": "the sparsity_lib authors"}]
    assert citation["authors"][0]["name"] in (ROOT / "LICENSE").read_text()


@pytest.fixture
def workflow() -> dict:
    """The continuous integration of the repository's host."""
    return yaml.safe_load((ROOT / ".github/workflows/book.yml").read_text())


def test_the_workflow_has_least_permissions(workflow: dict) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["jobs"]["publish"]["permissions"] == {"pages": "write", "id-token": "write"}
    assert any(".ci/run" in step.get("run", "") for step in workflow["jobs"]["build"]["steps"])


def test_the_workflow_pins_its_actions() -> None:
    workflows = sorted((ROOT / ".github/workflows").glob("*.y*ml"))
    used = [each for path in workflows for each in re.findall(r"uses: *(.*)", path.read_text())]
    assert len(used) >= 3
    assert [
        each for each in used if not re.fullmatch(r"[\w-]+/[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)
    ] == []


def test_the_lock_is_audited_with_every_change_and_every_week(workflow: dict) -> None:
    when = workflow[True]  # YAML takes a bare "on" for a truth value
    assert len(when["schedule"][0]["cron"].split()) == 5
    assert {"push", "pull_request"} <= when.keys()
    audit = workflow["jobs"]["audit"]
    assert "if" not in audit
    assert "needs" not in audit
    (command,) = (step["run"] for step in audit["steps"] if "run" in step)
    assert re.search(r"install --quiet pip-audit==[\d.]+\n", command)
    # Without --strict, what could not be looked up would pass.
    for option in ("--requirement requirements.lock", "--require-hashes", "--disable-pip", "--strict"):
        assert option in command.splitlines()[-1]
    assert workflow["jobs"]["build"]["if"] == "github.event_name != 'schedule'"


@pytest.mark.parametrize(("target", "option"), [("lab", "--ip=127.0.0.1"), ("serve", "--bind 127.0.0.1")])
def test_the_book_and_jupyter_are_served_to_this_machine_alone(target: str, option: str) -> None:
    assert option in make(ROOT, "--dry-run", "--assume-old=.venv/.installed", target).stdout


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_parameters_no_outputs_and_folds_long_cells(path: Path) -> None:
    assert re.fullmatch(r"\d\d-[a-z0-9-]+", path.stem)
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert sum("parameters" in cell["metadata"].get("tags", []) for cell in code) == 1
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert notebooks.defaults(path)  # as papermill lists them
    for cell in code:
        long = len("".join(cell["source"]).splitlines()) > 25
        assert not long or "hide-input" in cell["metadata"].get("tags", []), cell["id"]


@pytest.mark.slow
def test_a_book_is_built_whole_or_not_at_all(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "book").mkdir()
    (tmp_path / "book/_toc.yml").write_text("format: jb-book\nroot: index\n")
    (tmp_path / "_config.yml").write_text("title: A book\n")
    page, html = tmp_path / "book/index.md", tmp_path / "_build/html/index.html"

    def build(text: str) -> subprocess.CompletedProcess[str]:
        page.write_text(text)
        return python("scripts/book.py", folder=tmp_path)

    first = build("# One\n")
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout == f"book: building\nthe book's first page: {html}\n"
    assert build("# One\n").stdout == f"book: up to date\nthe book's first page: {html}\n"
    broken = build("# Two\n\n{ref}`nowhere`\n")
    assert broken.returncode == 1
    assert "nowhere" in broken.stderr
    assert broken.stderr.endswith("-W -n --keep-going\n")
    assert "One" in html.read_text()
    assert "Two" in (build("# Two\n"), html.read_text())[1]
    assert sorted(path.name for path in (tmp_path / "_build").iterdir()) == ["book.digest", "html"]
