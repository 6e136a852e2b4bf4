"""The notebook runner: what papermill lets through must not become a page, and equal runs give equal pages.

Everything is tested through the command line, on small notebooks in a project of their own.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
PARAMETERS = "profile = 'laptop'\nepochs = 0\nseeds = '0,1'\nlr = 0.1\nn = 3\nquick = False"
GOOD = [
    "print(profile, n, quick, epochs)",
    "",
    "for i in range(50):\n    print(f'\\r{i}', end='', flush=True)",
    "import ipywidgets\nipywidgets.interact(lambda x: x, x=(0, 3))",
    "view = {'application/vnd.jupyter.widget-view+json': {'model_id': 'm'}, 'text/html': '<b>still</b>'}\n"
    "display(view, raw=True)",
    "import pathlib\npathlib.Path('notebooks').exists()",
    "import os\nwith open(os.environ['SPARSITY_READS'], 'a') as notes:\n"
    "    notes.write(str(pathlib.Path('runs/a.nc').resolve()) + '\\n')",
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the real runner, an empty library, one good notebook and one for each trap."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(SCRIPTS, root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("notebooks", "sparsity_lib", "runs"):
        (root / folder).mkdir()
    (root / "sparsity_lib/functional.py").write_text("x = 1\n")
    (root / "requirements.lock").write_text("a==1\n")
    (root / "runs/a.nc").write_text("first")
    write(root, "01-good", PARAMETERS, *GOOD)
    write(root, "02-exit", "n = 3", "import sys\nsys.exit(0)", "1 / 0")
    write(root, "03-error", "n = 3", "1", "raise ValueError('no such layer\\nnor that')")
    write(root, "04-killed", "n = 3", "import os\nos._exit(0)", "1")
    return root


@pytest.fixture(scope="module")
def first(project: Path) -> subprocess.CompletedProcess[str]:
    """All notebooks executed once; a page of each was there before."""
    pages = project / "book/experiments"
    pages.mkdir(parents=True)
    for source in (project / "notebooks").glob("*.ipynb"):
        (pages / source.name).write_text("an older page")
    (pages / "00-renamed.ipynb").write_text("a page whose notebook is gone")
    return runner(project)


@pytest.fixture
def good(project: Path, first: object) -> Iterator[Path]:
    """The page of the good notebook; what a test changes in the project is put back."""
    changed = ["notebooks/01-good.ipynb", "sparsity_lib/functional.py", "requirements.lock", "runs/a.nc"]
    before = {name: (project / name).read_bytes() for name in changed}
    yield project / "book/experiments/01-good.ipynb"
    for name, content in before.items():
        (project / name).write_bytes(content)


def write(root: Path, name: str, parameters: str, *cells: str) -> None:
    """Write the notebook `name`, with a parameters cell."""
    tagged = new_code_cell(parameters, metadata={"tags": ["parameters"]})
    code = [new_code_cell(source) for source in cells]
    notebook = new_notebook(cells=[new_markdown_cell(f"# {name}"), tagged, *code])
    nbformat.write(notebook, root / "notebooks" / f"{name}.ipynb")


def runner(root: Path, *arguments: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
    """What `python scripts/notebooks.py ...` says and returns."""
    return subprocess.run(
        [sys.executable, "scripts/notebooks.py", *arguments],
        cwd=root,
        env={name: value for name, value in os.environ.items() if name != "SPARSITY_RUNS"},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )


def outputs(page: Path) -> list[list[dict]]:
    """The outputs of each code cell."""
    return [cell["outputs"] for cell in json.loads(page.read_text())["cells"] if cell["cell_type"] == "code"]


def test_only_whole_notebooks_become_pages(project: Path, first: subprocess.CompletedProcess[str]) -> None:
    assert first.returncode == 1
    assert [page.name for page in (project / "book/experiments").iterdir()] == ["01-good.ipynb"]
    kept = {path.name for path in (project / "_build/notebooks").iterdir()}
    older = {f"{name}.damaged.ipynb" for name in ("01-good", "02-exit", "03-error", "04-killed")}
    assert kept == {"02-exit.ipynb", "03-error.ipynb", "04-killed.ipynb"} | older


def test_a_failure_names_notebook_cell_and_error(first: subprocess.CompletedProcess[str]) -> None:
    # A kernel that dies may write of its sockets there too, now and then.
    ours = [line for line in first.stderr.splitlines() if line.startswith(("error:", "failed:"))]
    lines = sorted(ours[:-1])
    beginnings = [
        "error: 02-exit.ipynb is not in the book: code cell 2 of 3: SystemExit: 0 (see",
        "error: 03-error.ipynb is not in the book: code cell 3 of 3: ValueError: no such layer (see",
        "error: 04-killed.ipynb is not in the book: code cell 2 of 3: DeadKernelError: Kernel died (see",
    ]
    assert len(lines) == 3
    assert all(line.startswith(beginning) for line, beginning in zip(lines, beginnings, strict=True))
    assert all("_build/notebooks/0" in line for line in lines)
    assert ours[-1] == "failed: 02-exit, 03-error, 04-killed"


def test_progress_is_visible(first: subprocess.CompletedProcess[str]) -> None:
    assert "[1 of 4] 01-good: code cell 2 of 7, " in first.stdout


def test_a_page_holds_no_time_no_path_and_no_widget(good: Path, project: Path) -> None:
    text, shown = good.read_text(), outputs(good)
    for trace in ("papermill", "_time", "duration", "widget-state", str(project)):
        assert trace not in text
    assert "widget-view" not in json.dumps(shown)
    assert shown[1][0]["text"] == ["laptop 3 False 0\n"]
    assert [output["text"] for output in shown[3]] == [["49"]]
    assert shown[5][0]["data"] == {"text/html": ["<b>still</b>"]}
    assert shown[6][0]["data"]["text/plain"] == ["True"]


def test_equal_runs_give_equal_pages(good: Path, project: Path, tmp_path: Path) -> None:
    assert runner(project, "01", "--out", str(tmp_path)).returncode == 0
    assert (tmp_path / good.name).read_bytes() == good.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [good.name]


def test_parameters_are_passed_as_what_they_are(good: Path, project: Path, tmp_path: Path) -> None:
    texts = ["-p", "quick", "false", "-p", "epochs", "7", "-p", "profile", "desktop"]
    assert runner(project, "01-good", *texts, "--out", str(tmp_path)).returncode == 0
    assert outputs(tmp_path / good.name)[2][0]["text"] == ["desktop 3 False 7\n"]
    assert "other parameters" in runner(project, "01", "--check", "--out", str(tmp_path)).stdout


def test_a_notebook_without_a_parameter_of_another_is_executed_without_it(good: Path, project: Path) -> None:
    checked = runner(project, "01", "02", "--check", "-p", "profile", "laptop")
    assert checked.stdout == "stale: 02-exit: no page yet\n"


def test_what_is_up_to_date_is_left_alone(good: Path, project: Path) -> None:
    before = good.stat().st_mtime_ns
    again = runner(project, "notebooks/01-good.ipynb", "-p", "profile", "laptop")
    assert (again.returncode, again.stdout) == (0, "notebooks: 1 of 1 pages are up to date\n")
    assert good.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("notebooks/01-good.ipynb", "the notebook changed"),
        ("sparsity_lib/functional.py", "the code changed"),
        ("requirements.lock", "the locked environment changed"),
        ("runs/a.nc", "a run or published results that it reads changed"),
    ],
)
def test_a_stale_page_is_seen(good: Path, project: Path, name: str, reason: str) -> None:
    assert runner(project, "01", "--check").returncode == 0
    (project / name).write_bytes((project / name).read_bytes() + b"\n")
    checked = runner(project, "01", "--check")
    assert (checked.returncode, checked.stdout) == (1, f"stale: 01-good: {reason}\n")


def test_a_page_does_not_depend_on_runs_that_it_does_not_read(good: Path, project: Path) -> None:
    (project / "runs/b.nc").write_text("another")
    assert runner(project, "01", "--check").returncode == 0


def test_a_damaged_page_is_stale(good: Path, project: Path, tmp_path: Path) -> None:
    (tmp_path / good.name).write_bytes(good.read_bytes()[:100])
    assert "the page is damaged" in runner(project, "01", "--check", "--out", str(tmp_path)).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "sizes", "s"], "has no parameter 'sizes'; it has: profile, epochs, seeds, lr, n, quick"),
        (["-p", "n", "2.5"], "parameter 'n' is of type int (default 3), not '2.5'"),
        (["-p", "quick", "0"], "parameter 'quick' is of type bool (default False), not '0'"),
        (["-p", "epochs", "ten"], "parameter 'epochs' is of type int (default 0), not 'ten'"),
        (["-p", "lr", "small"], "parameter 'lr' is of type float (default 0.1), not 'small'"),
        (["05"], "no notebook '05'; there are: 01-good, 02-exit, 03-error, 04-killed"),
        (["--jobs", "0"], "--jobs must be 1 or more, not 0"),
        (["--out", "requirements.lock/x"], "requirements.lock/x: Not a directory"),
    ],
)
def test_bad_input_is_one_line_and_nothing_starts(
    good: Path, project: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    names = [] if arguments == ["05"] else ["01"]
    result = runner(project, *names, "--out", str(tmp_path / "out"), *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("n = 1 + 2", "the default of 'n' must be written out as a bool, int, float or string"),
        ("n = None", "the default of 'n' must be written out as a bool, int, float or string"),
        ("import os", "the parameters cell, line 1: not NAME = VALUE"),
        ("n = (", "the parameters cell, line 1: '(' was never closed"),
    ],
)
def test_a_parameters_cell_must_be_readable(
    project: Path, tmp_path: Path, content: str, message: str
) -> None:
    own = tmp_path / "project"
    shutil.copytree(project / "scripts", own / "scripts")
    (own / "notebooks").mkdir()
    write(own, "01-odd", content)
    result = runner(own)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr


def test_a_file_that_is_no_notebook_is_named(project: Path, tmp_path: Path) -> None:
    own = tmp_path / "project"
    shutil.copytree(project / "scripts", own / "scripts")
    (own / "notebooks").mkdir()
    (own / "notebooks/01-odd.ipynb").write_text("{")
    result = runner(own)
    assert (result.returncode, result.stderr) == (2, "error: 01-odd.ipynb is not a notebook of format 4\n")


def test_ctrl_c_keeps_no_half_page(project: Path, tmp_path: Path) -> None:
    own = tmp_path / "project"
    shutil.copytree(project / "scripts", own / "scripts")
    (own / "notebooks").mkdir()
    write(own, "01-long", "n = 3", "import time\ntime.sleep(60)", "1")
    process = subprocess.Popen(
        [sys.executable, "scripts/notebooks.py"],
        cwd=own,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Where the tests run in the background of a shell, Ctrl-C is ignored, and so by what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout
    assert any("code cell 2 of 3" in line for line in process.stdout)
    time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors == "stopped; the pages that were finished are kept\n"
    assert list((own / "book/experiments").iterdir()) == []


@pytest.mark.slow
def test_output_widgets_do_not_hold_a_notebook_up(tmp_path: Path) -> None:
    # What nbclient answers them can swallow the sign that a cell's reply is there: about once in 20 cells.
    for folder in ("notebooks", "sparsity_lib"):
        (tmp_path / folder).mkdir()
    shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "requirements.lock").write_text("a==1\n")
    shown = ["ipywidgets.interact(lambda x: x, x=(0, 3))"] * 80
    write(tmp_path, "01-widgets", PARAMETERS, "import ipywidgets", *shown)
    answer = runner(tmp_path, seconds=120)
    assert answer.returncode == 0, answer.stderr


HOSTILE = [
    "'\"\"\"'''\n\\",
    "x'); import os; os.mkdir('sprung') #",
    "{} {x} {{x}} %s ${HOME} $(mkdir sprung) `mkdir sprung` ; mkdir sprung",
    "é😀\u2028\\N{BULLET}\\x41\r\t",
    "--out",
]


@pytest.mark.slow
def test_a_hostile_value_stays_a_value(tmp_path: Path) -> None:
    for folder in ("notebooks", "sparsity_lib"):
        (tmp_path / folder).mkdir()
    shutil.copytree(SCRIPTS, tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "requirements.lock").write_text("a==1\n")
    names = [f"value_{number}" for number in range(len(HOSTILE))]
    told = f"import json\nprint(json.dumps([{', '.join(names)}]))"
    write(tmp_path, "01-told", "\n".join(f"{name} = ''" for name in names), told)
    given = [each for name, value in zip(names, HOSTILE, strict=True) for each in ("-p", name, value)]
    answer = runner(tmp_path, *given[:-3], seconds=120)
    assert answer.returncode == 0, answer.stderr
    (shown,) = outputs(tmp_path / "book/experiments/01-told.ipynb")[-1]
    assert json.loads("".join(shown["text"])) == [*HOSTILE[:-1], ""]
    assert not list(tmp_path.rglob("sprung"))
    assert runner(tmp_path, *given[-3:]).returncode == 2  # an option where a value was wanted
