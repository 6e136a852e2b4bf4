"""Selection of experiments by the parameters of a notebook: cells of a profile, with the given values."""

import re
from collections.abc import Sequence
from typing import Any

from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.experiment import Experiment
from sparsity_lib.study.profiles import grid as grid_of

MOST_SEEDS = 10_000  # of a range

Listed = str | int | float | Sequence[str | int | float]


def select(
    profile: str,
    networks: Listed | None = "",
    dataset: str | None = "",
    sizes: Listed | None = "",
    seeds: Listed | None = "",
    label_noise: Listed | None = "",
    optimizer: Listed | None = "",
    epochs: int | None = 0,
    limit: int | None = 0,
    image_size: int | None = 0,
    device: str = "auto",
    grid: str = "networks",
) -> list[Experiment]:
    """Experiments of a profile's grid with the given values; empty, 0 or None for the profile's own values.

    The order of the parameters is that in the parameter cells of notebooks.

    ```python
    experiments = study.select("laptop", "vanillaNet,sr2Net", dataset="digits", seeds="0,1", epochs=20)
    ```

    Lists are comma-separated text, since papermill's `-p` has no lists: `networks="vanillaNet,normNet"`,
    `seeds="0,1"`, or `seeds="100-104"`. A value that occurs in the profile selects cells; another value
    is set in each cell.

    Raises `StudyError` (one line) for unknown values and wrong types.
    """
    for name, text in (("grid", grid), ("dataset", dataset or "")):
        if not isinstance(text, str):
            raise StudyError(f"{name} = {text!r}: give a name")
    chosen = grid_of(grid, profile)
    given = parse_seeds(seeds)  # papermill passes a single seed as a number
    cells = [dict(cell) for cell in chosen.cells]
    wanted: dict[str, list[Any]] = {
        "network": listed("networks", networks, str),
        "dataset": [dataset] if dataset else [],
        "size": listed("sizes", sizes, str),
        "label_noise": listed("label_noise", label_noise, float),
        "optimizer": listed("optimizer", optimizer, str),
    }
    for field, value in (("epochs", epochs), ("limit", limit), ("image_size", image_size)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise StudyError(f"{field} = {value!r}: give a whole number above 0; 0 is the profile's own")
        wanted[field] = [value] if value else []
    for field, values in wanted.items():
        if values:
            cells = _with_values(cells, field, values)
    chosen_seeds = given or list(chosen.seeds)
    found = {
        (experiment := Experiment(**cell, seed=seed, device=device)).digest: experiment
        for seed in chosen_seeds
        for cell in cells
    }
    return list(found.values())


def _with_values(cells: list[dict[str, Any]], field: str, values: list[Any]) -> list[dict[str, Any]]:
    default = Experiment.model_fields[field].default
    present = {cell.get(field, default) for cell in cells}
    found = []
    for value in values:
        if value in present:
            found += [cell for cell in cells if cell.get(field, default) == value]
        else:
            found += [cell | {field: value} | _rescaled_delay(cell, field, value) for cell in cells]
    return found


def _rescaled_delay(cell: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    """Delay, if any, at the same share of the new number of epochs."""
    if field != "epochs" or "delay" not in cell:
        return {}
    epochs = cell.get("epochs", Experiment.model_fields["epochs"].default)
    return {"delay": cell["delay"] * value // epochs}


def listed(name: str, value: Listed | None, kind: type) -> list[Any]:
    """Items of the parameter `name`, converted to `kind`; none for None."""
    if value is None:
        return []
    if isinstance(value, str):
        parts: list[Any] = [part.strip() for part in value.split(",") if part.strip()]
    else:
        parts = list(value) if isinstance(value, Sequence) else [value]
    try:
        if kind is int and any(isinstance(part, float) for part in parts):
            raise TypeError
        return [kind(part) for part in parts]
    except (TypeError, ValueError):
        raise StudyError(
            f"{name} = {value!r}: give comma-separated {'text' if kind is str else 'numbers'}"
        ) from None


def parse_seeds(value: Listed | None) -> list[int]:
    """Seeds given as `"0,1,2"`, `"100-104"`, a number, or a list of numbers."""
    if not isinstance(value, str):
        return listed("seeds", value, int)
    seeds: list[int] = []
    for part in listed("seeds", value, str):
        numbers = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part, re.ASCII)
        several = range(int(numbers[1]), int(numbers[2] or numbers[1]) + 1) if numbers else range(0)
        if not 0 < len(several) <= MOST_SEEDS:
            raise StudyError(
                f"seeds = {value!r}: give comma-separated whole numbers, or ranges of at most {MOST_SEEDS:,} "
                "of them, as in 0,1,2 or 100-104"
            )
        seeds += several
    return seeds
