"""Buttons to the repository and to Colab on every page, once pyproject.toml names a repository."""

import tomllib
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config


def repository(project: Path) -> str:
    """The address `project.urls.Repository` of pyproject.toml; empty where there is none."""
    settings = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    return str(settings["project"].get("urls", {}).get("Repository", "")).rstrip("/")


def colab(address: str, page: str) -> str | None:
    """The address of a page's notebook in Colab; None for other pages, and for a repository elsewhere."""
    _, _, name = address.partition("github.com/")
    if not (name and page.startswith("experiments/")):
        return None
    return f"https://colab.research.google.com/github/{name}/blob/main/notebooks/{Path(page).name}.ipynb"


def _add_repository(app: Sphinx, config: Config) -> None:
    address = repository(Path(app.srcdir).parent)  # empty in place of Jupyter Book's own
    config.html_theme_options |= {"repository_url": address, "use_repository_button": bool(address)}


def _add_colab(app: Sphinx, page: str, template: str, context: dict[str, Any], *_: object) -> None:
    if address := colab(app.config.html_theme_options.get("repository_url", ""), page):
        button = {"type": "link", "url": address, "tooltip": "Open in Colab", "icon": "fas fa-rocket"}
        context["header_buttons"].append(button | {"label": "colab"})


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the buttons after the theme has made its own."""
    app.connect("config-inited", _add_repository)
    app.connect("html-page-context", _add_colab, priority=502)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
