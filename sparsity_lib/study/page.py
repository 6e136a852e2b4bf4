"""What a cell of the book shows, where something that it needs may be lacking."""

from collections.abc import Callable
from typing import Any

import pandas as pd
from IPython.display import HTML, Markdown

from sparsity_lib.study.described import as_text
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.sentences import bullets


class Shown:
    """Shows what it is asked for, or in one line what is lacking; of one page, which says that once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, make: Callable[..., Any], *needed: Any) -> Any:
        """What `make` makes of what is needed, and of what the functions among it return.

        A list is shown as bullets, and a table with all of its rows.

        Where any of them raises `StudyError`, that is said instead; the same once more is not shown.
        """
        try:
            made = make(*(need() if callable(need) else need for need in needed))
        except StudyError as error:
            if str(error) in self._said:
                return None
            self._said.add(str(error))
            return Markdown(f"*Not shown: {as_text(error)}.*")
        if isinstance(made, pd.DataFrame):
            return HTML(made.to_html())
        return Markdown(bullets(made)) if isinstance(made, list) else made
