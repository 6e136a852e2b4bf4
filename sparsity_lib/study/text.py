"""Numbers as text, for tables and labels, and a line for where there is nothing to show."""

from decimal import Decimal

NO_RUNS = "There is no run to show; in a notebook, train = True makes those that are missing."


def number(value: float, decimals: int = 2, sign: bool = False) -> str:
    """The value with a true minus, and with more digits where rounding would leave nothing of it."""
    plus = "+" if sign and value else ""
    text = f"{value:{plus}.{decimals}f}"
    if value and not round(value, decimals):
        text = f"{value:{plus}.1g}"
        if abs(value) > 1e-6:  # 0.00003 is easier read than 3e-05
            text = f"{Decimal(text):{plus}f}"
    return text.replace("-", "−")
