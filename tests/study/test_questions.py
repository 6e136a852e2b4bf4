"""A sceptic's questions are answered by what was put in, and what runs lack is said in one line."""

import ast
import json
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from IPython.display import HTML
from matplotlib.figure import Figure
from synthetic import LAYERS, curve, many, one, valley

from sparsity_lib import study
from sparsity_lib.study import StudyError, answers, data, figures, profiles
from sparsity_lib.study.analysis import gap, questions
from sparsity_lib.study.analysis.summary import only
from sparsity_lib.study.runs import results
from sparsity_lib.study.runs.layout import CENTERS, KNOCKED_OUT

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks/13-questions.ipynb"
EPOCHS = np.arange(-1, 41)


def fitted(label: str, seed: int, speed: float, offset: float = 0.0) -> xr.Dataset:
    """A run whose validation loss depends on its training loss alone, however fast that falls."""
    training = 2 - speed * EPOCHS
    return one(label, seed, monitor_loss=2 * training, val_loss=3 - training + offset)  # train: half of it


FITTED = many(
    [
        fitted(label, seed, speed, offset + 0.01 * seed)
        for label, speed, offset in (
            ("vanillaNet", 0.04, 0),
            ("dropNet", 0.02, 0),
            ("sr2Net ×16", 0.04, -0.5),
        )
        for seed in (0, 1, 2)
    ]
)


def complete(label: str, seed: int, likeness: float = 1.0, **given: object) -> xr.Dataset:
    """A run with ranks, knock-outs, and filters that are random at first, then `likeness` times as alike."""
    run = one(label, seed, **given)
    sizes = questions.layer_sizes(study.Experiment())
    correlation = np.full((1, len(LAYERS), len(CENTERS), len(EPOCHS)), np.nan)
    for i, layer in enumerate(LAYERS):
        if layer in sizes.index:
            start = questions.random_correlation(*sizes.loc[layer, ["channels", "fan_in"]])
            correlation[0, i] = np.linspace(start, likeness * start, len(EPOCHS))
    kept = np.where(label == "vanillaNet", 0.8 - 0.8 * np.array(KNOCKED_OUT) / 0.9, 0.8)
    rank = np.full((1, len(LAYERS), 2, len(EPOCHS)), 8.0 + seed / 10)
    return run.assign(
        correlation=(("run", "layer", "center", "epoch"), correlation),
        knockout_accuracy=(("run", "layer", "knocked_out"), np.tile(kept, (1, len(LAYERS), 1))),
        effective_rank=(("run", "layer", "split", "epoch"), rank),
    ).assign_coords(center=list(CENTERS), knocked_out=list(KNOCKED_OUT))


COMPLETE = many(
    [
        complete(label, seed, likeness + 0.01 * seed)
        for label, likeness in (("vanillaNet", 1.0), ("sr2Net ×16", 3.0))
        for seed in (0, 1, 2)
    ]
)


def overfitted(driver: str, seed: int, label: str = "vanillaNet") -> xr.Dataset:
    """A run whose loss rises the more the larger its gap, or the lower its level; the other is a shuffle."""
    shuffled = float(np.random.default_rng(seed).random())
    strong, other = seed / 12, shuffled
    wide, deep = (strong, other) if driver == "gap" else (other, strong)
    run = one(label, seed, val_loss=valley(20, slope=0.02 + 0.05 * strong), entropy=(3.0, 2.0 - deep))
    apart = xr.DataArray([0.0, -0.1 * wide], {"split": ["monitor", "train"]}, "split")
    return run.assign(entropy=run["entropy"] + apart)


# Which runs


def test_what_is_not_published_is_one_line():
    with pytest.raises(StudyError, match="profile paper has no published runs of the grid 'adam' yet"):
        questions.of_grid(None, "paper", "adam")
    with pytest.raises(StudyError, match="no published runs of the grid 'networks'"):
        questions.of_grid(one(), "laptop")
    with pytest.raises(StudyError, match="none of these runs has the quantity 'correlation'"):
        questions.having(one(), "correlation")
    with pytest.raises(StudyError, match="has the quantity 'knockout_accuracy' yet"):
        questions.first_with(one(), "laptop", "knockout_accuracy")


def test_runs_that_lack_a_quantity_are_left_out():
    mixed = many([COMPLETE, one("dropNet", 0)])
    assert set(questions.having(mixed, "knockout_accuracy")["label"].to_numpy()) == {
        "vanillaNet",
        "sr2Net ×16",
    }


