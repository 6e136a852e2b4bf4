"""Warning, which fails the build, for a picture without alternative text or without a caption.

In a notebook both come from the metadata of the cell: `mystnb.image.alt` and `mystnb.figure.caption`.
"""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.logging import getLogger

logger = getLogger(__name__)


def _check(app: Sphinx, doctree: nodes.document) -> None:
    for image in doctree.findall(nodes.image):
        text = image.get("alt", "").strip()
        if not text or text.endswith(".png"):  # a file's name is no text
            logger.warning("an image has no alternative text", location=image, type="described")
        figure = image.parent
        while figure and not isinstance(figure, nodes.figure):
            figure = figure.parent
        if not figure or not list(figure.findall(nodes.caption)):
            logger.warning("an image has no caption", location=image, type="described")


def setup(app: Sphinx) -> dict[str, bool]:
    """Check every page as it is read."""
    app.connect("doctree-read", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
