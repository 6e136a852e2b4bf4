"""Refusals of bad input: an error of one line that names the value."""

import contextlib
from collections.abc import Iterator

import pytest

from sparsity_lib.study import StudyError


@contextlib.contextmanager
def refused(*named: object, error: type[Exception] = StudyError, match: str | None = None) -> Iterator[None]:
    """The block raises the error, in one line that has these parts and matches the pattern."""
    with pytest.raises(error, match=match) as caught:
        yield
    (message,) = str(caught.value).splitlines()
    assert [part for part in map(str, named) if part not in message] == []
