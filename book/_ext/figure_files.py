"""Each figure is a link to its picture; below its caption are links to its data as CSV and to the notebook.

The data are those that the figure's output carries. A picture of another page has them next to it, in a file
of the same name that ends in `.csv`; a figure without data has no link to any.
"""

import html
import json
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.osutil import relative_uri

DOWNLOADS = "_downloads"


def _add_links(app: Sphinx, doctree: nodes.document, page: str) -> None:
    if app.builder.format != "html":
        return
    source = Path(app.env.doc2path(page))
    is_notebook = source.suffix == ".ipynb"
    carried = _carried(source) if is_notebook else {}
    for figure in doctree.findall(nodes.figure):
        name = figure["ids"][0]
        data = carried.get(name) if is_notebook else _next_to(figure, Path(app.srcdir))
        for image in figure.findall(nodes.image):
            image.setdefault("width", "100%")  # such a picture is a link to itself in full size
        if is_notebook and (data is None or ",row," in data.partition("\n")[0]):
            figure["classes"].append("keeps-colours")  # maps, whose colours mean values in dark themes too
        files = {}
        if data is not None:
            files["Data (CSV)"] = _write(app, name, data)
        if is_notebook:
            files["Notebook"] = f"_sources/{page}{source.suffix}{app.config.html_sourcelink_suffix}"
        if files:
            number = ".".join(map(str, app.env.toc_fignumbers[page]["figure"][name]))
            here = app.builder.get_target_uri(page)
            links = (_link(text, number, relative_uri(here, file)) for text, file in files.items())
            line = f'<p class="figure-files">{" · ".join(links)}</p>'
            figure += nodes.legend("", nodes.raw("", line, format="html"))


def _carried(notebook: Path) -> dict[str, str]:
    """The data that a notebook's outputs carry, by the identifier of their figure."""
    data = {}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        name = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name", "")
        for output in cell.get("outputs", []):
            if text := output.get("data", {}).get("text/csv"):
                data[nodes.make_id(name)] = "".join(text)
    return data


def _next_to(figure: nodes.figure, folder: Path) -> str | None:
    """The data of a figure's picture, whose path is from `folder`; None if there are none."""
    paths = ((folder / image["uri"]).with_suffix(".csv") for image in figure.findall(nodes.image))
    return next((path.read_text(encoding="utf-8") for path in paths if path.is_file()), None)


def _write(app: Sphinx, name: str, data: str) -> str:
    file = f"{DOWNLOADS}/{name}.csv"
    path = Path(app.outdir) / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(data, encoding="utf-8", newline="")
    return file


def _link(text: str, number: str, uri: str) -> str:
    label = html.escape(f"{text} of Figure {number}")
    return f'<a download href="{html.escape(uri)}" aria-label="{label}">{html.escape(text)}</a>'


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the links once figures have their numbers."""
    app.connect("doctree-resolved", _add_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