def as_published(
    profile: str, grid: str, seeds: list[int], make: Callable[..., xr.Dataset]
) -> list[xr.Dataset]:
    """Made-up runs under the names of a grid's experiments."""
    return [
        make(e).assign_coords(run=[e.id])
        for e in profiles.experiments(profile, seeds, [grid], published=True)
        if e.label_noise
    ]


def test_runs_of_a_grid_are_found_by_their_names():
    there = as_published("laptop", "networks", [100], lambda e: one(e.network, e.seed, label_noise=0.3))
    longer = as_published("laptop", "200-epochs", [100], lambda e: complete(e.network, e.seed))
    curves = many([*there, *longer])
    assert questions.of_grid(curves, "laptop").sizes["run"] == len(there)
    _, found = questions.first_with(curves, "laptop", "knockout_accuracy")
    assert set(found["run"].to_numpy()) == {run["run"].item() for run in longer}


# 1 and 2


def test_entropies_that_move_by_scale_alone():
    table = questions.growth(many([one(seed=s) for s in range(3)])).set_index(["layer", "quantity"])
    assert table.loc["conv3", "entropy"]["mean"] == pytest.approx(-1)
    assert table.loc["conv3", "scale_free_entropy"]["mean"] == 0
    assert table.loc["fc1", "apart"]["low"] == pytest.approx(1)
    assert np.exp(table.loc["fc1", "log_sd"]["mean"]) == pytest.approx(3)
    (sentence,) = answers.scale(many([one(seed=s) for s in range(3)]))
    assert "The scale-free entropy does not clearly move in conv3 and fc1; n = 3" in sentence


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (-0.4, "moves clearly less far in conv3 and fc1 (of what moves the same way, at most 40 % as far)"),
        (0.4, "moves the other way (clearly less far) in conv3 and fc1; n"),
        (-1.6, "moves clearly further in conv3 and fc1; n"),
        (1.6, "moves the other way (clearly further) in conv3 and fc1; n"),
        (-1.0, "does not move clearly less far in conv3 and fc1; n"),
    ],
)
def test_the_scale_free_entropy_keeps_its_sign(change, told):
    ends = [(2.0, 2 + change + 0.01 * s) for s in (-1, 0, 1)]
    runs = many([one(seed=s, scale_free_entropy=end) for s, end in enumerate(ends)])
    (sentence,) = answers.scale(runs)
    assert f"The scale-free entropy {told}" in sentence


def test_validation_loss_at_a_training_loss():
    at = questions.at_training_loss(FITTED.isel(run=[0, 3]), [5.0, 1.5, 1.3, 0.9])
    np.testing.assert_allclose(at[:, 1:3], [[1.5, 1.7], [1.5, 1.7]], atol=1e-3)  # however fast
    assert np.isnan(at[:, 0]).all()  # both start below
    assert at[0, 3] == pytest.approx(2.1, abs=1e-3)
    assert np.isnan(at[1, 3])  # never so low


def test_slower_fitting_is_not_less_overfitting():
    slower = questions.matched(FITTED, "dropNet", "vanillaNet")
    np.testing.assert_allclose(slower.to_numpy()[np.isfinite(slower)], 0, atol=5e-3)
    pairs = questions.at_lowest_common(questions.matched(FITTED, "sr2Net ×16", "vanillaNet"))
    np.testing.assert_allclose(pairs["difference"], -0.5, atol=5e-3)
    assert (pairs["level"] < 0.5).all()
    sentence = answers.overfitting(questions.overfitting(FITTED))[0]
    assert "sr2Net ×16 against vanillaNet: lower, −0.5" in sentence
    table = figures.overfitting_table(questions.overfitting(FITTED))
    assert table.loc[("digits, s", "vanillaNet")].tolist()[1:] == ["", ""]


def test_one_pair_has_no_interval():
    table = figures.overfitting_table(questions.overfitting(only(FITTED, seed=0)))
    told = table.loc[("digits, s", "sr2Net ×16"), "less vanillaNet's at the same training loss"]
    assert told.startswith("−0.5")
    assert told.endswith(", one run")


@pytest.mark.parametrize("label", ["vanillaNet", "dropNet"])
def test_networks_without_a_pair_have_counts_alone(label):
    table = questions.overfitting(only(FITTED, label=label))
    assert figures.overfitting_table(table).loc[("digits, s", label)].tolist() == ["3 of 3", "", ""]
    with pytest.raises(StudyError, match="no setting has both sr2Net and vanillaNet"):
        answers.overfitting(table)


def test_networks_without_a_common_seed_cannot_be_matched():
    with pytest.raises(StudyError, match="no seed has both 'dropNet' and 'vanillaNet'"):
        questions.matched(many([one("vanillaNet", 0), one("dropNet", 1)]), "dropNet", "vanillaNet")


