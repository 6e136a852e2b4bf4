"""The parameters of a notebook: read from the cell tagged `parameters`, without executing anything.

papermill passes an unknown name on with a line in its log, and a value of the wrong type as text
(`-p quick false` is the string "false", which is true). Here both are errors.
"""

import ast
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KINDS = {"bool": bool, "int": int, "float": float, "str": str}


@dataclass(frozen=True)
class Parameter:
    """A default and the name of its type."""

    value: Any
    kind: str


def read(notebook: Path) -> dict[str, Parameter]:
    """The notebook's parameters by name.

    Raises:
        ValueError: the file is no notebook, has not exactly one `parameters` cell, or that cell holds
            something other than assignments of a bool, int, float or string.
    """
    cells = [cell for cell in load(notebook)["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    if len(cells) != 1:
        raise ValueError(f"{notebook.name} has {len(cells)} cells tagged 'parameters'; it needs one")
    try:
        statements = ast.parse("".join(cells[0]["source"])).body
    except SyntaxError as error:
        raise ValueError(f"{notebook.name}: the parameters cell, line {error.lineno}: {error.msg}") from None
    return dict(_parameter(statement, notebook) for statement in statements)


def load(notebook: Path) -> dict[str, Any]:
    """The notebook's JSON. Raises `ValueError` where it is none."""
    try:
        content = json.loads(notebook.read_text(encoding="utf-8"))
        for cell in content["cells"]:
            "".join(cell["source"]), "parameters" in cell["metadata"].get("tags", [])
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ValueError(f"{notebook.name} is not a notebook of format 4") from None
    return content


def convert(name: str, text: str, defaults: dict[str, Parameter], notebook: Path) -> Any:
    """`text` as a value for the parameter `name`. Raises `ValueError` for a wrong name or type."""
    if name not in defaults:
        raise ValueError(
            f"{notebook.name} has no parameter {name!r}; it has: {', '.join(defaults) or 'none'}"
        )
    parameter = defaults[name]
    try:
        if parameter.kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        return KINDS[parameter.kind](text)
    except (ValueError, KeyError):
        raise ValueError(
            f"{notebook.name}: parameter '{name}' is of type {parameter.kind} "
            f"(default {parameter.value!r}), not {text!r}"
        ) from None


def _parameter(statement: ast.stmt, notebook: Path) -> tuple[str, Parameter]:
    match statement:
        case ast.Assign(targets=[ast.Name(id=name)], value=node):
            pass
        case _:
            raise ValueError(
                f"{notebook.name}: the parameters cell, line {statement.lineno}: not NAME = VALUE"
            )
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError):
        value = ...
    kind = type(value).__name__
    if kind not in KINDS:
        raise ValueError(
            f"{notebook.name}: the default of '{name}' must be written out as a bool, int, float or string "
            "(lists as 'a,b')"
        )
    return name, Parameter(value, kind)
