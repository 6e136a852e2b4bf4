"""Figures and tables show what was put in, and refuse what is not there."""

import io

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from refusals import refused
from synthetic import curve, many, one, valley

from sparsity_lib.functional import rfav_entropy
from sparsity_lib.study import StudyError, analysis, figures
from sparsity_lib.study.cells import STUDY_NETWORKS
from sparsity_lib.study.figures.style import COLORS, line_style
from sparsity_lib.study.recipes import NETWORKS

SEEDS = [
    one(label, seed, val_loss=valley(20) + 0.1 * seed, entropy=(3.0, 1.0 + seed))
    for label in ("vanillaNet", "normNet", "sr2Net ×16")
    for seed in (0, 1, 2)
]
NOISY = [one(label, seed, label_noise=0.3) for label in ("vanillaNet", "normNet") for seed in (0, 1)]


def lines_of(axes, label):
    color = line_style(label)["color"]
    return [line for line in axes.lines if line.get_color() == color and len(line.get_xdata()) > 2]


@pytest.mark.parametrize(
    "draw",
    [
        figures.loss_curves,
        figures.entropy_curves,
        figures.validation_against_training,
        figures.accuracies,
        figures.accuracy_table,
        figures.entropy_table,
    ],
)
def test_figures_without_runs_are_errors_and_leave_no_figure(draw):
    with pytest.raises(StudyError):
        draw(one().isel(run=slice(0, 0)))
    assert plt.get_fignums() == []


def test_networks_have_distinct_colours():
    assert set(COLORS) == set(NETWORKS)
    assert len(set(COLORS.values())) == len(NETWORKS)
    seven = [str(line_style(network)["linestyle"]) for network in STUDY_NETWORKS]
    assert len({*seven, str(line_style("sr2Net ×16")["linestyle"])}) == len(STUDY_NETWORKS) + 1
    assert line_style("sr2Net ×16")["color"] == line_style("sr2Net")["color"]
    assert line_style("package:factory")["color"] not in COLORS.values()


def test_entropy_curves_have_a_panel_per_layer_and_one_scale():
    grid = np.array(figures.entropy_curves(many(SEEDS)).axes).reshape(3, 3)
    assert [axes.get_title() for axes in grid[0]] == ["conv1", "conv3", "fc1"]
    assert grid[0, 0].get_ylim() == grid[1, 2].get_ylim()
    entropy, _, sd = grid[:, 1]
    assert lines_of(entropy, "vanillaNet")[0].get_xdata()[0] == -1
    assert len(lines_of(entropy, "normNet")) == 2  # conv3, and norm1 after it
    assert not [line for line in sd.lines if line.get_linestyle() == ":"]


def test_relative_entropy_curves_are_shares_of_ln_d():
    absolute, relative = (
        np.array(figures.entropy_curves(many(SEEDS), relative=share).axes).reshape(3, 3)
        for share in (False, True)
    )
    for row, whole in ((0, np.log(16)), (1, np.log(16)), (2, 1)):  # conv1: entropies, and the SD
        lines = [lines_of(grid[row, 0], "vanillaNet")[0].get_ydata() for grid in (absolute, relative)]
        np.testing.assert_allclose(lines[0] / whole, lines[1])
    (top,) = (line.get_ydata()[0] for line in relative[0, 2].lines if line.get_linestyle() == ":")
    assert top == 1


def moments_of(figure: Figure) -> list[float]:
    return sorted(
        float(line.get_xdata()[0]) for line in figure.axes[0].lines if len(set(line.get_xdata())) == 1
    )


def test_moments_of_overfitting_are_drawn_where_most_seeds_have_one():
    falling = curve(3.0, 2.0, 1.0, at=20)
    runs = [one("vanillaNet", s, val_loss=valley(15 + s)) for s in (0, 1, 2)]
    runs += [one("normNet", s, val_loss=falling) for s in (0, 1)] + [one("normNet", 2)]
    assert moments_of(figures.entropy_curves(many(runs))) == [16]
    left, _ = figures.entropy_against_noise(many(runs), "conv3").axes
    crosses = [points.get_offsets()[:, 0].tolist() for points in left.collections]
    assert crosses == [[16]]


def test_entropy_curves_refuse_several_settings_and_unknown_layers():
    with refused(2):
        figures.entropy_curves(many(SEEDS + NOISY))
    with refused("conv9", "conv1"):
        figures.entropy_curves(many(SEEDS), layers=["conv9"])


