"""Numbers as text."""

import pytest

from sparsity_lib.study.text import number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"),
        (-0.004, "−0.004"),
        (0.126, "0.13"),
        (-1.0, "−1.00"),
        (-3e-5, "−0.00003"),
        (3e-9, "3e−09"),
    ],
)
def test_numbers_never_round_to_nothing(value, text):
    assert number(value) == text
