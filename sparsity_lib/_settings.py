"""Checks of settings: one line names the wrong setting and a right value."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def require(name: str, value: Any, kind: type, fits: Callable[[Any], bool], wanted: str) -> None:
    """Raises `ValueError` unless the value is of that kind, as `numbers.Real`, and fits."""
    if not (isinstance(value, kind) and fits(value)):
        raise ValueError(f"{name} must be {wanted}, not {value!r}")


def one_of(name: str, value: str, known: Sequence[str]) -> None:
    """Raise `ValueError` unless `value` is known, naming what is."""
    if value not in known:
        raise ValueError(f"unknown {name} {value!r}; choose from {', '.join(known)}")


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Import what an extra of this package brings; an `ImportError` names the command that installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        what = f"{error.name} is missing: pip install 'sparsity-lib[{extra}]'"
        raise ImportError(what, name=error.name) from None
