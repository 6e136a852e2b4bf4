"""Numbers as text for tables and labels, and the line for figures without runs."""

import math
from decimal import Decimal

NO_RUNS = "There is no run to show; in a notebook, train = True trains the missing ones."


def number(value: float, decimals: int = 2, sign: bool = False) -> str:
    """Value with a true minus sign, and with more digits where it would be rounded to zero."""
    plus = "+" if sign and value else ""
    text = f"{value:{plus}.{decimals}f}"
    if value and not round(value, decimals):
        text = f"{value:{plus}.1g}"
        if abs(value) > 1e-6:  # 0.00003, not 3e-05
            text = f"{Decimal(text):{plus}f}"
    return text.replace("-", "−")


def formatted(value: float, spec: str) -> str:
    """Value in a format such as `+.3f`, with a true minus sign, and no sign if it is rounded to zero."""
    text = format(value, spec).replace("-", "−")
    return text if any(digit in text for digit in "123456789") else text.lstrip("+−")


def with_interval(value: float, low: float, high: float) -> str:
    """Value and interval with three decimals, such as `0.037 (0.025 to 0.049)`; blank for NaN."""
    shown = [formatted(each, ".3f") for each in (value, low, high) if not math.isnan(each)]
    return f"{shown[0]} ({shown[1]} to {shown[2]})" if len(shown) == 3 else "".join(shown)
