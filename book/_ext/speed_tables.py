"""The tables of the page on costs, from what `python -m benchmarks` measured."""

import itertools
import json
import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import targets
from table_lines import Row, percent, table

_COMPILED = (
    "Steps and monitoring are compiled; the tables of training steps and of epochs below also have them "
    "uncompiled, the default, which takes longer."
)
Measured = dict[str, Any]
Columns = dict[str, str | Callable[[Measured], str]]  # by heading: a format of a row's fields, or a function


def benchmarks(root: Path) -> list[str]:
    """The targets, then what was measured, device by device."""
    results = root / "benchmarks/results"
    lines = _targets(targets.judge(results))
    for path in sorted(results.glob("*.json")):
        lines += _of_device(json.loads(path.read_text(encoding="utf-8")))
    return [re.sub(r"(?<=[ |])-(?=\d)", "\N{MINUS SIGN}", line) for line in lines]


def _targets(judged: Sequence[Measured]) -> list[str]:
    lines: list[str] = []
    for device, rows in itertools.groupby(judged, lambda row: row["device"]):
        shown = [
            (row["what"], f"{'≤' if row['high'] else '≥'} {row['bound']:g}{row['unit']}", *_judged(row))
            for row in rows
        ]
        caption = f"Targets on a {device}, set before the first measurement, and values measured. {_COMPILED}"
        head = ("what", "target", "measured", "quartiles", "outcome")
        if not any(measured for *_, measured in shown):
            caption, head = f"Targets on a {device}, set in advance; not measured yet.", head[:3]
            shown = [row[:3] for row in shown]
        lines += table(caption, head, shown)
    return lines


def _judged(row: Measured) -> tuple[str, str, str]:
    if "value" not in row:
        return "not measured", "", ""
    between = f"{row['low']:.3f} to {row['upper']:.3f}" if "low" in row else ""
    met = "no difference is seen" if "interval" in row["what"] else "met"  # noise makes an interval include 0
    if "low" in row and not (row["upper"] <= row["bound"] if row["high"] else row["low"] >= row["bound"]):
        met += ", borderline"
    return f"{row['value']:.3f}{row['unit']}", between, met if row["met"] else "**missed**"


def _of_device(cells: Measured) -> list[str]:
    machine = cells["machine"]
    instructions = f" with {', '.join(machine['instructions'])}" if machine["instructions"] else ""
    on = f"{machine['device']}{instructions}, {_threads(machine['threads'])}, torch {machine['torch']}"
    lines = ["", f"**{on}.**", ""]
    for name, section in cells["sections"].items():
        lines += _section(name, section["rows"])
    made: list[Row] = [
        (name, section["date"], _commit(section)) for name, section in cells["sections"].items()
    ]
    return lines + table("When each part was measured, and of which code.", ("part", "day", "commit"), made)


def _section(name: str, rows: Sequence[Measured]) -> list[str]:
    if name in ("steps", "parts"):
        return _steps(rows) if name == "steps" else _parts(rows)
    if name == "precision":
        rows = [row for row in rows if row["precision"] != "float32"]  # with which they are compared
    if name == "compiling":
        rows = [row | {"compiled_from_billions": _billions(row["compiled_from"])} for row in rows]
    return _table(*TABLES[name], rows)


def _table(caption: str, columns: Columns, rows: Sequence[Measured]) -> list[str]:
    head = [name.format_map(rows[0]) for name in columns]
    cells = [
        [show.format_map(row) if isinstance(show, str) else show(row) for show in columns.values()]
        for row in rows
    ]
    return table(caption.format_map(rows[0]), head, cells)


def _commit(section: Measured) -> str:
    return f"{section['commit'][:7]}{' and changes' if section['dirty'] else ''}"


def _threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"


def _quartiles(row: Measured, decimals: int = 2) -> str:
    return f"{row['low']:.{decimals}f} to {row['high']:.{decimals}f}" if "low" in row else ""


def _shares(row: Measured) -> str:
    return f"{percent(row['low'])} to {percent(row['high'])}" if "low" in row else ""


def _steps(rows: Sequence[Measured]) -> list[str]:
    lines: list[str] = []
    for precision, group in itertools.groupby(rows, lambda row: row["precision"]):
        cells = list(group)
        columns = {"size": "{size}", "network": "{network}", "time over vanillaNet's": "{median:.3f}"}
        columns |= {"quartiles": partial(_quartiles, decimals=3)}
        columns |= {"memory beyond vanillaNet's": "{extra_memory:+.2f}"}
        columns |= {"ms a step": "{milliseconds:.2f}"} if "milliseconds" in cells[0] else {}
        caption = "A training step in {precision}; memory in copies of sr1Net's regularised activations."
        lines += _table(caption, columns, cells)
        rates = [row for row in cells if "share_of_matrix_rate" in row]
        for product, alike in itertools.groupby(rates, lambda row: row["fastest_product"]):
            shares = [f"vanillaNet-{row['size']} {_rate(row)}" for row in alike]
            lines += [
                "",
                f"In {precision}, shares of the rate of a large matrix product, computed as a {product}: "
                f"{', '.join(shares)}.",
            ]
    return lines


def _parts(rows: Sequence[Measured]) -> list[str]:
    caption = (
        "By profile: what a step of the compiled recipes spends beyond vanillaNet's, in shares of the "
        "latter's step. “The rest” is also Python's own time, in hooks and the loop. The profiler "
        "itself costs time, so sums differ from the table of training steps."
    )
    shares = [
        {name: f"{100 * value:+.1f} %" if isinstance(value, float) else value for name, value in row.items()}
        for row in rows
    ]
    return _table(caption, {name: itemgetter(name) for name in rows[0]}, shares)