# 3


def test_strengths_are_those_of_the_paper():
    table = questions.strengths()
    rounded = table.round(3)[["conv1", "conv2", "conv3", "conv4", "fc1"]]
    assert rounded.loc[("digits", "s")].tolist() == [0.177, 0.177, 0.055, 0.055, 0.004]
    assert rounded.loc[("cifar100", "xxl")].tolist() == [5.678, 5.678, 1.597, 1.597, 0.007]
    assert rounded.loc[("tiny-imagenet", "xxl")].tolist() == [22.713, 22.713, 6.388, 6.388, 0.007]
    assert "128 times as much" in answers.strengths(table)[0]
    assert isinstance(figures.strengths(table), Figure)


def test_layer_sizes():
    sizes = questions.layer_sizes(study.Experiment(dataset="cifar100", size="xxl"))
    assert sizes["fan_in"].tolist()[:2] == [27, 2304]
    assert sizes["positions"].tolist() == [1024, 1024, 256, 256, 1, 1]
    loaded = data.load("digits")
    images = (loaded.train.images.shape[1], loaded.train.images.shape[2], len(loaded.classes))
    assert questions.IMAGES["digits"] == images
    with pytest.raises(StudyError, match="images of 'folder:x' have no known size"):
        questions.layer_sizes(study.Experiment(dataset="folder:x"))


# 5


def spiked(label: str, seed: int, top: float, rest: float) -> xr.Dataset:
    """A run that is accurate in one epoch, which the monitor images do not see."""
    accuracy = np.where(EPOCHS == 10, top, rest) + 0.001 * seed
    return one(label, seed, val_accuracy=accuracy, monitor_accuracy=np.where(EPOCHS == 20, 0.9, 0.5))


def test_optimism_in_points_and_ranks():
    runs = many(
        [spiked(*run) for s in range(3) for run in (("vanillaNet", s, 0.9, 0.5), ("normNet", s, 0.7, 0.7))]
    )
    table = questions.optimism(runs).set_index(["label", "measure"])["mean"]
    assert table["vanillaNet", "chosen_accuracy"] == pytest.approx(40)
    assert table["normNet", "last_five_accuracy"] == pytest.approx(0)
    assert questions.ranks(runs).loc["vanillaNet"].tolist() == [1, 2, 2]
    assert questions.swapped(runs, "chosen_accuracy").to_numpy().tolist() == [["vanillaNet", "normNet", True]]
    chosen, last = answers.optimism(runs)
    assert "1 of 1 pairs of networks change places, 1 of them" in chosen
    assert "not corrected for 1 pair)" in chosen
    assert "by optimism, overfitting, or" in last


# 6


def test_random_directions_and_welch():
    for filters, n in ((256, 27), (256, 2304)):
        assert questions.random_correlation(filters, n) == pytest.approx(np.sqrt(2 / (np.pi * n)), rel=0.03)
    assert questions.welch_bound(256, 27) == pytest.approx(0.18, abs=0.005)
    assert questions.welch_bound(3, 2) == pytest.approx(0.5)  # three directions 120 degrees apart
    assert questions.welch_bound(27, 27) == 0
    assert "0.155 in conv1 (27 weights) and 0.017 in conv2" in answers.random_filters()


def test_filters_are_compared_with_random_ones():
    table = questions.likeness(COMPLETE).set_index(["label", "layer", "moment"])
    assert table.loc[("vanillaNet", "conv3", "end")]["mean"] == pytest.approx(
        1.01 * table.loc[("vanillaNet", "conv3", "start")]["expected"], rel=1e-3
    )
    differences = questions.conv1_against(COMPLETE, "sr2Net ×16")
    np.testing.assert_allclose(differences["factor"], 3.01, rtol=1e-3)
    np.testing.assert_allclose(differences["mean"], 0, atol=1e-3)
    assert "norm1" not in differences["layer"].to_numpy()
    assert "times 3.0, 3.0 and 3.0 at the end" in answers.likeness(COMPLETE)[1]


# 7


def test_capacity():
    area = questions.knockout_area(COMPLETE)
    np.testing.assert_allclose(area.sel(layer="conv3"), [0.5] * 3 + [1] * 3, rtol=1e-6)
    share = questions.rank_share(COMPLETE).sel(layer="conv1")
    np.testing.assert_allclose(share[:3], (8 + np.arange(3) / 10) / 16, rtol=1e-6)
    of_rank, of_knockouts = answers.capacity(COMPLETE)
    assert "not clearly different in conv1" in of_rank
    assert "share of accuracy kept as channels are silenced: higher in conv1 (+0.50)" in of_knockouts


