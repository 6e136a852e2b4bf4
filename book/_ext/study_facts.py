"""Tables that are made while the book is built, from the files that are there: no number is typed in.

Each public function is a directive: `{run-times}` shows the table of `run_times`.
"""

import hashlib
import json
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr
from docutils import nodes
from speed_tables import benchmarks
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from table_lines import Row, percent, table

from sparsity_lib.study import StudyError, claims, findings, load
from sparsity_lib.study.claims import judge, scorecard
from sparsity_lib.study.profiles import PROFILES
from sparsity_lib.study.runs.results import published_parts, published_runs

PACKAGES = (
    "torch",
    "numpy",
    "xarray",
    "h5netcdf",
    "papermill",
    "jupyter-book",
    "sphinx",
    "matplotlib",
    "seaborn",
)
_CELL = ["dataset", "network", "size", "epochs"]
_CELL_HEAD = ("data set", "network", "size", "epochs", "runs", "median", "least", "most")
_MACHINE = ["device", "threads", "python", "torch", "numerics"]
_MACHINE_HEAD = ("runs", "device", "threads", "Python", "torch", "code")


def software(root: Path) -> list[str]:
    """Versions of what executed the notebooks and built the pages, and the lock's digest."""
    rows: list[Row] = [("Python", platform.python_version())]
    rows += [(name, version(name)) for name in PACKAGES]
    lock = root / "requirements.lock"
    pinned = sum(line[:1].isalnum() for line in lock.read_text(encoding="utf-8").splitlines())
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    return [
        *table("Versions in use.", ("software", "version"), rows),
        f"The lock pins {pinned} packages by version and hash. Its SHA-256 is `{digest}`.",
    ]


def notebook_settings(root: Path) -> list[str]:
    """Each executed notebook with the parameters that it was given, and the digest of its source."""
    rows: list[Row] = []
    for page in sorted((root / "book" / "experiments").glob("*.ipynb")):
        made_from = json.loads(page.read_text(encoding="utf-8"))["metadata"].get("made_from", {})
        given = made_from.get("parameters", {})
        values = ", ".join(f"`{name} = {value}`" for name, value in given.items()) or "its own defaults"
        rows.append((page.stem, values, f"`{made_from.get('notebook', 'unknown')}`"))
    return table(
        "Parameters with which each notebook was executed.", ("notebook", "parameters", "source"), rows
    )


def run_times(root: Path) -> list[str]:
    """Costs of the published runs, by profile."""
    lines: list[str] = []
    for name in (name for name in PROFILES if name != "language"):
        parts = [part[[*_CELL, "seconds"]].to_dataframe() for part in published_parts(name)]
        if not parts:
            continue
        runs = pd.concat(parts)
        cells = runs.groupby(_CELL)["seconds"].agg(["size", "median", "min", "max"]).round().astype(int)
        kept = pd.DataFrame([load(path).provenance for path in published_runs(name)], columns=_MACHINE)
        minutes = runs["seconds"].sum() / 60
        what = f"Published runs, `{name}`"
        of_kept = f"device and software of the {len(kept)} runs whose files are kept."
        seconds = [(*cell, *columns) for cell, *columns in cells.itertuples()]
        machines = [
            (count, *machine) for machine, count in kept.groupby(_MACHINE, dropna=False).size().items()
        ]
        lines += [
            *("", f"**{what}**: {len(runs)} runs, {minutes:.0f} minutes of training in all.", ""),
            *table(f"{what}: seconds of training, by the clock.", _CELL_HEAD, seconds),
            *table(f"{what}: {of_kept}", _MACHINE_HEAD, machines),
        ]
    return lines


def published_cost(root: Path) -> list[str]:
    """Number and time of all published runs of the profiles whose times `run_times` lists."""
    parts = [part for name in PROFILES if name != "language" for part in published_parts(name)]
    runs = sum(part.sizes["run"] for part in parts)
    hours = sum(float(part["seconds"].sum()) for part in parts) / 3600
    return [f"**The {runs:,} published runs took {hours:.0f} hours of training by the clock.**"]


