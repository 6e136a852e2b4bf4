"""The tables of the page on costs, from what `python -m benchmarks` measured."""

import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from table_lines import Row, percent, table

Measured = dict[str, Any]


def benchmarks(root: Path) -> list[str]:
    """The targets, then what was measured, device by device."""
    lines = _targets(json.loads((root / "benchmarks/results/targets.json").read_text(encoding="utf-8")))
    for path in sorted(root.glob("benchmarks/results/*.json")):
        if path.stem != "targets":
            lines += _of_device(json.loads(path.read_text(encoding="utf-8")))
    return lines


def _targets(cells: Measured) -> list[str]:
    lines: list[str] = []
    for device, rows in itertools.groupby(cells["rows"], lambda row: row["device"]):
        shown = [
            (row["what"], f"{'≤' if row['high'] else '≥'} {row['bound']:g}{row['unit']}", *_judged(row))
            for row in rows
        ]
        caption = f"What was aimed at on a {device} before it was measured, and what was reached."
        lines += table(caption, ("what", "target", "measured", "quartiles", "outcome"), shown)
    return lines


def _judged(row: Measured) -> tuple[str, str, str]:
    if "value" not in row:
        return "not measured", "", ""
    between = f"{row['low']:.3f} to {row['upper']:.3f}" if "low" in row else ""
    return f"{row['value']:.3f}{row['unit']}", between, "met" if row["met"] else "**missed**"


def _of_device(cells: Measured) -> list[str]:
    machine = cells["machine"]
    instructions = f" with {', '.join(machine['instructions'])}" if machine["instructions"] else ""
    on = f"{machine['device']}{instructions}, {machine['threads']} threads, torch {machine['torch']}"
    lines = ["", f"**{on}.**", ""]
    for name, section in cells["sections"].items():
        lines += SECTIONS[name](section["rows"])
    made: list[Row] = [
        (name, section["date"], _commit(section)) for name, section in cells["sections"].items()
    ]
    return lines + table("When each part was measured, and of which code.", ("part", "day", "commit"), made)


def _commit(section: Measured) -> str:
    return f"{section['commit'][:7]}{' and changes' if section['dirty'] else ''}"


def _quartiles(row: Measured, decimals: int = 2) -> str:
    return f"{row['low']:.{decimals}f} to {row['high']:.{decimals}f}" if "low" in row else ""


def _steps(rows: Sequence[Measured]) -> list[str]:
    lines: list[str] = []
    for precision, group in itertools.groupby(rows, lambda row: row["precision"]):
        cells = list(group)
        on_gpu = "milliseconds" in cells[0]
        shown = [
            (
                row["size"],
                row["network"],
                f"{row['median']:.3f}",
                _quartiles(row, 3),
                f"{row['extra_memory']:+.2f}",
                *([f"{row['milliseconds']:.2f}"] if on_gpu else []),
            )
            for row in cells
        ]
        head = ["size", "network", "time over vanillaNet's", "quartiles", "memory beyond vanillaNet's"]
        head += ["ms a step"] if on_gpu else []
        caption = f"A training step in {precision}; memory in copies of sr1Net's regularised activations."
        lines += table(caption, head, shown)
        for row in cells:
            if "share_of_matrix_rate" in row:
                rate = f" ({row['teraflops']:.0f} TFLOP/s)" if "teraflops" in row else ""
                lines += [
                    "",
                    f"In {precision}, vanillaNet-{row['size']} computes at "
                    f"{percent(row['share_of_matrix_rate'])} of the rate of a large matrix product{rate}, "
                    f"here computed fastest as a {row['fastest_product']}.",
                ]
    return lines


def _counterparts(rows: Sequence[Measured]) -> list[str]:
    cells = [(row["size"], row["step"], row["over"], f"{row['median']:.2f}", _quartiles(row)) for row in rows]
    head = ("size", "a step with", "over one with", "time", "quartiles")
    return table("What the other three papers add to a step.", head, cells)


def _parts(rows: Sequence[Measured]) -> list[str]:
    names = [name for name in rows[0] if name not in ("size", "network")]
    shares = [(row["size"], row["network"], *(f"{100 * row[n]:+.1f} %" for n in names)) for row in rows]
    caption = (
        "By profile: what a step of the compiled recipes spends beyond vanillaNet's, in shares of the "
        "latter's step. “The rest” is also Python's own time, in hooks and the loop. The profiler "
        "itself costs time, so sums differ from the table of training steps."
    )
    return table(caption, ("size", "network", *names), shares)


def _precision(rows: Sequence[Measured]) -> list[str]:
    speeds = [
        (row["size"], row["network"], row["precision"], f"{row['median']:.2f}", _quartiles(row))
        for row in rows
        if row["precision"] != "float32"
    ]
    head = ("size", "network", "precision", "times as fast as float32", "quartiles")
    return table("Steps per second, compiled.", head, speeds)


