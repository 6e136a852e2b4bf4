"""Examples in docstrings and pages."""

import inspect
import re
import textwrap

EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def run_example(described: object, names: dict[str, object]) -> None:
    """Run the one example of a docstring; `names` are those that it may use, and those that it defines."""
    (example,) = EXAMPLE.findall(inspect.getdoc(described) or "")
    exec(textwrap.dedent(example), names)
