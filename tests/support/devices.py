"""Waits for a device, which a CPU does not have."""

import contextlib
from collections.abc import Iterator

import pytest
from torch import Tensor


@contextlib.contextmanager
def no_value_read() -> Iterator[None]:
    """Reading a tensor's value, for which another device would be waited for, fails in the block."""

    def stalls(tensor: Tensor, *args: object) -> None:
        raise AssertionError("a value was read back")

    with pytest.MonkeyPatch.context() as patched:
        for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "nonzero"):
            patched.setattr(Tensor, name, stalls)
        yield
