"""Experiments that a notebook's parameters select, as papermill and people write them."""

import pytest
from refusals import refused

from sparsity_lib.study.profiles import profile, with_grid
from sparsity_lib.study.selection import parse_seeds, select


def test_empty_parameters_select_the_profiles_cells():
    chosen = select("laptop", "vanillaNet,normNet")
    assert {e.network for e in chosen} == {"vanillaNet", "normNet"}
    assert {e.seed for e in chosen} == {0}
    assert {e.label_noise for e in chosen} == {0.0, 0.3}
    assert {e.lr for e in chosen} == {0.1}
    assert len(chosen) == 4


@pytest.mark.parametrize(
    ("value", "seeds"),
    [("0,1,2", [0, 1, 2]), (3, [3]), ("100-102, 7", [100, 101, 102, 7]), ([4, 5], [4, 5]), ("", [])],
)
def test_seeds_are_parsed(value, seeds):
    assert parse_seeds(value) == seeds


def test_values_of_the_profile_narrow_it_and_others_replace():
    narrowed = select("desktop", "vanillaNet", dataset="cifar10-jpeg", sizes="s", seeds=0)
    assert [(e.network, e.dataset, e.size, e.limit, e.seed) for e in narrowed] == [
        ("vanillaNet", "cifar10-jpeg", "s", 10_000, 0)
    ]
    replaced = select(
        "desktop", "vanillaNet", dataset="folder:/data/birds", sizes="s", seeds="0", epochs=3, limit=20
    )
    assert [(e.dataset, e.epochs, e.limit) for e in replaced] == [("folder:/data/birds", 3, 20)]
    assert {e.label_noise for e in select("laptop", "normNet", label_noise=0.3)} == {0.3}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"networks": "sr9Net"}, ["sr9Net", "vanillaNet"]),
        ({"sizes": "s,q"}, ["'q'", "vanillaNet", "s, m, xxl"]),
        ({"dataset": "mnist"}, ["mnist", "digits"]),
        ({"seeds": "0;1"}, ["seeds = '0;1'"]),
        ({"seeds": 0.5}, ["seeds = 0.5"]),
        ({"label_noise": "much"}, ["label_noise = 'much'"]),
        ({"epochs": "ten"}, ["epochs = 'ten'"]),
        ({"epochs": -1}, ["epochs = -1"]),
        ({"epochs": True}, ["epochs = True"]),
        ({"profile": "phone"}, ["phone", "laptop"]),
    ],
)
def test_bad_values_are_refused_in_one_line(fields, named):
    with refused(*named):
        select(**{"profile": "laptop"} | fields)


def test_a_profile_without_a_grid_shows_the_laptops():
    assert with_grid("adam", "paper") == "paper"
    assert with_grid("adam", "desktop") == "laptop"
    others = {*profile("desktop").grids, *profile("paper").grids}
    assert others - {*profile("laptop").grids} == {"architectures"}  # which would take hours
    with refused("phone"):
        with_grid("adam", "phone")


def test_a_delay_stays_the_same_share_of_the_epochs():
    for epochs, expected in ((100, {0, 20}), (50, {0, 10}), (3, {0})):
        chosen = select("laptop", grid="coherent", seeds="0", epochs=epochs)
        assert {experiment.delay for experiment in chosen} == expected
        assert {experiment.epochs for experiment in chosen} == {epochs}


@pytest.mark.parametrize("seeds", ["0-10000", "0-999999999", "9" * 5000, f"0-{'9' * 12}"])
def test_seeds_without_end_are_refused(seeds: str) -> None:
    with refused("seeds"):
        parse_seeds(seeds)


def test_zero_empty_and_none_select_the_profiles_values() -> None:
    own = [experiment.id for experiment in select("laptop")]
    nothing = {"epochs": 0, "limit": 0, "image_size": 0, "dataset": "", "sizes": "", "label_noise": ""}
    assert [experiment.id for experiment in select("laptop", **nothing)] == own
    assert [experiment.id for experiment in select("laptop", **dict.fromkeys(nothing))] == own