def _accuracy(rows: Sequence[Measured]) -> list[str]:
    reached = [
        (
            row["network"],
            row["n"],
            f"{row['float32']:.3f} ± {row['float32_sd']:.3f}",
            f"{row['bf16']:.3f}",
            f"{row['mean']:+.4f} ± {row['sd']:.4f}",
            f"{row['low']:+.4f} to {row['high']:+.4f}",
        )
        for row in rows
    ]
    head = ("network", "seeds", "float32 (± SD)", "bf16", "difference (± SD)", "95 % interval")
    caption = (
        f"Validation accuracy after {rows[0]['epochs']} epochs of 1,000 digits, size m, "
        "in bf16 and in float32, paired by seed."
    )
    return table(caption, head, reached)


_OF_AN_EPOCH = {
    "monitor": "statistics of 1,000 + 1,000 images",
    "passing": "of these, a plain pass of the images",
    "filters": "correlations of filters",
    "validation": "loss of 9,000 images",
    "observing": "all that follows an epoch",
    "writing_of_100_epochs": "the file of 100 epochs, by the epoch",
}


def _epoch(rows: Sequence[Measured]) -> list[str]:
    cells = [
        (
            row["size"],
            "yes" if row["compiled"] else "no",
            _OF_AN_EPOCH[row["part"]],
            percent(row["median"]),
            f"{percent(row['low'])} to {percent(row['high'])}" if "low" in row else "",
            percent(row["median"] * row["images"] / 50_000),
        )
        for row in rows
    ]
    head = (
        "size",
        "compiled",
        "what",
        f"of an epoch of {rows[0]['images']:,}",
        "quartiles",
        "of one of 50,000",
    )
    caption = (
        "What follows an epoch of sr3Net, in shares of its training time. The last column is a fifth of the "
        "first, which was measured: training time is linear in images."
    )
    return table(caption, head, cells)


def _monitor_parts(rows: Sequence[Measured]) -> list[str]:
    cells = [(row["part"], percent(row["median"])) for row in rows]
    caption = "By profile: on what the statistics of 1,000 + 1,000 images go, compiled, sr3Net of size s."
    return table(caption, ("what", "share"), cells)


_RUNS = {"first": "the first, which decodes the files", "again": "a later one, which finds them decoded"}


def _scripts(rows: Sequence[Measured]) -> list[str]:
    speeds = [(_RUNS[row["run"]], f"{row['median']:.1f}", _quartiles(row, 1)) for row in rows]
    caption = (
        "Images per second of whole runs, start-up included, over those of a script with a DataLoader; "
        f"vanillaNet-s, {rows[0]['epochs']} epochs of {rows[0]['images']:,} JPEG files of 32 × 32."
    )
    return table(caption, ("run", "times as fast", "quartiles"), speeds)


def _growth(rows: Sequence[Measured]) -> list[str]:
    grown = [
        (
            row["what"],
            f"{row['sizes'][0]:,} to {row['sizes'][-1]:,}",
            f"{row['median']:.2f}",
            _quartiles(row),
            f"{row['memory']:.2f}" if "memory" in row else "",
        )
        for row in rows
    ]
    head = ("of", "sizes", "time", "quartiles", "peak memory")
    caption = (
        "Growth, as the exponent over size; 1 is linear, below it a fixed cost still shows. Where "
        "filters are counted, each round is a process of its own."
    )
    return table(caption, head, grown)


def _channels(rows: Sequence[Measured]) -> list[str]:
    cells = [
        (row["channels"], "yes" if row["compiled"] else "no", f"{row['median']:.1f}", _quartiles(row))
        for row in rows
    ]
    caption = "An entropy with its gradient, per activation, in times of one exponential."
    return table(caption, ("channels", "compiled", "time", "quartiles"), cells)


def _compiling(rows: Sequence[Measured]) -> list[str]:
    cells = [(row["size"], row["cache"], f"{row['steps']:,.0f}", _billions(row["pays_from"])) for row in rows]
    caption = (
        "What compiling the entropies takes in a new process, in steps of sr1Net that is not compiled, and "
        "after how many activations as much is saved. The study compiles from "
        f"{_billions(rows[0]['compiled_from'])} activations on."
    )
    return table(
        caption, ("size", "torch's cache", "takes as long as steps", "has paid after activations"), cells
    )


def _billions(count: float) -> str:
    return f"{count / 1e9:.1f} · 10⁹" if math.isfinite(count) else "never"


def _whole(rows: Sequence[Measured]) -> list[str]:
    cells = [
        (row["network"], row["size"], f"{row['seconds']:.0f} s", f"{row['teraflops']:.0f} TFLOP/s")
        for row in rows
    ]
    caption = (
        f"Whole monitored trainings in {rows[0]['precision']}: {rows[0]['epochs']} epochs of "
        f"{rows[0]['images']:,} images that are on the device, compiling included."
    )
    return table(caption, ("network", "size", "time", "while training"), cells)


SECTIONS: dict[str, Callable[[Sequence[Measured]], list[str]]] = {
    "steps": _steps,
    "parts": _parts,
    "counterparts": _counterparts,
    "precision": _precision,
    "accuracy": _accuracy,
    "epoch": _epoch,
    "monitor_parts": _monitor_parts,
    "growth": _growth,
    "channels": _channels,
    "compiling": _compiling,
    "scripts": _scripts,
    "whole": _whole,
}
