"""The book: it builds without a warning, asks nothing of the network, and can be read by everyone."""

import io
from pathlib import Path

import matplotlib.image
import nbformat
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ("01-monitoring", "02-sr1", "03-sr2", "04-sr3")


def stand_in(name: str) -> nbformat.NotebookNode:
    """An executed notebook as the runner leaves it: a wide figure, a table of many columns, a piece of HTML."""
    v4 = nbformat.v4
    png = io.BytesIO()
    matplotlib.image.imsave(png, np.tile(np.linspace(0, 1, 900), (300, 1)), format="png")
    import base64

    figure = v4.new_output("display_data", data={"image/png": base64.b64encode(png.getvalue()).decode()})
    about = {"figure": {"name": f"fig-{name}", "caption": "A stand-in."}, "image": {"alt": "A grey ramp."}}
    html = v4.new_output("display_data", data={"text/html": '<p id="explorer">An explorer.</p>'})
    wide = "<table><tr>" + "<td>a wide cell</td>" * 30 + "</tr></table>"
    table = v4.new_output("display_data", data={"text/html": wide})
    cells = [
        v4.new_markdown_cell(f"# Stand-in for {name}\n\n{{numref}}`fig-{name}`, {{eq}}`eq-entropy`, {{cite}}`tsr`."),
        v4.new_code_cell("figure", execution_count=1, outputs=[figure], metadata={"mystnb": about}),
        v4.new_code_cell("explorer", execution_count=2, outputs=[html]),
        v4.new_code_cell("table", execution_count=3, outputs=[table]),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


if __name__ == "__main__":
    (ROOT / "book/experiments").mkdir(exist_ok=True)
    for n in NOTEBOOKS:
        nbformat.write(stand_in(n), ROOT / f"book/experiments/{n}.ipynb")