def _rate(row: Measured) -> str:
    rate = f" ({row['teraflops']:.0f} TFLOP/s)" if "teraflops" in row else ""
    return percent(row["share_of_matrix_rate"]) + rate


def _outcome(row: Measured) -> str:
    if row["median"] > row["goal"]:
        return "**missed**"
    return "met" if row["high"] <= row["goal"] else "met, borderline"


def _yes_or_no(row: Measured) -> str:
    return "yes" if row["compiled"] else "no"


def _billions(count: float) -> str:
    return f"{count / 1e9:.1f} · 10⁹" if math.isfinite(count) else "never"


_OF_AN_EPOCH = {
    "monitor": "statistics of 1,000 + 1,000 images",
    "passing": "of these, a plain pass of the images",
    "filters": "correlations of filters",
    "validation": "loss of 9,000 images",
    "observing": "all that follows an epoch",
    "writing_of_100_epochs": "the file of 100 epochs, by the epoch",
}
_RUNS = {"first": "the first, which decodes the files", "again": "a later one, which finds them decoded"}

# By section: the caption, and the columns; captions and headings are formats of the first row's fields.
TABLES: dict[str, tuple[str, Columns]] = {
    "resnet18": (
        "The library on torchvision's ResNet-18: 16 images of 64 × 64, SGD with momentum; times over those "
        "of a step without it. Profile: the added operations that take most time, in shares of the latter.",
        {
            "what": "{what}",
            "goal": "≤ {goal:g}{unit}",
            "measured": "{median:.2f}{unit}",
            "quartiles": _quartiles,
            "outcome": _outcome,
            "profile": lambda row: row["profile"].replace("_", "_\N{ZERO WIDTH SPACE}"),  # may break there
        },
    ),
    "counterparts": (
        "Time of a step with the methods of the other three papers.",
        {
            "size": "{size}",
            "a step with": "{step}",
            "over one with": "{over}",
            "time": "{median:.2f}",
            "quartiles": _quartiles,
        },
    ),
    "precision": (
        "Steps per second, compiled.",
        {
            "size": "{size}",
            "network": "{network}",
            "precision": "{precision}",
            "times as fast as float32": "{median:.2f}",
            "quartiles": _quartiles,
        },
    ),
    "accuracy": (
        "Validation accuracy after {epochs} epochs of 1,000 digits, size m, "
        "in bf16 and in float32, paired by seed.",
        {
            "network": "{network}",
            "seeds": "{n}",
            "float32 (± SD)": "{float32:.3f} ± {float32_sd:.3f}",
            "bf16": "{bf16:.3f}",
            "difference (± SD)": "{mean:+.4f} ± {sd:.4f}",
            "95 % interval": "{low:+.4f} to {high:+.4f}",
        },
    ),
    "epoch": (
        "Time after an epoch of sr3Net, in shares of its training time. The last column is a fifth of the "
        "first, which was measured: training time is linear in images.",
        {
            "size": "{size}",
            "compiled": _yes_or_no,
            "what": lambda row: _OF_AN_EPOCH[row["part"]],
            "of an epoch of {images:,}": lambda row: percent(row["median"]),
            "quartiles": _shares,
            "of one of 50,000": lambda row: percent(row["median"] * row["images"] / 50_000),
        },
    ),
    "monitor_parts": (
        "By profile: time of the statistics of 1,000 + 1,000 images by part, compiled, sr3Net of size s.",
        {"what": "{part}", "share": lambda row: percent(row["median"])},
    ),
    "growth": (
        "Growth of time and memory with size, as exponents: 1 is linear; below 1, a fixed cost still shows. "
        "Where filters are counted, each round is a process of its own.",
        {
            "of": "{what}",
            "sizes": lambda row: f"{row['sizes'][0]:,} to {row['sizes'][-1]:,}",
            "time": "{median:.2f}",
            "quartiles": _quartiles,
            "peak memory": lambda row: f"{row['memory']:.2f}" if "memory" in row else "",
        },
    ),
    "channels": (
        "Time of an entropy with its gradient, per activation, divided by the time of one exponential.",
        {"channels": "{channels}", "compiled": _yes_or_no, "time": "{median:.1f}", "quartiles": _quartiles},
    ),
    "compiling": (
        "Time of compiling the entropies in a new process, as the number of uncompiled steps of sr1Net that "
        "take as long; and the number of activations after which compiling has saved as much time as it "
        "took. The study compiles from {compiled_from_billions} "
        "activations on.",
        {
            "size": "{size}",
            "torch's cache": "{cache}",
            "time, in steps": "{steps:,.0f}",
            "activations until it pays": lambda row: _billions(row["pays_from"]),
        },
    ),
    "scripts": (
        "Images per second of whole runs, start-up included, over those of a script with a DataLoader; "
        "vanillaNet-s, {epochs} epochs of {images:,} JPEG files of 32 × 32.",
        {
            "run": lambda row: _RUNS[row["run"]],
            "times as fast": "{median:.1f}",
            "quartiles": partial(_quartiles, decimals=1),
        },
    ),
    "whole": (
        "Whole monitored trainings in {precision}: {epochs} epochs of {images:,} images that are on the "
        "device, compiling included.",
        {
            "network": "{network}",
            "size": "{size}",
            "time": "{seconds:.0f} s",
            "while training": "{teraflops:.0f} TFLOP/s",
        },
    ),
}
