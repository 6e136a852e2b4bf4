"""The study as jobs for Snakemake: on this machine's cores, and through a real Slurm."""

import os
import re
import shutil
import signal
import time
from pathlib import Path

import nbformat
import pytest
from copied_project import ROOT, copied_project, finish, start
from nbformat.v4 import new_code_cell, new_notebook
from slurm_cluster import SITE, is_installed, slurm

from sparsity_lib import study
from sparsity_lib.study import profiles

SNAKEMAKE = ("-m", "snakemake", "--cores", "2")
TINY = ("--config", "profile=tiny", "runs_per_job=2")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copied_project(tmp_path / "project")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seed=1", "unknown setting 'seed'; known: profile, runs_per_job, sizes, datasets, seeds, grids"),
        pytest.param(
            *("runs_per_job=0", "runs_per_job must be a whole number from 1 to 24, not '0'"),
            marks=pytest.mark.slow,
        ),
        pytest.param("published=no", "published must be true or false, not 'no'", marks=pytest.mark.slow),
        pytest.param("profile=tablet", "unknown profile 'tablet'; known: laptop", marks=pytest.mark.slow),
        pytest.param("seeds=1;true", "seeds = '1;true'", marks=pytest.mark.slow),
    ],
)
def test_bad_settings_are_refused_in_one_line(setting, message, project):
    output = finish(start(project, *SNAKEMAKE, "trained", "--config", setting), expected=1)
    assert sum(message in line for line in output.splitlines()) == 1
    assert "Traceback" not in output
    assert not (project / "runs").exists()


def a_small_book(project: Path) -> None:
    book = project / "book"
    book.mkdir()
    (project / "_config.yml").write_text('title: small\nexecute:\n  execute_notebooks: "off"\n')
    (book / "_toc.yml").write_text("format: jb-book\nroot: index\nchapters:\n- file: experiments/01-runs\n")
    (book / "index.md").write_text("# Small\n")
    (project / "README.md").write_text("# Small\n")
    (project / "notebooks").mkdir()
    cells = ["profile = 'laptop'", "from sparsity_lib.study import profiles; print(len(profiles.PROFILES))"]
    parameters, code = (new_code_cell(source) for source in cells)
    parameters.metadata["tags"] = ["parameters"]
    heading = nbformat.v4.new_markdown_cell("# Runs")
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = new_notebook(cells=[heading, parameters, code], metadata={"kernelspec": spec})
    nbformat.write(notebook, project / "notebooks/01-runs.ipynb")


@pytest.mark.slow
def test_the_workflow_trains_missing_runs_and_builds_the_book(project):
    a_small_book(project)
    output = finish(start(project, *SNAKEMAKE, *TINY))
    assert re.search(r"train +2\n", output)  # jobs, of two runs each
    made = list((project / "runs").glob("*.nc"))
    assert len(made) == 4
    assert (project / "_build/html/experiments/01-runs.html").exists()

    before = {path: path.stat().st_mtime_ns for path in made}
    damaged, deleted, *others = made
    damaged.write_bytes(damaged.read_bytes()[:-1000])
    deleted.unlink()
    for path in others:
        os.utime(path, (0, 0))  # as a fresh clone might have it
    one_slot = ("--resources", "gpu_slots=1")
    output = finish(start(project, *SNAKEMAKE, *one_slot, *TINY))
    assert re.search(r"train +2\n", output)  # one run each, for two cores
    assert re.findall(r"\n(rule train|Finished jobid: .* \(Rule: train)", output)[1].startswith("Finished")
    for path in made:
        assert study.load(path)
        assert (path.stat().st_mtime_ns > before[path]) is (path in (damaged, deleted))


