"""What a page's cell shows where something that it needs may be lacking."""

import pandas as pd

from sparsity_lib.study import StudyError
from sparsity_lib.study.page import Shown


def lacking() -> None:
    raise StudyError("no runs")


def test_what_is_there_is_shown_and_sentences_are_bullets() -> None:
    shown = Shown()
    assert shown(lambda a, b: a + b, 1, lambda: 2) == 3
    assert shown(lambda: ["one", "two"]).data == "- one\n- two"


def test_a_table_is_shown_whole() -> None:
    table = pd.DataFrame({"value": range(1000, 1200)})
    html = Shown()(lambda: table).data
    assert all(f"<td>{value}</td>" in html for value in table["value"])


def test_what_is_lacking_is_said_once_a_page() -> None:
    shown = Shown()
    assert shown(print, lacking).data == "*Not shown: no runs.*"
    assert shown(lacking) is None
    assert Shown()(lacking).data == "*Not shown: no runs.*"
