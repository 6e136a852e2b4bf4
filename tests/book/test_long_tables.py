"""Tables of the book in a browser: long ones are sorted and filtered, short and wide ones stacked."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from accessibility import violations
from browser import Visit
from playwright.sync_api import Page

pytestmark = pytest.mark.browser
STATIC = Path(__file__).resolve().parents[2] / "book/_static"
HEAD = (
    f"<script>{(STATIC / 'tables.js').read_text()}</script><style>{(STATIC / 'book.css').read_text()}</style>"
)
ROWS = pd.DataFrame(
    {
        "network": [f"{name} {i}" for i in range(5) for name in ("vanillaNet", "sr2Net", "varNet")],
        "effect": [None, "−0.5", "0.25", *(f"{i}.0" for i in range(12, 0, -1))],
    }
)


@pytest.fixture
def page(page_of: Callable[..., Path], visit: Visit) -> Page:
    tables = (each.to_html(index=False, na_rep="") for each in (ROWS, ROWS[:3]))
    return visit(page_of(*tables, head=HEAD).as_uri())


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


def test_short_tables_are_stacked_where_they_are_wider_than_a_narrow_page(
    page_of: Callable[..., Path], visit: Visit
) -> None:
    rows = pd.MultiIndex.from_product(
        [["digits", "photographs"], ["vanillaNet", "sr2Net"]], names=["data", "net"]
    )
    wide = pd.DataFrame({(f"quantity{i}", "mean"): range(4) for i in range(8)}, rows).to_html()
    narrow = pd.DataFrame({"a": [1]}).to_html()
    path = page_of(f'<div class="bd-article">{wide}{narrow}</div>', head=HEAD)
    page = visit(path.as_uri(), viewport={"width": 360, "height": 740})
    stacked, plain = page.locator("table").all()
    last = stacked.locator("tbody tr").last
    assert last.locator("th, td").all_inner_texts() == ["photographs", "sr2Net", *["3"] * 8]
    assert last.locator("td").first.get_attribute("data-column") == "quantity0, mean"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert plain.locator("[data-column]").count() == 0
    page = visit(path.as_uri(), viewport={"width": 1280, "height": 740})
    assert page.locator("[data-column]").count() == 0
