"""Pages of the API reference: docstrings are parsed as Markdown, like all pages, and a directive lists names.

`{names} reference/measure` shows a table of what a page describes, with the first sentence of each docstring;
`{fields} sparsity_lib.study.Experiment` one of a record's fields, with the comments of its source.
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, get_args

from docutils import nodes
from docutils.utils import new_document
from myst_parser.parsers.sphinx_ import MystParser
from pydantic import BaseModel
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.ext.autodoc.mock import mock
from sphinx.util.docutils import SphinxDirective
from sphinx.util.inspect import signature, stringify_signature
from table_lines import table

from sparsity_lib.study.configuration import Configuration

DESCRIBED = re.compile(r"^\.\. auto(?:class|exception|function):: (\S+)", re.MULTILINE)


class MarkdownDocstring(SphinxDirective):
    """The content as MyST Markdown, inside of a description that autodoc writes as reStructuredText."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        document = new_document(self.env.doc2path(self.env.docname), self.state.document.settings)
        MystParser().parse("\n".join(self.content), document)
        names = public_names()
        for literal in [*document.findall(nodes.literal)]:
            if name := names.get(literal.astext()):
                target = {"refdomain": "py", "reftype": "obj", "reftarget": name, "refexplicit": True}
                link = addnodes.pending_xref("", literal.deepcopy(), refdoc=self.env.docname, **target)
                literal.replace_self(link)
        return document.children


class Names(SphinxDirective):
    """A table of the names that a page describes."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        page = Path(self.env.doc2path(self.arguments[0]))
        self.env.note_dependency(str(page))
        described = DESCRIBED.findall(page.read_text(encoding="utf-8"))
        with mock(self.config.autodoc_mock_imports):
            rows = [
                (f"{{py:obj}}`{name.removeprefix('sparsity_lib.')} <{name}>`", first_sentence(name))
                for name in described
            ]
        return self.parse_text_to_nodes("\n".join(table("", ("name", "description"), rows)))


class Fields(SphinxDirective):
    """A table of the fields of a record: name, default, and the comment on the field's line."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        record = resolve_name(self.arguments[0])
        rows = [
            (f"`{name}`", f"`{record.model_fields[name].default!r}`", meaning)
            for name, meaning in described_fields(record)
        ]
        return self.parse_text_to_nodes("\n".join(table("", ("field", "default", "meaning"), rows)))


def described_fields(record: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """A record's fields with their comments, with links to readings, and with the values of a `Literal`."""
    sources = "".join(inspect.getsource(each) for each in record.__mro__ if issubclass(each, Configuration))
    comments = dict(re.findall(r"^    (\w+): .*?  # (.+)$", sources, re.MULTILINE))
    for name, field in record.model_fields.items():
        linked = re.sub(r"\bT(\d+)\b", r"[T\1](#t\1)", comments[name])
        values = ", ".join(f"`{value!r}`" for value in get_args(field.annotation) if isinstance(value, str))
        yield name, f"{linked}: {values}" if values else linked


def public_names() -> dict[str, str]:
    """Full names of classes and functions by short ones, such as `LayerStats` and `functional.variance`."""
    import sparsity_lib as sl

    classes = {name: f"sparsity_lib.{name}" for name in dir(sl) if name[0].isupper()}
    return classes | {
        f"functional.{name}": f"sparsity_lib.functional.{name}" for name in sl.functional.__all__
    }


def first_sentence(name: str) -> str:
    """The first sentence of the docstring of an object with this full name, fit for a cell of a table."""
    paragraph = inspect.getdoc(resolve_name(name)).split("\n\n")[0]
    return re.split(r"(?<=\.) (?=[A-Z])", paragraph.replace("\n", " "))[0].replace("|", r"\|")


def _as_markdown(app: Sphinx, what: str, name: str, described: Any, options: Any, lines: list[str]) -> None:
    lines[:] = [".. markdown-docstring::", "", *(f"   {line}" for line in lines), ""]


def _as_called(
    app: Sphinx, what: str, name: str, described: Any, options: Any, given: str, returned: str
) -> tuple[str, str] | None:
    """Signatures of classes as they are called, also where a base class has a `__new__` of its own."""
    if what != "class" or given is None:
        return None
    base = given.startswith("(*args") or hasattr(described, "model_fields")
    found = signature(described.__init__ if base else described, bound_method=base)
    parameters = stringify_signature(found, unqualified_typehints=True).removesuffix(" -> None")
    for pattern, plain in (
        (r"~[\w.]+\.", ""),
        (r"Annotated\[(.+?), \w+\(.+?\)\]", r"\1"),
        ("<factory>", "..."),
    ):
        parameters = re.sub(pattern, plain, parameters)
    return parameters, returned


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives, and have autodoc's docstrings parsed as Markdown."""
    app.setup_extension("sphinx.ext.autodoc")
    app.add_directive("markdown-docstring", MarkdownDocstring)
    app.add_directive("names", Names)
    app.add_directive("fields", Fields)
    app.connect("autodoc-process-docstring", _as_markdown)
    app.connect("autodoc-process-signature", _as_called)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
