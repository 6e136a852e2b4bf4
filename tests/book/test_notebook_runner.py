"""The notebook runner: a page is a whole execution, equal runs give equal pages, pages up to date stay."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import execution
import nbformat
import origins
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import notebooks

METADATA = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
PARAMETERS = "profile = 'laptop'\nepochs = 0\nseeds = '0,1'\nlr = 0.1\nn = 3\nquick = False\ntrain = True"
GOOD = [
    "import json\nprint(json.dumps([profile, n, quick, epochs, train]))",
    "",
    "for i in range(50):\n    print(f'\\r{i}', end='', flush=True)",
    "import ipywidgets\nipywidgets.IntSlider()",
    "view = {'application/vnd.jupyter.widget-view+json': {'model_id': 'm'}, 'text/html': '<b>still</b>'}\n"
    "display(view, raw=True)",
    "import pathlib\npathlib.Path('notebooks').exists()",
    "import os\nwith open(os.environ['SPARSITY_READS'], 'a') as notes:\n"
    "    notes.write(str(pathlib.Path('runs/a.nc').resolve()) + '\\n')",
]
HOSTILE = (
    "'\"\"\"'''\n\\x'); os.mkdir('sprung') # {} {x} {{x}} %s ${HOME} "
    "$(mkdir sprung) `mkdir sprung` é😀\u2028\t"
)


def make_project(root: Path, **cells: list[str]) -> Path:
    """A project with the real runner, an empty library, and notebooks of these cells."""
    shutil.copytree(SCRIPTS, root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("notebooks", "sparsity_lib", "runs"):
        (root / folder).mkdir()
    (root / "sparsity_lib/functional.py").write_text("x = 1\n")
    (root / "requirements.lock").write_text("a==1\n")
    (root / "runs/a.nc").write_text("first")
    for name, (parameters, *code) in cells.items():
        tagged = new_code_cell(parameters, metadata={"tags": ["parameters"]})
        written = [new_markdown_cell("# A page"), tagged, *map(new_code_cell, code)]
        path = root / "notebooks" / f"{name[1:].replace('_', '-')}.ipynb"
        nbformat.write(new_notebook(cells=written, metadata=METADATA), path)
    return root


def start(root: Path, *arguments: str) -> subprocess.Popen[str]:
    """`python scripts/notebooks.py ...` at work, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "scripts/notebooks.py", *arguments],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Where the tests run in the background of a shell, Ctrl-C is ignored, and so by what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The same once it has ended."""
    process = start(root, *arguments)
    output, errors = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good notebook and one for each way to fail."""
    return make_project(
        tmp_path_factory.mktemp("projects") / "project",
        _01_good=[PARAMETERS, *GOOD],
        _02_exit=["n = 3", "import sys\nsys.exit(0)", "1 / 0"],
        _03_error=["n = 3", "1", "raise ValueError('no such layer\\nnor that')"],
        _04_killed=["n = 3", "import os\nos._exit(0)", "1"],
    )


@pytest.fixture(scope="module")
def first(project: Path) -> subprocess.CompletedProcess[str]:
    """All notebooks executed once; a page of each was there before."""
    pages = project / "book/experiments"
    pages.mkdir(parents=True)
    for source in (project / "notebooks").glob("*.ipynb"):
        (pages / source.name).write_text("an older page")
    (pages / "00-renamed.ipynb").write_text("a page whose notebook is gone")
    return run(project)