def test_validation_against_training_uses_evaluation_mode():
    (axes,) = figures.validation_against_training(many(SEEDS[:3])).axes
    (line,) = lines_of(axes, "vanillaNet")
    training = many(SEEDS[:3])["monitor_loss"].sel(split="train")
    expected = analysis.smoothed(training.sel(epoch=training["epoch"] >= 0)).mean("run")
    np.testing.assert_allclose(line.get_xdata(), expected)
    assert axes.xaxis_inverted()


def test_accuracies_show_every_seed():
    rng = np.random.default_rng(0)
    runs = many([one("vanillaNet", s, val_accuracy=rng.random(42)) for s in range(4)])
    (axes,) = figures.accuracies(runs).axes
    shown = np.concatenate([points.get_offsets()[:, 0] for points in axes.collections])
    for value in [*analysis.best_accuracy(runs), *analysis.last_five_accuracy(runs)]:
        assert np.isclose(shown, value.item()).any()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["vanillaNet"]


OTHERS = ({"label_noise": 0.3}, {"dataset": "tiny32-100"}, {"lr": 0.1}, {"others": "batch_size=128"})


def test_accuracy_table_has_the_papers_value_only_where_it_is_the_papers():
    usual = {"dataset": "cifar100", "val_loss": valley(20, epochs=100), "val_accuracy": np.full(101, 0.25)}
    runs = [one("sr3Net", s, **usual, others="") for s in (0, 1)]
    runs += [one("varNet", **usual, others=""), one("sr3Net ×16", **usual, others="")]
    runs += [one("sr3Net", **usual | {"others": ""} | other) for other in OTHERS]
    table = figures.accuracy_table(many(runs)).droplevel("source")
    row = table.loc[("cifar100, s, learning rate 0.01", "sr3Net")]
    assert (row["runs", "n"], row["best", "paper"]) == (2, 0.3781)
    assert (row["best", "mean"], row["best", "SD"]) == (0.25, 0)
    assert table["best", "paper"].isna().sum() == 2 + len(OTHERS)
    alone = table.loc[("tiny32-100, s, learning rate 0.01", "sr3Net"), "best"]
    assert alone["mean"] == 0.25
    assert np.isnan(alone["SD"])  # one run: no deviation
    drawn = pd.read_csv(io.StringIO(figures.data.csv(figures.accuracies(many(runs))) or ""))
    diamonds = drawn[drawn["drawn"] == "the paper's value"]
    assert diamonds[["setting", "network", "value"]].to_numpy().tolist() == [[*row.name, 0.3781]]
    short = figures.accuracy_table(one("sr3Net", dataset="cifar100"))
    assert ("best", "paper") not in short  # a column without a value
    assert ("best", "SD") not in short


def test_accuracy_table_has_values_of_table_3_and_of_200_epochs():
    usual = {"dataset": "cifar100", "size": "full", "val_loss": valley(20, epochs=100)}
    usual["val_accuracy"] = np.full(101, 0.25)
    long = usual | {"size": "xxl", "val_loss": valley(20, epochs=200), "val_accuracy": np.full(201, 0.25)}
    runs = [one("AlexNet", **usual), one("srAlexNet", **usual), one("srAlexNet ×16", **usual)]
    table = figures.accuracy_table(many([*runs, one("sr3Net", **long), one("normNet", **long)]))
    found = table["best", "paper"].droplevel(["setting", "source"])
    assert found.dropna().to_dict() == {"AlexNet": 0.3842, "srAlexNet": 0.4682, "sr3Net": 0.5513}
    assert set(found.index[found.isna()]) == {"srAlexNet ×16", "normNet"}


def test_accuracy_table_has_published_runs_next_to_fresh_ones():
    fresh = many([one("vanillaNet", 0), one("normNet", 0), one("vanillaNet", 0, label_noise=0.3)])
    table = figures.accuracy_table(fresh, published=many(SEEDS[:3]))
    assert table["runs", "n"].to_dict() == {
        ("digits, s", "vanillaNet", "these"): 1,
        ("digits, s", "vanillaNet", "published"): 3,
        ("digits, s", "normNet", "these"): 1,  # none was published
        ("digits, s, 30 % of labels redrawn", "vanillaNet", "these"): 1,
    }
    assert table["chosen", "mean"].to_numpy() == pytest.approx(0.6)
    assert table["chosen", "SD"].notna().tolist() == [False, True, False, False]


def run_of(label, seed, *layers):
    """One run with these layers, none of them a norm."""
    return one(label, seed).isel(layer=[0, 1, 3] + [3] * (len(layers) - 3)).assign_coords(layer=list(layers))


