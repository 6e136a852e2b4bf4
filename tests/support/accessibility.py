"""Violations of WCAG that axe-core finds on a page."""

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

# It would fetch style sheets once more, which a page opened from the disk may not, for rules that are off.
OPTIONS = {"preload": False, "resultTypes": ["violations"]}


def violations(page: Page) -> list[str]:
    """One line per element of the page, shadow roots included, that breaks a rule: rule, impact, element."""
    page.wait_for_function("!document.getAnimations().length")  # colours that fade have less contrast
    found = Axe().run(page, options=OPTIONS).response["violations"]
    return [
        f"{rule['id']} ({rule['impact']}): {_selector(node['target'])}"
        for rule in found
        for node in rule["nodes"]
    ]


def _selector(target: list[Any]) -> str:
    """Selectors of the element, each within the shadow root of the one before."""
    return " >> ".join(" >> ".join(part) if isinstance(part, list) else part for part in target)