def workflow_overhead(root: Path) -> list[str]:
    """Measurements of `python -m benchmarks.workflow`."""
    measured = json.loads((root / "benchmarks" / "workflow.json").read_text(encoding="utf-8"))
    rows = [
        (row["how"], row["jobs"], f"{row['runs_per_job']} runs", percent(row["cost"] / row["runs_per_job"]))
        for row in measured["rows"]
    ]
    machine = measured["machine"]
    caption = f"Overhead of a job, on {machine['device']}; runs of the laptop's main grid."
    return table(
        caption, ("run by", "jobs measured", "runs per job", "overhead, in shares of the runs' time"), rows
    )


def primary_claims(root: Path) -> list[str]:
    """The primary claims with their cells, finished runs, effects and verdicts."""
    ledger = claims.load()
    found = scorecard.verdicts(ledger, judge.judge(ledger, claims.published()))
    whole = str.maketrans(" ", "\N{NO-BREAK SPACE}")
    rows: list[Row] = [
        (
            row.claim,
            row.cell.translate(whole),
            row.runs.translate(whole),
            "" if row.effect != row.effect else f"{row.effect:+.3f}",
            row.verdict,
        )
        for row in found[found["primary"]].itertuples()
    ]
    caption = (
        "The primary claims. Effects on losses are in nats; on entropies, means over conv3, conv4 and fc1 as "
        "shares of ln D; on accuracies, shares of images."
    )
    return table(caption, ("claim", "cell", "runs", "effect", "verdict in this cell"), rows)


def networks_on_cifar100(root: Path) -> list[str]:
    """The networks on CIFAR-100 at the paper's settings: accuracy, change of entropy, runs that overfit."""
    caption = (
        "Networks of size s on CIFAR-100 at the paper's settings. Accuracy at the "
        "[chosen epoch](#accuracies) minus that of the plain network; change of the entropy of "
        f"{findings.LAYER} from the epoch of the lowest loss to the last, as a share of ln D (± half the "
        "95 % interval where there are several runs); and runs that overfit."
    )
    return _network_results(caption, {"": findings.runs_on_cifar100()})


def pilot_networks(root: Path) -> list[str]:
    """The pilot's networks on its two data sets: accuracy, change of entropy, runs that overfit."""
    by_data_set = {f"{dataset}: ": runs for dataset, runs in findings.pilot_runs().items()}
    return _network_results("The pilot's networks, with the same quantities.", by_data_set)


def _network_results(caption: str, data_sets: dict[str, xr.Dataset]) -> list[str]:
    """A table of networks, with three columns for each data set, by what their heads begin with."""
    head, columns = ["network"], [[f"{words} ({label})" for label, words in findings.NETWORKS.items()]]
    for prefix, runs in data_sets.items():
        compared = findings.network_table(runs)
        head += [
            f"{prefix}{quantity}" for quantity in ("accuracy gain", "entropy change", "runs that overfit")
        ]
        columns += [[_half_width(each, "+.3f") for each in compared[name]] for name in ("gain", "change")]
        columns.append([f"{row.overfits} of {row.runs}" for row in compared.itertuples()])
    return table(caption, tuple(head), list(zip(*columns, strict=True)))


def _half_width(described: Any, spec: str) -> str:
    """Mean ± half the interval, as `+0.018 ± 0.008`; nothing for none."""
    if described is None:
        return ""
    shown = f"{described.mean:{spec}}"
    if described.n > 1:
        shown += f" ± {(described.high - described.low) / 2:{spec[1:]}}"
    return shown.replace("-", "\N{MINUS SIGN}").replace(" ", "\N{NO-BREAK SPACE}")


def _directive(make: Callable[[Path], list[str]]) -> type[SphinxDirective]:
    class Generated(SphinxDirective):
        def run(self) -> list[nodes.Node]:
            self.env.note_reread()  # files come and go between builds
            try:
                lines = make(Path(self.env.srcdir).parent)
            except StudyError as error:  # a damaged file
                raise self.error(str(error)) from None
            return self.parse_text_to_nodes("\n".join(lines))

    return Generated


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    for make in (
        *(software, notebook_settings, published_cost, run_times, benchmarks),
        *(workflow_overhead, primary_claims, networks_on_cifar100, pilot_networks),
    ):
        app.add_directive(make.__name__.replace("_", "-"), _directive(make))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
