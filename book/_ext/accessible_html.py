"""HTML of the theme and of Sphinx, corrected for readers who use a keyboard or a screen reader.

A table of pandas scrolls by itself where it is wide, so it can be focused. The names of its index stand in
the row of the last headings; the empty cells of its head are no headings; a missing number is blank. A name
in a heading may break after an underscore. An entry of the references is an item of their list, not of a role
that no longer exists. The lines of a signature are no definitions.
"""

import re
from typing import Any

from sphinx.application import Sphinx

REPLACEMENTS = {
    ' class="dataframe">': ' class="dataframe" tabindex="0">',
    "<th></th>": "<td></td>",
    "<td>NaN</td>": "<td></td>",
    ' role="doc-biblioentry">': ' role="listitem">',
}

HEADING = re.compile(r"<th[^>]*>[^<]*_[^<]*</th>")
# The empty cells before the last headings, these headings, and the row below them with the index's names.
INDEX_NAMES = re.compile(
    r"((?:<th></th>\s*)+)((?:<th[^>]*>[^<]+</th>\s*)+)</tr>\s*<tr[^>]*>\s*"
    r"((?:<th>[^<]+</th>\s*)+)(?:<th></th>\s*)+</tr>\s*</thead>"
)
SIGNATURE = re.compile(r'<span class="sig-paren">\(</span>\s*<dl>.*?</dl>', re.DOTALL)


def _correct(app: Sphinx, page: str, template: str, context: dict[str, Any], *_: object) -> None:
    context["body"] = INDEX_NAMES.sub(_one_row, context.get("body", ""))
    for found, replacement in REPLACEMENTS.items():
        context["body"] = context.get("body", "").replace(found, replacement)
    context["body"] = SIGNATURE.sub(_lines, context.get("body", ""))
    context["body"] = HEADING.sub(lambda name: name[0].replace("_", "_<wbr>"), context["body"])


def _one_row(head: re.Match[str]) -> str:
    """The names of the index in the empty cells before the headings, if there are as many."""
    empty, headings, names = head.groups()
    same = empty.count("<th>") == names.count("<th>")
    return f"{names}{headings}</tr></thead>" if same else head[0]


def _lines(signature: re.Match[str]) -> str:
    """A signature with a line for each argument, `<dl>` and `<dd>` made blocks without meaning."""
    tags = {"<dl>": '<span class="sig-lines">', "</dl>": "</span>", "<dd>": "<span>", "</dd>": "</span>"}
    return re.sub(r"</?d[ld]>", lambda tag: tags[tag[0]], signature[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Correct every page before it is put into the theme."""
    app.connect("html-page-context", _correct)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
