"""Long tables of the book in a browser: sorted by a heading, filtered by a search, plain without scripts."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from accessibility import violations
from browser import Visit
from playwright.sync_api import Page

pytestmark = pytest.mark.browser
SCRIPT = Path(__file__).resolve().parents[2] / "book/_static/tables.js"
ROWS = pd.DataFrame(
    {
        "network": [f"{name} {i}" for i in range(5) for name in ("vanillaNet", "sr2Net", "varNet")],
        "effect": [None, "−0.5", "0.25", *(f"{i}.0" for i in range(12, 0, -1))],
    }
)


@pytest.fixture
def page(page_of: Callable[..., Path], visit: Visit) -> Page:
    tables = (each.to_html(index=False, na_rep="") for each in (ROWS, ROWS[:3]))
    return visit(page_of(*tables, head=f"<script>{SCRIPT.read_text()}</script>").as_uri())


def column(page: Page, place: int) -> list[str]:
    return page.locator(f"table >> nth=0 >> tbody tr:visible td:nth-child({place})").all_inner_texts()


def test_headings_sort_by_value_with_empty_cells_last(page: Page) -> None:
    heading = page.get_by_role("columnheader", name="effect").first
    heading.get_by_role("button").press("Enter")
    rising = column(page, 2)
    assert rising[:3] == ["−0.5", "0.25", "1.0"]
    assert rising[-2:] == ["12.0", ""]
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.get_by_role("button").click()
    assert column(page, 2) == [*rising[-2::-1], ""]
    page.get_by_role("button", name="network").click()
    assert column(page, 1) == sorted(ROWS["network"], key=str.lower)
    assert heading.get_attribute("aria-sort") is None


def test_search_filters_rows_of_long_tables(page: Page) -> None:
    assert page.get_by_role("searchbox").count() == 1
    assert page.locator("table >> nth=1 >> button").count() == 0
    page.get_by_role("searchbox", name="Filter rows:").fill("SR2 4")
    assert column(page, 1) == ["sr2Net 4"]
    page.get_by_role("searchbox").fill("")
    assert column(page, 1) == ROWS["network"].tolist()
    assert not violations(page)
