"""Numbers of the front page: `{{ name }}` in Markdown is the number of that name in `findings`."""

from sphinx.application import Sphinx
from sphinx.config import Config


def _add_numbers(app: Sphinx, config: Config) -> None:
    from sparsity_lib.study import findings

    config.myst_substitutions = {**config.myst_substitutions, **findings.numbers()}


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the numbers to MyST's substitutions."""
    app.connect("config-inited", _add_numbers)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
