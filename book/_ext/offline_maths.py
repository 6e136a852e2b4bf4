"""MathJax from the installed package `sphinx-mathjax-offline`: one file next to the pages, no CDN.

In `_static` the file would be loaded by every page, and would put a library into this repository.
"""

from importlib.util import find_spec
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError


def _add_file(app: Sphinx, config: Config) -> None:
    package = find_spec("sphinx-mathjax-offline")
    if package is None or package.origin is None:
        raise ExtensionError("the package sphinx-mathjax-offline is missing; install it: pip install .[book]")
    path = Path(package.origin).parent / "static" / "mathjax" / config.mathjax_path
    config.html_static_path.append(str(path))


def setup(app: Sphinx) -> dict[str, bool]:
    """Copy the file that `mathjax_path` names to the pages' `_static`."""
    app.connect("config-inited", _add_file)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
