"""Tables of generated pages."""

from collections.abc import Iterable, Sequence

Row = Sequence[object]


def table(caption: str, head: Row, rows: Iterable[Row]) -> list[str]:
    """A Markdown table with a caption, as lines."""
    body = ["| " + " | ".join(map(str, row)) + " |" for row in (head, ["---"] * len(head), *rows)]
    return ["", f":::{{table}} {caption}", *body, ":::", ""]


def percent(share: float) -> str:
    """A share in words, with two digits where it is small."""
    return f"{100 * share:.0f} %" if share > 0.1 else f"{100 * share:.2g} %"
