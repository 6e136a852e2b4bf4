"""Checks of settings: one line names the wrong setting and a right value."""

from collections.abc import Callable
from typing import Any


def require(name: str, value: Any, kind: type, fits: Callable[[Any], bool], wanted: str) -> None:
    """Raises `ValueError` unless the value is of that kind, as `numbers.Real`, and fits."""
    if not (isinstance(value, kind) and fits(value)):
        raise ValueError(f"{name} must be {wanted}, not {value!r}")
