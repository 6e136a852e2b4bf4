"""Values at random, as a user may give them: each is taken, or refused in one line.

Each test's cases are the same in every run.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sparsity_lib import study
from sparsity_lib.study import StudyError
from sparsity_lib.study.__main__ import _field
from sparsity_lib.study.selection import parse_seeds, select

pytestmark = pytest.mark.slow

# None is tried again in a smaller form, as that could take hours.
cases = settings(
    max_examples=300,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def refused(made: Callable[[], Any], error: type[Exception] = StudyError) -> bool:
    """Whether something is refused, in one line."""
    try:
        made()
    except error as refusal:
        line = str(refusal)
    else:
        return False
    assert len(line.splitlines()) == 1
    return True


TEXT = st.one_of(
    st.text(max_size=20), st.sampled_from(["<script>", "\n", "a\x1b[2J", "../x", "conv1", "null"])
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from([*study.Experiment.model_fields, "unknown", ""])


@given(fields=st.dictionaries(FIELDS, JSON, max_size=4))
@cases
def test_random_experiments_are_taken_or_refused(fields: dict[str, Any]) -> None:
    if not refused(lambda: study.Experiment(**fields)):
        made = study.Experiment(**fields)
        assert study.Experiment(**made.model_dump()) == made
        assert re.fullmatch(r"[A-Za-z0-9_.-]+", made.id)
        assert Path(made.id).name == made.id


@given(text=st.one_of(st.text(max_size=30), st.tuples(FIELDS, JSON.map(json.dumps)).map("=".join)))
@cases
def test_random_fields_are_taken_or_refused(text: str) -> None:
    refused(lambda: study.Experiment(**dict([_field(text)])))


SEEDS = st.one_of(
    st.from_regex(r"[0-9]{1,12}([-,][0-9]{0,12}){0,3}", fullmatch=True),
    st.text("0123456789-, ²", max_size=24),
    JSON,
)


@given(seeds=SEEDS)
@cases
def test_random_seeds_are_taken_or_refused(seeds: Any) -> None:
    refused(lambda: parse_seeds(seeds))


PARAMETERS = ("grid", "dataset", "sizes", "seeds", "label_noise", "optimizer", "epochs", "limit", "device")


@given(
    given=st.dictionaries(
        st.sampled_from(PARAMETERS),
        st.one_of(JSON, st.sampled_from(["s", "m", "digits", "0,1", "0.3", "adam", "networks", 3])),
        max_size=3,
    ),
    networks=st.one_of(TEXT, st.sampled_from(["vanillaNet", "sr2Net,normNet"])),
)
@cases
def test_random_selections_are_taken_or_refused(given: dict[str, Any], networks: str) -> None:
    refused(lambda: select("laptop", networks, **given))
