"""Sentences say what the numbers say, whichever way these go."""

import pandas as pd
import pytest
from synthetic import curve, many, one, published_and_fresh, valley, with_accuracy

from sparsity_lib.study import StudyError, sentences
from sparsity_lib.study.analysis import comparison
from sparsity_lib.study.runs import provenance
from sparsity_lib.study.text import number

FALLING = curve(3.0, 2.0, 1.0, at=20)


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        (
            [one(seed=s, val_loss=valley(18 + 2 * s)) for s in range(3)],
            "validation loss is lowest near epoch 20 (n = 3, range 18–22) and 0.8",
        ),
        ([one()], "at the end (one run); validation accuracy"),
        ([one(val_loss=FALLING)], "vanillaNet: validation loss does not get worse for good in the one run"),
        ([one(seed=s, val_loss=FALLING) for s in (0, 1)], "does not get worse for good in any of 2 runs"),
        (
            [one(), one(seed=1, val_loss=FALLING), one(seed=2, val_loss=FALLING)],
            "in 1 of 3 runs, and does not get worse for good in the other 2",
        ),
    ],
)
def test_sentences_on_onsets(runs, said):
    (sentence,) = sentences.onsets(many(runs))
    assert said in sentence


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ([0.60, 0.61, 0.62], [0.5, 0.5, 0.5], "higher, +0.110, 95 % interval +0.0"),
        ([0.40, 0.41, 0.42], [0.5, 0.5, 0.5], "lower, −0.090, 95 % interval −0.1"),
        ([0.40, 0.50, 0.60], [0.5, 0.5, 0.5], "no clear difference, "),
        ([0.50, 0.50], [0.5, 0.5], "no clear difference, 0.000, 95 % interval 0.000 to 0.000, n = 2"),
        ([0.60], [0.5], "normNet against vanillaNet: +0.100, one run"),
        ([0.60, 0.61], [0.5, 0.51, 0.52], "n = 2; 1 incomplete pair left out"),
    ],
)
def test_sentences_on_differences(ours, theirs, said):
    runs = [with_accuracy("normNet", s, a) for s, a in enumerate(ours)]
    runs += [with_accuracy("vanillaNet", s, a) for s, a in enumerate(theirs)]
    (sentence,) = sentences.differences(many(runs), "normNet", "vanillaNet", "best_accuracy")
    assert said in sentence
    with pytest.raises(StudyError, match="no setting has both"):
        sentences.differences(many(runs), "normNet", "sr1Net")


def test_sentences_on_agreement():
    fresh, published = published_and_fresh()
    table = comparison.against_published(fresh, published, ["best_accuracy", "last_five_accuracy"])
    assert sentences.agreement(table) == (
        "2 of 4 fresh values lie inside the published 95 % prediction intervals; "
        "about 0.2 would fall outside by chance."
    )
    alone = comparison.against_published(one("sr1Net"), published, ["best_accuracy"])
    assert "None of the 1 fresh values" in sentences.agreement(alone)
    both = pd.concat([table, alone], ignore_index=True)
    assert sentences.agreement(both).endswith("1 more have no published runs to be held against.")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"),
        (-0.004, "−0.004"),
        (0.126, "0.13"),
        (-1.0, "−1.00"),
        (-3e-5, "−0.00003"),
        (3e-9, "3e−09"),
    ],
)
def test_numbers_never_round_to_nothing(value, text):
    assert number(value) == text


def test_captions_name_the_data_and_the_seeds():
    runs = many([one(seed=s, dataset="cifar10-jpeg") for s in range(3)])
    assert sentences.caption(runs).startswith("cifar10-jpeg, s. Lines: means over 3 seeds; bands: ")
    assert sentences.caption(one()) == "digits, s. Lines: one run each."
    assert "3 published seeds" in sentences.caption(one(dataset="cifar10-jpeg"), runs)
    others = many([one(seed=s, epochs=200) for s in range(5)])
    assert sentences.caption(one(), others) == sentences.caption(one())  # nothing like it was published


def test_runs_of_older_numerics_are_counted():
    now = provenance.numerics(("core",))
    runs = many([one(seed=s, numerics=made_by) for s, made_by in enumerate((now, "core 0", now))])
    assert sentences.provenance(runs).startswith("1 of 3 ")
    assert sentences.provenance(runs.isel(run=[0, 2])).startswith("All 2 ")
