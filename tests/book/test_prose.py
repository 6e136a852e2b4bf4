"""Wording of pages, notebooks, docstrings, errors and tests: standard terms and British spelling."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = ("sparsity_lib", "scripts", "benchmarks", "book/_ext")
AMERICAN = (
    "analyz color favor gray behavior neighbor labeled modeling summariz regulariz normaliz initializ"
    " generaliz standardiz visualiz recogniz penaliz optimization center(?!\\s*=)"
)
RULES = {
    "private word": re.compile(
        r"\b(told|h[eo]ld against|rival|answers|somebody|stranger|leads(?! to)|beside(?![,:=])|hands|handed)",
        re.I,
    ),
    "first word": re.compile(r"(?:^\W*|[.!?] )(?:Of|Those|What(?![^.!]*\?))\b", re.M),
    "spelling": re.compile(rf"\b(?:{'|'.join(AMERICAN.split())})", re.I),
}
NOT_OURS = re.compile(
    r"`[^`]*`|\$[^$]*\$|\]\([^)]*\)|\{[^{}]*\}|\"[^\"]*\"|(?<!\*)\*[^*\n]+\*(?!\*)|https?://\S+"
)


def found(text: str) -> list[str]:
    """Violations of `RULES` in prose, with the words around; code, quotations and titles are exempt."""
    text = NOT_OURS.sub("…", text)
    return [
        f"{rule}: {' '.join(text[max(match.start() - 30, 0) : match.end() + 30].split())}"
        for rule, pattern in RULES.items()
        for match in pattern.finditer(text)
    ]


def paragraphs(markdown: str) -> str:
    """Markdown less its code blocks and formulas, a line per paragraph, row or heading."""
    lines: list[str] = []
    fences: list[tuple[str, bool]] = []  # open ones: their mark, and whether prose is in them
    for line in markdown.splitlines():
        prose = all(of_prose for _, of_prose in fences)
        if mark := re.match(r"\s*(```+|:::+)\s*(\S*)", line):
            if fences and mark.groups() == (fences[-1][0], ""):
                fences.pop()
            elif prose:
                fences.append((mark[1], mark[2].startswith("{") and mark[2] != "{math}"))
            lines.append("")
        elif prose:
            starts = re.match(r"\s*(#|[-*:|]|\d+\.|$)", line)
            lines.append(("\n" if starts else " ") + line.strip())
    return "".join(lines)


def of_notebook(text: str) -> Iterator[str]:
    """Markdown cells, captions and alternative texts, and sentences and comments of code cells."""
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield paragraphs(source)
        else:
            shown = cell["metadata"].get("mystnb", {})
            yield shown.get("figure", {}).get("caption", "")
            yield shown.get("image", {}).get("alt", "")
            yield from re.findall(r"#(.*)", source)
            yield from (paragraphs(each) for each in strings(ast.parse(source)))


def strings(tree: ast.AST) -> Iterator[str]:
    """Sentences in strings: constants with a space, f-strings without their values."""
    inner = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inner |= {id(each) for each in node.values}
            yield "".join(each.value if isinstance(each, ast.Constant) else "…" for each in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.value if " " in node.value else ""


def of_module(text: str) -> Iterator[str]:
    """Docstrings, messages of errors, and the names of tests as sentences."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield paragraphs(ast.get_docstring(node) or "")
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield node.name.removeprefix("test_").replace("_", " ").capitalize()
        elif isinstance(node, ast.Raise):
            yield from strings(node)


def texts(kind: str) -> Iterator[tuple[Path, str]]:
    """Prose of the project, with the file that has it."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("book/*.md"), *ROOT.glob("docs/*.md")]
    files, read = {
        "pages": (pages, lambda text: [paragraphs(text)]),
        "notebooks": (ROOT.glob("notebooks/*.ipynb"), of_notebook),
        "code": ([path for name in CODE for path in ROOT.glob(f"{name}/**/*.py")], of_module),
        "tests": (ROOT.glob("tests/**/*.py"), of_module),
    }[kind]
    for path in sorted(files):
        yield from ((path, text) for text in read(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("kind", ["pages", "notebooks", "code", "tests"])
def test_prose_has_standard_terms_and_british_spelling(kind: str) -> None:
    faults = [f"{path.relative_to(ROOT)}: {fault}" for path, text in texts(kind) for fault in found(text)]
    assert not faults, "\n".join(faults)
