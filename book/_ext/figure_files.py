"""Each figure is a link to its picture; below its caption are links to its data as CSV and to the notebook.

The data are those that the figure's output carries. Where it carries a picture for dark pages, these show it.
"""

import base64
import html
import json
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.osutil import relative_uri

from sparsity_lib.study.figures.data import NIGHT

DOWNLOADS = "_downloads"


def _add_links(app: Sphinx, doctree: nodes.document, page: str) -> None:
    if app.builder.format != "html":
        return
    source = Path(app.env.doc2path(page))
    is_notebook = source.suffix == ".ipynb"
    carried = _carried(source) if is_notebook else {}
    for figure in doctree.findall(nodes.figure):
        name, here = figure["ids"][0], app.builder.get_target_uri(page)
        output = carried.get(name, {})
        for image in list(figure.findall(nodes.image)):
            image.setdefault("width", "100%")  # such a picture is a link to itself in full size
            if NIGHT in output:
                uri = relative_uri(here, _write(app, f"{name}.png", base64.b64decode(output[NIGHT])))
                image["classes"].append("by-day")
                image.parent.insert(image.parent.index(image), _by_night(uri, image["alt"]))
                figure["classes"].append("keeps-colours")
        files = {}
        if "text/csv" in output:
            files["Data (CSV)"] = _write(app, f"{name}.csv", output["text/csv"].encode())
        if is_notebook:
            files["Notebook"] = f"_sources/{page}{source.suffix}{app.config.html_sourcelink_suffix}"
        if files:
            number = ".".join(map(str, app.env.toc_fignumbers[page]["figure"][name]))
            links = (_link(text, number, relative_uri(here, file)) for text, file in files.items())
            line = f'<p class="figure-files">{" · ".join(links)}</p>'
            figure += nodes.legend("", nodes.raw("", line, format="html"))


def _carried(notebook: Path) -> dict[str, dict[str, str]]:
    """The outputs of a notebook's figures, by the figure's identifier and by type."""
    found: dict[str, dict[str, str]] = {}
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        name = cell["metadata"].get("mystnb", {}).get("figure", {}).get("name", "")
        for output in cell.get("outputs", []):
            kinds = {kind: "".join(text) for kind, text in output.get("data", {}).items()}
            found.setdefault(nodes.make_id(name), {}).update(kinds)
    return found


def _write(app: Sphinx, name: str, content: bytes) -> str:
    file = f"{DOWNLOADS}/{name}"
    path = Path(app.outdir) / file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return file


def _by_night(uri: str, alt: str) -> nodes.raw:
    """The picture for dark pages, a link to itself as the other one is."""
    uri, alt = html.escape(uri), html.escape(alt)
    picture = f'<img alt="{alt}" src="{uri}" style="width: 100%">'
    return nodes.raw("", f'<a class="image-reference by-night" href="{uri}">{picture}</a>', format="html")


def _link(text: str, number: str, uri: str) -> str:
    label = html.escape(f"{text} of Figure {number}")
    return f'<a download href="{html.escape(uri)}" aria-label="{label}">{html.escape(text)}</a>'


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the links once figures have their numbers."""
    app.connect("doctree-resolved", _add_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
