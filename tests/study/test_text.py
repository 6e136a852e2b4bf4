"""Numbers as text."""

import math

import pytest

from sparsity_lib.study.text import number, with_interval


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


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0.0371, 0.0254, 0.0489), "0.037 (0.025 to 0.049)"),
        ((-0.05, -0.1, -1e-6), "−0.050 (−0.100 to 0.000)"),
        ((0.5, math.nan, math.nan), "0.500"),
        ((math.nan,) * 3, ""),
    ],
)
def test_values_with_their_intervals_have_three_decimals(values, text):
    assert with_interval(*values) == text
