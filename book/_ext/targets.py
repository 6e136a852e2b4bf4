"""Targets set before measuring, and whether each is met.

A target is met by the median over rounds, as it was measured and not as it is rounded.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
Sections = Mapping[str, Sequence[Row]]


@dataclass(frozen=True)
class Target:
    """A bound on one measured value, times a factor; `high` where it is an upper one."""

    what: str
    bound: float
    find: Callable[[Sections], Row | None]
    field: str = "median"
    high: bool = True
    unit: str = ""
    times: float = 1.0

    def judged(self, of_device: Sections | None) -> dict[str, Any]:
        """The value, whether it meets the target, and quartiles if there are some; empty if not measured."""
        row = None if of_device is None else self.find(of_device)
        if row is None or self.field not in row:
            return {}
        value = row[self.field] * self.times
        record = {"value": value, "met": value <= self.bound if self.high else value >= self.bound}
        if self.field == "median" and "low" in row:
            record |= {"low": row["low"] * self.times, "upper": row["high"] * self.times}
        return record


def _row(section: str, **fields: Any) -> Callable[[Sections], Row | None]:
    def find(of_device: Sections) -> Row | None:
        rows = of_device.get(section, ())
        return next((row for row in rows if all(row.get(n) == value for n, value in fields.items())), None)

    return find


def _step(size: str, network: str, precision: str = "float32") -> Callable[[Sections], Row | None]:
    return _row("steps", size=size, network=network, precision=precision)


_MONITOR = "monitoring 1,000 + 1,000 images, size s, share of an epoch of"
_ACCURACY = "{network}-m's accuracy in bf16 minus that in float32, {end} end of the interval"
CPU = (
    *(
        Target(
            f"a step of {recipe}, size {size}, over vanillaNet's",
            {"sr1Net, s": 1.25, "sr1Net, m": 1.10}.get(f"{recipe}, {size}", 1.05),
            _step(size, f"{recipe}, compiled"),
        )
        for recipe in ("sr1Net", "sr2Net", "sr3Net")
        for size in ("s", "m")
    ),
    *(
        Target(
            f"memory of sr1Net beyond vanillaNet's, size {size}, in copies of its regularised activations",
            1.0,
            _step(size, "sr1Net, compiled"),
            field="extra_memory",
        )
        for size in ("s", "m")
    ),
    Target(f"{_MONITOR} 10,000", 0.20, _row("epoch", compiled=True, part="monitor")),
    Target(f"{_MONITOR} 50,000", 0.05, _row("epoch", compiled=True, part="monitor"), times=1 / 5),
    Target(
        "images per second over those of the script with a DataLoader, size s",
        1.5,
        _row("scripts", run="first"),
        high=False,
    ),
    Target(
        "vanillaNet-m's steps per second in bf16 over float32",
        1.5,
        _row("precision", size="m", network="vanillaNet", precision="bf16"),
        high=False,
    ),
    *(
        Target(
            _ACCURACY.format(network=network, end=end),
            0.0,
            _row("accuracy", network=network),
            field=end,
            high=end == "low",
        )
        for network in ("vanillaNet", "sr3Net")
        for end in ("low", "high")
    ),
    Target(
        "time of signed decorrelation, exponent over 1,024 to 4,096 filters",
        1.0,
        _row("growth", what="decorrelation, signed, with filters", sizes=[1024, 2048, 4096]),
    ),
)
_WHOLE: dict[str, Any] = {"network": "sr3Net", "precision": "bf16", "epochs": 100, "images": 50_000}
GPU = (
    *(
        Target(
            f"sr3Net-{size}, monitored, 100 epochs of 50,000 images in bf16",
            bound,
            _row("whole", size=size, **_WHOLE),
            field="seconds",
            unit=" s",
        )
        for size, bound in (("xxl", 150.0), ("s", 20.0))
    ),
    Target(
        "the same at size xxl, while training",
        330.0,
        _row("whole", size="xxl", **_WHOLE),
        "teraflops",
        False,
        " TFLOP/s",
    ),
    Target(
        "a step of sr2Net, size xxl, in bf16, over vanillaNet's",
        1.05,
        _step("xxl", "sr2Net, compiled", "bf16"),
    ),
    Target(
        "images per second over those of the script with a DataLoader, size s",
        10.0,
        _row("scripts", run="first"),
        high=False,
    ),
)


def judge(folder: Path) -> list[dict[str, Any]]:
    """Every target with what was measured in `cpu.json` and `cuda.json` of the folder, if it was."""
    rows = []
    for name, device, aimed in (("cpu", "CPU", CPU), ("cuda", "GPU", GPU)):
        path = folder / f"{name}.json"
        of_device = None
        if path.exists():
            sections = json.loads(path.read_text(encoding="utf-8"))["sections"]
            of_device = {section: record["rows"] for section, record in sections.items()}
        for target in aimed:
            row: dict[str, Any] = {"device": device, "what": target.what, "bound": target.bound}
            row |= {"high": target.high, "unit": target.unit}
            rows.append(row | target.judged(of_device))
    return rows