@pytest.fixture
def good(project: Path, first: object, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page of the good notebook; the runner's modules see the project."""
    monkeypatch.setattr(origins, "ROOT", project)
    monkeypatch.setattr(notebooks, "SOURCES", project / "notebooks")
    for module in (notebooks, execution):
        monkeypatch.setattr(module, "ROOT", project)
        monkeypatch.setattr(module, "PAGES", project / "book/experiments")
        monkeypatch.setattr(module, "PARTIAL", project / "_build/notebooks")
    return project / "book/experiments/01-good.ipynb"


def outputs(page: Path) -> list[list[dict]]:
    """The outputs of each code cell."""
    return [cell["outputs"] for cell in json.loads(page.read_text())["cells"] if cell["cell_type"] == "code"]


def reasons(*names: str) -> list[str]:
    """Why each of these pages would be executed."""
    stale = notebooks.out_of_date(notebooks.chosen(names), [], notebooks.PAGES)
    return [work.reason for work in stale]


def test_pages_are_made_of_complete_executions_alone(
    project: Path, first: subprocess.CompletedProcess[str]
) -> None:
    assert first.returncode == 1
    assert [page.name for page in (project / "book/experiments").iterdir()] == ["01-good.ipynb"]
    kept = {path.name for path in (project / "_build/notebooks").iterdir()}
    older = {f"{name}.damaged.ipynb" for name in ("01-good", "02-exit", "03-error", "04-killed")}
    assert kept == {"02-exit.ipynb", "03-error.ipynb", "04-killed.ipynb"} | older
    assert (project / "_build/notebooks/01-good.damaged.ipynb").read_text() == "an older page"
    # A kernel that dies may write of its sockets there too, now and then.
    *ours, last = (line for line in first.stderr.splitlines() if line.startswith(("error:", "failed:")))
    assert last == "failed: 02-exit, 03-error, 04-killed"
    expected = (
        "code cell 2 of 3: SystemExit: 0",
        "code cell 3 of 3: ValueError: no such layer",
        "DeadKernelError",
    )
    for line, why in zip(sorted(ours), expected, strict=True):
        assert why in line
        assert "_build/notebooks/0" in line


def test_a_line_for_each_page_gives_the_time_left(first: subprocess.CompletedProcess[str]) -> None:
    head, *lines = first.stdout.splitlines()
    assert head.startswith("pages: 0 of 4 are up to date, 4 to execute, about ")
    assert [line[:8] for line in lines] == [f"[{done} of 4]" for done in range(1, 5)]
    assert lines[-1].endswith("about 0 s left")


def test_a_page_holds_no_time_no_path_and_no_widget(good: Path, project: Path) -> None:
    text, shown = good.read_text(), outputs(good)
    for trace in ("papermill", "_time", "duration", "widget-state", str(project)):
        assert trace not in text
    assert "widget-view" not in json.dumps(shown)
    assert [output["text"] for output in shown[4]] == [["49"]]
    assert shown[6][0]["data"] == {"text/html": ["<b>still</b>"]}
    assert shown[7][0]["data"]["text/plain"] == ["True"]


def test_equal_runs_give_equal_pages_and_train_nothing(good: Path, project: Path, tmp_path: Path) -> None:
    assert run(project, "01", "--out", str(tmp_path)).returncode == 0
    assert (tmp_path / good.name).read_bytes() == good.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [good.name]
    assert json.loads(outputs(good)[2][0]["text"][0]) == ["laptop", 3, False, 0, False]


def test_parameters_are_passed_as_what_they_are(good: Path, project: Path, tmp_path: Path) -> None:
    given = {"quick": "true", "epochs": "7", "profile": HOSTILE, "train": "true"}
    texts = [text for name, value in given.items() for text in ("-p", name, value)]
    assert run(project, "01-good", *texts, "--out", str(tmp_path)).returncode == 0
    assert json.loads("".join(outputs(tmp_path / good.name)[2][0]["text"])) == [HOSTILE, 3, True, 7, True]
    assert not list(project.rglob("sprung"))


def test_pages_up_to_date_are_left_alone(good: Path, project: Path) -> None:
    before = good.stat().st_mtime_ns
    (project / "runs/b.nc").write_text("a run that the page does not read")
    again = run(project, "notebooks/01-good.ipynb", "-p", "profile", "laptop")
    assert (again.returncode, again.stdout) == (0, "pages: 1 of 1 are up to date\n")
    assert good.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("notebooks/01-good.ipynb", "notebook"),
        ("sparsity_lib/functional.py", "code"),
        ("requirements.lock", "environment"),
        ("runs/a.nc", "results"),
        ("book/experiments/01-good.ipynb", "page"),
    ],
)
def test_a_stale_page_is_noticed_with_its_reason(good: Path, project: Path, name: str, named: str) -> None:
    content = (project / name).read_bytes()
    assert reasons("01") == []
    try:
        (project / name).write_bytes(content[:-100] if named == "page" else content + b"\n")
        stale, missing = reasons("01", "02")
        assert named in stale
        assert "no page" in missing
    finally:
        (project / name).write_bytes(content)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["01", "-p", "sizes", "s"], "'sizes'.* profile, epochs, seeds, lr, n, quick"),
        (["01", "-p", "n", "2.5"], "'n' .*int .*3.*'2.5'"),
        (["01", "-p", "quick", "0"], "'quick' .*bool .*False.*'0'"),
        (["01", "-p", "lr", "small"], "'lr' .*float .*0.1.*'small'"),
        (["05"], "'05'.* 01-good, 02-exit, 03-error, 04-killed"),
        (["01", "--jobs", "0"], "--jobs .*1 .*0"),
        (["01", "--out", str(SCRIPTS / "book.py/x")], "book.py/x: Not a directory"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    good: Path, tmp_path: Path, arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert notebooks.main(["--out", str(tmp_path / "out"), *arguments]) == 2
    output = capsys.readouterr()
    assert re.search(named, output.err)
    assert (len(output.err.splitlines()), output.out) == (1, "")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["n = 1 + 2", "n = print", "n = None", "n = [1, 2]", None])
def test_a_notebook_must_be_readable(tmp_path: Path, content: str | None) -> None:
    message = "bool, int, float .*string"
    own = make_project(tmp_path / "project", _01_odd=[content or ""])
    path = own / "notebooks/01-odd.ipynb"
    if content is None:
        path.write_text("{")
        message = "01-odd.ipynb"
    with pytest.raises(ValueError, match=message):
        notebooks.defaults(path)


def test_an_interrupt_keeps_complete_pages_alone(tmp_path: Path) -> None:
    own = make_project(
        tmp_path / "project", _01_long=["n = 3", "open('begun', 'w')\nimport time\ntime.sleep(60)"]
    )
    process = start(own)
    end = time.monotonic() + 120
    while not (own / "begun").exists():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors == "stopped; the pages that were finished are kept\n"
    assert list((own / "book/experiments").iterdir()) == []