@pytest.mark.parametrize(
    ("measure", "quantity"),
    [
        (questions.likeness, "correlation"),
        (questions.rank_share, "effective_rank"),
        (questions.knockout_area, "knockout_accuracy"),
        (figures.knockouts, "knockout_accuracy"),
    ],
)
def test_what_was_not_measured_is_one_line(measure, quantity):
    with pytest.raises(StudyError, match=f"none of these runs has the quantity '{quantity}'"):
        measure(one())
    measure(many([COMPLETE, one("vanillaNet", 3)]))  # the run that lacks it is left out


# 8


@pytest.mark.parametrize(("driver", "verdict"), [("gap", "Yes"), ("level", "No")])
def test_what_drives_overfitting_is_found(driver, verdict):
    runs = many([overfitted(driver, seed) for seed in range(12)])
    table = gap.told_by(runs, resamples=200).set_index(["layer", "outcome", "scope", "sign"])
    assert abs(table.loc[("conv3", "val_loss_rise", "all", driver)]["rho"]) == pytest.approx(1)
    told = gap.decisive(runs, resamples=200)
    assert (told["low"] > 0) if driver == "gap" else (told["high"] < 0)
    assert told[driver] == pytest.approx(1)
    assert f"**Does the gap say more than the level? {verdict}:**" in answers.gap_or_level(told)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_decided_where_nothing_drives(seed):
    rng = np.random.default_rng(seed)
    drawn = [
        (one("vanillaNet", s, val_loss=valley(20, 0.02 + 0.05 * a), entropy=(3.0, 2 - b)), c)
        for s, (a, b, c) in enumerate(rng.random((8, 3)))
    ]
    splits = {"split": ["monitor", "train"]}
    runs = [r.assign(entropy=r["entropy"] + xr.DataArray([0, -c / 10], splits, "split")) for r, c in drawn]
    assert "Undecided:**" in answers.gap_or_level(gap.decisive(many(runs), resamples=200))


def test_networks_do_not_count_within_networks():
    runs = [overfitted("level", seed, label) for label in ("vanillaNet", "dropNet") for seed in range(5)]
    table = gap.told_by(many(runs), resamples=20).set_index(["layer", "outcome", "scope", "sign"])
    assert table.loc[("fc1", "val_loss_rise", "within", "level")]["rho"] == pytest.approx(-1)


def test_all_runs_of_a_few_networks_have_no_interval():
    table = gap.told_by(many([overfitted("level", seed) for seed in range(5)]), resamples=20)
    known = table.set_index("scope")[["low", "high"]].notna()
    assert known.loc["within"].all(axis=None)
    assert not known.loc["all"].any(axis=None)


@pytest.mark.parametrize("compare", [gap.told_by, gap.decisive])
def test_few_seeds_have_no_rank_correlations(compare):
    runs = [one("vanillaNet", s) for s in range(5)] + [one("dropNet", s) for s in range(4)]
    with pytest.raises(StudyError, match="seeds with runs of all networks: 4; ranks need at least 5"):
        compare(many(runs))


def test_departures_are_causal():
    values = xr.DataArray(np.zeros((4, 42)), {"epoch": EPOCHS}, ("run", "epoch"))
    values[0, 11:] = -0.3  # from epoch 10 on
    values[1, 11:] = 0.3
    values[2, 11] = -0.3  # a single epoch
    values[3, 11:] = -0.1
    np.testing.assert_equal(gap.departure(values, 0.2).to_numpy(), [11, 11, np.nan, np.nan])


def test_timing_is_against_the_moment_of_overfitting():
    entropy = curve(3.0, 3.0, 1.0, at=10)  # leaves the margin soon after epoch 10; the loss rises from 20 on
    runs = many([one("vanillaNet", s) for s in range(3)])
    runs["entropy"] = runs["entropy"].where(False, xr.DataArray(entropy, dims="epoch"))
    table = gap.timing(runs).set_index(["layer", "margin", "sign"])
    level = table.loc[("conv3", 0.05, "level")]
    assert (level["runs"], level["before"]) == (3, 3)
    assert table.loc[("conv3", 0.05, "gap")]["departs"] == 0
    of_gap, of_level, *_ = answers.timing(gap.timing(runs))
    assert "before the moment of overfitting in none of 3 runs" in of_gap
    assert "before the moment of overfitting in 3, 3 and 3 of 3 runs, at all in 3, 3 and 3 of 3." in of_level
    shown = figures.timing_table(gap.timing(runs)).loc[("5 % of ln D", "level", "conv3")]
    assert shown[["before the moment", "at all"]].tolist() == ["3 of 3", "3 of 3"]
    with pytest.raises(StudyError, match="none of these runs has a moment of overfitting"):
        gap.timing(one(val_loss=curve(3.0, 2.0, 1.0, at=20)))