@pytest.mark.slow
def test_short_runs_share_a_job_and_those_of_unknown_cost_do_not(project):
    for name in ("networks.nc", "SHA256SUMS"):
        (project / "results/laptop").mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "results/laptop" / name, project / "results/laptop")

    def jobs(*how: str) -> int:
        output = finish(start(project, "-m", "snakemake", "trained", "--dry-run", *how))
        return int(re.search(r"train +(\d+)\n", output)[1])

    laptop = ("--config", "profile=laptop", "grids=networks")
    runs = len(profiles.experiments("laptop", seeds=[0], grids=["networks"]))
    assert jobs("--workflow-profile", "slurm", *laptop, "seeds=0") == 1
    assert jobs("--workflow-profile", "slurm", *laptop, "seeds=0-7") == -(-8 * runs // 24)
    assert jobs("--cores", "2", *laptop, "seeds=0") == 2
    assert jobs("--workflow-profile", "slurm", *laptop, "seeds=0", "runs_per_job=5") == -(-runs // 5)
    assert jobs("--workflow-profile", "slurm", "--config", "profile=tiny") == 4


@pytest.mark.slow
@pytest.mark.fault("one fails", "the workflow")
def test_a_failed_job_is_named_with_its_log_and_command(project):
    listed = finish(start(project, "-m", "sparsity_lib.study", "run", "tiny", "--list"))
    first = listed.partition("\t")[0]
    in_the_way = project / "runs" / f"{first}.weights.pt"
    in_the_way.mkdir(parents=True)
    output = finish(start(project, *SNAKEMAKE, "trained", *TINY), expected=1)
    assert len(list((project / "runs").glob("*.nc"))) == 3
    assert output.count("not trained:") == 1
    named = re.search(rf"not trained: {first}\n  log: (.*)\n  again: \S*python\S* (.*)\n", output)
    assert f"failed: {first}: cannot write" in (project / named[1]).read_text()
    in_the_way.rmdir()
    finish(start(project, *named[2].split()))
    assert len(list((project / "runs").glob("*.nc"))) == 4


@pytest.mark.slow
@pytest.mark.fault("stopped", "the workflow")
def test_a_stopped_workflow_leaves_checkpoints(project):
    process = start(project, *SNAKEMAKE, "trained", *TINY)
    end = time.monotonic() + 120
    while not list((project / "runs").glob("*.ckpt")):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    output = finish(start(project, *SNAKEMAKE, "trained", *TINY), expected=1)
    assert "another workflow" in output
    os.killpg(process.pid, signal.SIGINT)
    process.wait(60)
    output = process.log.read_text()
    assert process.returncode not in (0, None), output
    assert re.search("^the same command resumes$", output, re.MULTILINE)  # once for the workflow
    assert list((project / "runs").glob("*.ckpt"))
    finish(start(project, *SNAKEMAKE, "trained", *TINY))
    assert len(list((project / "runs").glob("*.nc"))) == 4


@pytest.mark.slow
def test_slurm_trains_the_laptop_grid(tmp_path):
    """One seed of a grid of the profile, by the project as it is and its own profile for Slurm."""
    if not is_installed():
        assert "CI" not in os.environ or os.geteuid() != 0, "CI installs slurm-wlm and munge"
        pytest.skip("no Slurm here (Debian: slurm-wlm and munge), or not root")
    runs = tmp_path / "runs"
    wanted = profiles.experiments("laptop", seeds=[0], grids=["lenet-alexnet"])
    with slurm(tmp_path / "slurm") as environment:
        command = ("-m", "snakemake", "trained", "--workflow-profile", str(ROOT / "workflow/profiles/slurm"))
        folder = ("--snakefile", str(ROOT / "workflow/Snakefile"), "--directory", str(ROOT))
        settings = ("--config", "seeds=0", "grids=lenet-alexnet", "runs_per_job=2")
        own = environment | {"PYTHONPATH": str(ROOT), "SPARSITY_RUNS": str(runs)}
        process = start(tmp_path, *command, *SITE, *folder, *settings, environment=own)
        output = finish(process, seconds=900)
    assert output.count("has been submitted with SLURM jobid") == -(-len(wanted) // 2)
    assert {study.load(path).id for path in runs.glob("*.nc")} == {each.id for each in wanted}