def test_figures_and_tables_have_the_layers_of_the_network():
    layers = ("conv1", "conv2", "fc1", "fc2")
    lenet = many([run_of(name, s, *layers) for s in (0, 1) for name in ("LeNet", "srLeNet ×25")])
    assert [axes.get_title() for axes in figures.entropy_curves(lenet).axes[:4]] == list(layers)
    with refused("conv3", "conv1, conv2, fc1"):
        figures.entropy_curves(lenet, layers=["conv3"])
    table = figures.entropy_table(lenet)
    assert table.index.get_level_values("layer").tolist() == ["conv2", "fc1"] * 2
    assert table.notna().all(axis=None)
    own = figures.entropy_table(run_of("package:factory", 0, "stem", "block", "head"))
    assert own.index.get_level_values("layer").tolist() == ["stem", "block", "head"]


def test_runs_of_100_and_of_200_epochs_have_separate_panels():
    long = [one(name, val_loss=valley(20, epochs=200), val_accuracy=np.full(201, 0.5)) for name in NETWORKS]
    short = [one(seed=s, val_loss=valley(20, epochs=100), val_accuracy=np.full(101, 0.5)) for s in (0, 1)]
    both = many([*short, *long])
    figure = figures.loss_curves(both, published=many(short))
    assert [axes.get_title() for axes in figure.axes] == ["digits, s, epochs 100", "digits, s, epochs 200"]
    first, second = figure.axes
    assert len(first.collections) == 1
    assert not second.collections  # nothing was published of 200 epochs
    (line,) = lines_of(first, "vanillaNet")
    assert np.isfinite(line.get_ydata()).sum() == 100
    last = [line.get_xdata()[-1] for line in lines_of(second, "vanillaNet")]
    assert last == [199]


def test_architectures_are_drawn_from_what_is_built(tiny_runs):
    figure = figures.architectures([tiny_runs[0], tiny_runs[2], tiny_runs[4]])
    plain, norm, sr3 = figure.axes
    names = [text.get_text() for text in plain.texts]
    assert names[::2] == ["image", "conv1", "conv2", "pool1", "conv3", "conv4", "pool2", "fc1", "fc2"]
    assert names[1::2][:2] == ["1\n8 × 8", "16\n8 × 8"]
    assert names[-1].strip() == "10"
    assert "norm2" in [text.get_text() for text in norm.texts]
    red = [patch for patch in sr3.patches if patch.get_linewidth() > 2]
    assert len(red) == 4  # conv1 decorrelated; conv3, conv4 and fc1 regularised
    assert not [patch for patch in plain.patches if patch.get_linewidth() > 2]


def test_figures_of_no_runs_are_a_line():
    for draw in (
        figures.architectures,
        figures.correlation_histograms,
        figures.heatmap_strip,
        figures.receptive_field,
    ):
        (ax,) = draw([]).axes
        assert len(ax.texts) == 1


@pytest.mark.parametrize("layer", ["conv1", "conv3"])
def test_receptive_field_has_the_entropy_that_the_run_keeps(tiny_run, layer):
    state = torch.random.get_rng_state()
    figure = figures.receptive_field(tiny_run, layer=layer)
    assert torch.equal(torch.random.get_rng_state(), state)
    maps = tiny_run.layer(layer)["heatmap"].isel(image=0)
    after = maps.isel(saved_epoch=-1)
    kept = float(maps.isel(saved_epoch=0).where(after == after.min()).max())
    (bars,) = [axes.patches for axes in figure.axes if axes.get_xlabel() == "filter"]
    assert len(bars) == tiny_run.layer(layer).attrs["channels"]
    vector = torch.tensor([[bar.get_height() for bar in bars]])
    assert rfav_entropy(vector).item() == pytest.approx(kept, abs=np.log(32) / 255)  # kept as bytes


def test_widths_table_agrees_with_the_paper():
    table = figures.widths_table()
    for size, row in table.iterrows():
        assert (
            ", ".join(str(row[name]) for name in ("conv1", "conv2", "conv3", "conv4", "fc1"))
            == (row["in the paper"])
        ), size
    weights = 27 * 16 + 144 * 16 + 144 * 32 + 288 * 32 + 2048 * 64 + 64 * 100
    assert table.loc["s", "parameters"] == f"{weights + 16 + 16 + 32 + 32 + 64 + 100:,}"


