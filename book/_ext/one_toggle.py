"""The folded cells of parameters and of code at the head of a notebook open by one toggle.

A cell tagged `parameters` or `injected-parameters` joins the code cell that follows it.
"""

from itertools import pairwise

from docutils import nodes
from sphinx.application import Sphinx

JOINING = {"tag_parameters", "tag_injected-parameters"}


def _join(app: Sphinx, doctree: nodes.document) -> None:
    cells = [node for node in doctree.findall(nodes.container) if node.get("nb_element") == "cell_code"]
    for cell, after in pairwise(cells):
        if JOINING.intersection(cell["classes"]) and cell.next_node(descend=False, siblings=True) is after:
            after[0].insert(0, cell[0].children)
            cell.parent.remove(cell)


def setup(app: Sphinx) -> dict[str, bool]:
    """Join the cells of every page as it is read."""
    app.connect("doctree-read", _join)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