def test_false_departures_and_chance_are_told():
    """Departures that follow each network's onsets exactly; one run departs and does not overfit."""
    onsets = {"vanillaNet": (12, 16, 20), "dropNet": (22, 26, 30)}
    runs = []
    for label, epochs in onsets.items():
        for seed, at in enumerate(epochs):
            entropy = np.where(at - 4 > EPOCHS, 3.0, 2.0)
            runs.append(one(label, seed, val_loss=valley(at)))
            runs[-1]["entropy"] = runs[-1]["entropy"].where(False, xr.DataArray(entropy, dims="epoch"))
    falling = one("vanillaNet", 3, val_loss=curve(3.0, 2.0, 1.0, at=20))
    falling["entropy"] = runs[0]["entropy"].isel(run=0, drop=True)
    table = gap.timing(many([*runs, falling])).set_index(["margin", "sign", "layer"])
    level = table.loc[(0.05, "level", "fc1")]
    assert (level["runs"], level["others"], level["before"], level["false"]) == (6, 1, 6, 1)
    assert level["sd"] == pytest.approx(0, abs=1e-6)
    assert level["sd_constant"] == pytest.approx(4)
    assert level["sd_others"] > 4
    assert np.isnan(table.loc[(0.05, "gap", "fc1")]["sd"])
    of_level = answers.timing(table.reset_index())[1]
    assert "of the runs that do not overfit in 1, 1 and 1 of 1. The SD of its lead is 0.0" in of_level


# Figures and the page


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.growth(FITTED),
        lambda: figures.matched_losses(FITTED),
        lambda: figures.optimism(many([FITTED, one("vanillaNet", label_noise=0.3)])),
        lambda: figures.likeness(COMPLETE),
        lambda: figures.effective_ranks(COMPLETE),
        lambda: figures.knockouts(COMPLETE),
        lambda: figures.gap_curves(FITTED),
        lambda: figures.gap_or_level(gap.told_by(many([one(seed=s) for s in range(5)]), resamples=20)),
        lambda: figures.growth(one()),  # a single run has no interval
    ],
)
def test_every_figure_can_be_drawn_and_leaves_nothing_behind(draw, tmp_path):
    figure = draw()
    assert isinstance(figure, Figure)
    figure.savefig(tmp_path / "figure.png", dpi=40)
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    "draw",
    [figures.growth, figures.matched_losses, figures.optimism, questions.overfitting, answers.scale],
)
def test_nothing_to_answer_from_is_an_error(draw):
    with pytest.raises(StudyError):
        draw(one().isel(run=slice(0, 0)))
    assert plt.get_fignums() == []


def page(profile: str) -> list[object]:
    """What the notebook's code cells show, executed here."""
    namespace: dict[str, object] = {}
    shown = []
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        if cell["cell_type"] != "code":
            continue
        body = ast.parse("".join(cell["source"])).body
        last = ast.Expression(body.pop().value) if isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), NOTEBOOK.name, "exec"), namespace)
        if last:
            shown.append(eval(compile(last, NOTEBOOK.name, "eval"), namespace))
        if "parameters" in cell["metadata"].get("tags", []):
            namespace["profile"] = profile
    return shown


@pytest.mark.parametrize("profile", list(profiles.PROFILES))
def test_the_page_executes_without_published_runs(profile, monkeypatch):
    monkeypatch.setattr(study, "published", lambda name: None)
    texts = [each.data for each in page(profile) if hasattr(each, "data")]
    assert f"*Not shown: the profile {profile} has no published runs of the grid 'networks' yet.*" in texts
    lacking = [text for text in texts if text.startswith("*Not shown")]
    assert all("\n" not in text for text in lacking)


def test_the_page_executes_with_older_runs(monkeypatch):
    older = as_published(
        "laptop",
        "networks",
        [*range(100, 105)],
        lambda e: one(results.label(e), e.seed, label_noise=0.3),
    )
    published = many(older).assign_coords(numerics=("run", ["core 0"] * len(older)))
    monkeypatch.setattr(study, "published", lambda name: published)
    shown = page("laptop")
    assert sum(isinstance(each, Figure) for each in shown) >= 7
    assert sum(isinstance(each, HTML | pd.DataFrame) for each in shown) == 3
    texts = [each.data for each in shown if hasattr(each, "data")]
    assert "*Not shown: no published run of the profile laptop has the quantity 'correlation' yet.*" in texts
    assert only(many(older), label="vanillaNet").sizes["run"] == 5