def test_entropy_table_shows_the_epoch_of_the_lowest_loss_and_the_end():
    table = figures.entropy_table(many(SEEDS))
    assert table.index.names == ["setting", "network", "layer"]
    assert len(table) == 3 * 2  # three networks
    assert set(table["runs", "n"]) == {3}
    expected = {"entropy": (3.0, 2.0), "scale-free entropy": (2.5, 2.5), "SD": (1.0, 3.0)}  # ends of 1, 2, 3
    for quantity, both in expected.items():
        np.testing.assert_allclose(table[quantity][["lowest loss", "end"]], [both] * 6, atol=0.05)


def test_difference_table_is_text_without_a_sign_of_nothing():
    runs = many([*SEEDS, *(seed.assign_coords(label_noise=0.3) for seed in SEEDS)])
    pairs, quantities = [("normNet", "vanillaNet")], ["min_val_loss", "entropy_end:conv3"]
    table = figures.difference_table(runs, pairs, quantities)
    assert table.index.names == ["setting", "quantity", "networks"]
    shown = table[["mean", "SD", "95 % interval"]].to_numpy().tolist()
    assert shown == [["0.000", "0.000", "0.000\u00a0to\u00a00.000"]] * 4
    assert figures.difference_table(many(SEEDS), pairs, quantities).index.nlevels == 2


def test_heatmap_strip_draws_and_records_the_runs_maps(tiny_run):
    figure = figures.heatmap_strip(tiny_run)
    axes = figure.axes[0]
    picture, *maps = axes.images
    shown = [-1, 0, 1, 2, 5, 10, 11]
    assert len(maps) == len(shown) * len(tiny_run.layers)
    np.testing.assert_array_equal(picture.get_array(), tiny_run.root["images"].isel(image=0)[..., 0])
    expected = tiny_run.layer("conv1")["heatmap"].sel(saved_epoch=5).isel(image=0)
    np.testing.assert_allclose(maps[shown.index(5)].get_array(), expected)
    scales = [image.get_clim() for image in maps]
    assert len(set(scales[:7])) == len(set(scales[7:14])) == 1  # one scale per layer
    table = pd.read_csv(io.StringIO(figures.data.csv(figure)))
    pixels = table[table["drawn"] == "image"]["value"].to_numpy().reshape(8, 8)
    np.testing.assert_array_equal(pixels, picture.get_array())
    recorded = table[(table["epoch"] == 5) & (table["layer"] == "conv1")]["value"]
    np.testing.assert_allclose(recorded.to_numpy().reshape(8, 8), expected, rtol=1e-5)


def test_correlation_histograms_show_shares_and_the_bounds_of_random_filters(tiny_run):
    figure = figures.correlation_histograms(tiny_run)
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    assert list(panels) == ["conv1", "conv2", "conv3", "conv4", "fc1"]
    shares = panels["conv3"].collections[0].get_array()
    np.testing.assert_allclose(np.nansum(shares, axis=0), 1)  # at every epoch, of all pairs
    heights = {round(float(line.get_ydata()[0]), 4) for line in panels["conv1"].lines}
    n, filters = 9, 16
    random, welch = np.sqrt(2 / (np.pi * n)), np.sqrt((filters - n) / (n * (filters - 1)))
    assert heights == {round(float(s * h), 4) for s in (-1, 1) for h in (random, welch)}
    assert len(panels["conv2"].lines) == 2  # more weights than filters: no Welch bound


def test_correlation_histograms_of_several_runs_are_labelled(tiny_runs):
    figure = figures.correlation_histograms(tiny_runs[1:3], center="components", layers=["conv1"])
    assert [axes.get_title() for axes in figure.axes[:2]] == ["vanillaNet", "normNet"]
    assert figure.axes[0].get_ylabel() == "conv1"
    same = figures.correlation_histograms(tiny_runs[:2], layers=["conv1"])
    assert same.axes[0].get_title() == "vanillaNet, seed 0"


@pytest.mark.parametrize(
    ("draw", "given", "named"),
    [
        (figures.receptive_field, {"layer": "conv9"}, "conv9"),
        (figures.receptive_field, {"layer": "fc1"}, "fc1"),
        (figures.correlation_histograms, {"center": "median"}, "'median'; .* filters"),
        (figures.correlation_histograms, {"layers": ["norm1"]}, "norm1"),
    ],
)
def test_figures_refuse_parts_that_a_run_lacks(tiny_runs, draw, given, named):
    with pytest.raises(StudyError, match=named):
        draw(tiny_runs[2], **given)
    assert plt.get_fignums() == []
