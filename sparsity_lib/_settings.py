"""Checks of settings: one line names the wrong setting and a right value."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def require(name: str, value: Any, kind: type, fits: Callable[[Any], bool], wanted: str) -> None:
    """Raises `ValueError` unless the value is of that kind, as `numbers.Real`, and fits."""
    if not (isinstance(value, kind) and fits(value)):
        raise ValueError(f"{name} must be {wanted}, not {value!r}")


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Import what an extra of this package brings; an `ImportError` names the command that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        what = f"{error.name} is missing: pip install 'sparsity-lib[{extra}]'"
        raise ImportError(what, name=error.name) from None
