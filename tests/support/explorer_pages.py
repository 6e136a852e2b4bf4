"""Fixtures of the explorer in a browser."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import Visit
from playwright.sync_api import Page

from sparsity_lib import study


@pytest.fixture(scope="module")
def three(tiny_runs: list[study.Run]) -> list[study.Run]:
    """vanillaNet, normNet and sr3Net."""
    return tiny_runs[::2]


@pytest.fixture
def opened(visit: Visit, page_of: Callable[..., Path]) -> Callable[..., Page]:
    """`opened(*explorers, ...)` is a page of explorers or of runs' explorers; `browser` has its settings."""

    def open_page(*explorers: Any, browser: dict[str, Any] | None = None, **shown: Any) -> Page:
        drawn = [e if hasattr(e, "as_html") else study.explore(e, **shown) for e in explorers]
        page = visit(page_of(*(explorer.as_html() for explorer in drawn)).as_uri(), **(browser or {}))
        page.get_by_role("slider", name="Epoch").nth(len(drawn) - 1).wait_for()
        return page

    return open_page
