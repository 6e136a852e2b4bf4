"""TensorBoard reads back the values that a SummaryWriter was given."""

import contextlib
import io
import math
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image
from small_network import Conv1D, Network, SmallNetwork
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

import sparsity_lib as sl
from sparsity_lib import study
from sparsity_lib._viridis import VIRIDIS
from sparsity_lib.study.__main__ import main
from sparsity_lib.study.errors import Stopped
from sparsity_lib.study.tensorboard import Board, export
from sparsity_lib.tensorboard import SCALARS, map_sheet

SMALL = {"dataset": "digits", "limit": 100, "lr": 0.1, "epochs": 3}
EVERYTHING = {"scalars": 0, "images": 0, "histograms": 0}  # nothing of them is left out when read


def read(folder: Path) -> EventAccumulator:
    """All events of a folder, as TensorBoard reads them."""
    return EventAccumulator(str(folder), EVERYTHING).Reload()


def pixels(events: EventAccumulator, tag: str, step: int = -1) -> np.ndarray:
    """The picture of a tag, uint8 (height, width, 3); the last of them by default."""
    return np.array(Image.open(io.BytesIO(events.Images(tag)[step].encoded_image_string)))


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., EventAccumulator]:
    """`written(monitor, ...)` is what TensorBoard reads of it, at step 7."""

    def write(monitor: sl.ActivationMonitor, **settings: object) -> EventAccumulator:
        with SummaryWriter(tmp_path) as writer:
            sl.write_to_tensorboard(writer, monitor, 7, **settings)
        return read(tmp_path)

    return write


def watched(model: nn.Module, x: Tensor, **settings: object) -> sl.ActivationMonitor:
    """A monitor that saw the model work on `x`."""
    with torch.no_grad(), sl.ActivationMonitor(model.eval(), **settings) as monitor:
        model(x)
    return monitor


def test_scalars_are_the_monitors(written: Callable[..., EventAccumulator]) -> None:
    monitor = watched(SmallNetwork(), torch.randn(5, 3, 6, 6))
    events = written(monitor)
    for layer, stats in monitor.compute().items():
        for name in SCALARS:
            (event,) = events.Scalars(f"{name}/{layer}")
            assert event.step == 7
            assert event.value == pytest.approx(getattr(stats, name), rel=1e-6)
    assert len(events.Tags()["scalars"]) == len(SCALARS) * len(monitor.layers)
    assert not events.Tags()["images"]  # none were kept


def test_histograms_hold_each_pair_of_filters_once(
    written: Callable[..., EventAccumulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(net: nn.Module, x: Tensor) -> Tensor:
        x = net.dense(net.one(net.norm(net.up(net.conv(x)))).flatten(1).bfloat16())
        return net.gpt_2(x.float())

    monkeypatch.setitem(sys.modules, "transformers.pytorch_utils", Mock(Conv1D=Conv1D))
    layers = {"conv": nn.Conv2d(3, 8, 3), "up": nn.ConvTranspose2d(8, 6, 3, groups=2)}
    layers |= {"norm": nn.LayerNorm((6, 6, 6)), "one": nn.Conv2d(6, 1, 1)}
    layers |= {"dense": nn.Linear(36, 10).bfloat16(), "gpt_2": Conv1D(5, 10)}
    model = Network(forward, **layers)
    events = written(watched(model, torch.randn(4, 3, 6, 6), layers=[*layers]))
    filters = {"conv": 8, "up": 6, "dense": 10, "gpt_2": 5}
    assert set(events.Tags()["histograms"]) == {f"filter_correlation/{layer}" for layer in filters}
    for layer, d in filters.items():
        (event,) = events.Histograms(f"filter_correlation/{layer}")
        counts = np.array(event.histogram_value.bucket)
        assert counts.sum() == event.histogram_value.num == d * (d - 1) / 2
        edges = np.array(event.histogram_value.bucket_limit)
        np.testing.assert_allclose(np.diff(edges), 0.01, atol=1e-9)
    correlation = sl.functional.filter_correlation(model.conv.weight).detach().numpy()
    pairs = correlation[np.tril_indices(8, -1)]
    held = events.Histograms("filter_correlation/conv")[0].histogram_value
    assert held.sum == pytest.approx(pairs.sum(), abs=1e-5)
    assert (held.min, held.max) == pytest.approx((pairs.min(), pairs.max()))


def test_histograms_use_the_given_centring(written: Callable[..., EventAccumulator]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 3))
    with torch.no_grad():
        model[0].weight[1] = model[0].weight[0]
    monitor = watched(model, torch.randn(2, 3, 6, 6))
    (event,) = written(monitor, center="none").Histograms("filter_correlation/0")
    assert event.histogram_value.min == pytest.approx(1.0)
    assert event.histogram_value.num == 1
    recorder = Mock(spec=["add_scalar", "add_image", "add_histogram"])  # any writer with three methods
    sl.write_to_tensorboard(recorder, monitor, 0, center=None)
    assert recorder.add_scalar.called
    assert not recorder.add_histogram.called


def test_maps_are_a_pixel_a_position_on_one_scale(written: Callable[..., EventAccumulator]) -> None:
    """Equal channels give ln D, which is bright; one dominant channel gives 0, which is dark."""
    x = torch.zeros(5, 4, 2, 3)
    x[1, 0] = 1000.0
    x[2, 0, 0, 0] = 1000.0
    model = nn.Sequential(nn.Identity(), nn.Flatten())
    picture = pixels(written(watched(model, x, layers=["0"], maps=5, dim=1)), "entropy_maps/0")
    assert picture.shape == (3 * 3 - 1, 2 * 4 - 1, 3)  # a column of three pairs of 2 x 3, and lines between
    dark, bright, white = VIRIDIS[0], VIRIDIS[255], [255, 255, 255]
    assert (picture[:2, :3] == bright).all()
    assert (picture[:2, 4:] == dark).all()
    assert (picture[3, 0] == dark).all()
    assert (picture[3, 1:3] == bright).all()
    assert (picture[4, :3] == bright).all()
    assert (picture[[2, 5]] == white).all()
    assert (picture[:, 3] == white).all()
    assert (picture[6:, 4:] == white).all()  # there is no sixth map


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((16,), (7, 7)),  # one position each
        ((4, 50), (7, 50)),  # a row each
        ((1, 5, 7), (5, 7)),
        ((4, 8, 8), (17, 17)),
        ((8, 8, 8), (26, 26)),
        ((2, 3, 4, 5), (12, 11)),  # slices of a volume below one another
    ],
)
def test_sheets_are_about_as_wide_as_high(shape: tuple[int, ...], size: tuple[int, int]) -> None:
    maps = np.random.default_rng(0).uniform(0, math.log(9), shape)
    picture = map_sheet("conv", maps, 9)
    assert picture.shape == (*size, 3)
    coloured = (picture != 255).any(2)
    assert coloured.sum() == maps.size  # viridis has no white
    first = VIRIDIS[np.rint(maps.flat[0] * 255 / math.log(9)).astype(int)]
    assert (picture[0, 0] == first).all()


def test_colours_are_those_of_the_book() -> None:
    np.testing.assert_array_equal(VIRIDIS, colormaps["viridis"](np.arange(256), bytes=True)[:, :3])


def test_positions_that_a_mask_leaves_out_are_grey(written: Callable[..., EventAccumulator]) -> None:
    x, mask = torch.randn(1, 4, 3, 5), torch.arange(15).view(1, 3, 5) % 4 > 0
    masked = watched(nn.Sequential(nn.Identity()), x, layers=["0"], maps=1, dim=1, mask=lambda x: mask)
    whole = watched(nn.Sequential(nn.Identity()), x, layers=["0"], maps=1, dim=1)
    expected = map_sheet("0", whole.compute()["0"].maps, 4)
    expected[~mask[0].numpy()] = 128
    np.testing.assert_array_equal(pixels(written(masked), "entropy_maps/0"), expected)


def test_layers_of_one_channel_have_a_dark_map(
    written: Callable[..., EventAccumulator],
) -> None:
    events = written(watched(nn.Sequential(nn.Conv2d(3, 1, 3)), torch.randn(1, 3, 6, 6), maps=1))
    assert "entropy/0" in events.Tags()["scalars"]
    assert "perplexity_sparsity/0" not in events.Tags()["scalars"]
    assert (pixels(events, "entropy_maps/0") == VIRIDIS[0]).all()


def test_bad_monitors_are_refused_before_writing() -> None:
    writer = Mock(spec=["add_scalar", "add_image", "add_histogram"])
    x = torch.randn(2, 3, 6, 6)
    monitor, idle = watched(SmallNetwork(), x), sl.ActivationMonitor(SmallNetwork())
    broken = SmallNetwork()
    nn.init.constant_(broken.conv1.weight, math.nan)
    diverged = watched(broken, x, layers=["conv1"], maps=1)
    for error, named, to, monitored, center in (
        (TypeError, "add_scalar, .* str ", "x", monitor, None),
        (TypeError, "ActivationMonitor, .* dict", writer, monitor.compute(), None),
        (ValueError, "'nothing'.* filters", writer, monitor, "nothing"),
        (RuntimeError, "conv1", writer, idle, None),
        (ValueError, "'conv1' .*weights", writer, diverged, "filters"),
        (ValueError, "'conv1' .*entropies", writer, diverged, None),
    ):
        with pytest.raises(error, match=named):
            sl.write_to_tensorboard(to, monitored, 0, center=center)
    assert not writer.method_calls


def board_of(run: study.Run, folder: Path) -> EventAccumulator:
    assert [path.name for path in folder.iterdir()] == [run.id]
    return read(folder / run.id)


def assert_shows(events: EventAccumulator, run: study.Run, epochs: list[int]) -> None:
    """That what was read is the run's, at those epochs, with maps at all of them."""
    expected = {"loss/validation": run.root["val_loss"], "accuracy/validation": run.root["val_accuracy"]}
    for layer in run.layers:
        kept = run.layer(layer)
        expected |= {
            f"{name}/{layer}": kept[name].sel(split="monitor", drop=True) for name in SCALARS if name in kept
        }
    for tag, values in expected.items():
        shown = events.Scalars(tag)
        assert [event.step for event in shown] == epochs
        np.testing.assert_allclose([event.value for event in shown], values.sel(epoch=epochs), rtol=1e-6)
    trained = [epoch for epoch in epochs if epoch >= 0]
    assert [event.step for event in events.Scalars("loss/train")] == trained
    for layer in run.layers:
        kept = run.layer(layer)
        assert [event.step for event in events.Images(f"entropy_maps/{layer}")] == epochs
        maps = kept["heatmap"].sel(saved_epoch=epochs[-1]).to_numpy()
        expected_picture = map_sheet(layer, maps, kept.attrs["channels"]).astype(int)
        off = np.abs(pixels(events, f"entropy_maps/{layer}") - expected_picture)
        assert off.max() <= 3  # a run's file keeps bytes: rounding may choose the next colour
        if "correlation_histogram" in kept:
            d = kept.attrs["channels"]
            shown = events.Histograms(f"filter_correlation/{layer}")
            assert [event.step for event in shown] == epochs
            assert all(sum(event.histogram_value.bucket) == d * (d - 1) / 2 for event in shown)
        else:
            assert f"filter_correlation/{layer}" not in events.Tags()["histograms"]
    images = run.root["images"].to_numpy()
    shown = pixels(events, "images")
    np.testing.assert_array_equal(shown[:8, :8], np.broadcast_to(images[0], (8, 8, 3)))
    np.testing.assert_array_equal(shown[-8:, -8:], np.broadcast_to(images[15], (8, 8, 3)))


def train(tmp_path: Path, *arguments: str) -> int:
    fields = [f"{name}={value}" for name, value in SMALL.items()]
    return main(["train", *fields, *arguments, "--out", str(tmp_path / "runs")])


@pytest.mark.parametrize("network", ["normNet", "sr3Net"])
def test_boards_of_a_training_and_of_its_file_agree(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boards = tmp_path / "boards"
    assert train(tmp_path, f"network={network}", "--tensorboard", str(boards)) == 0
    run = study.load(capsys.readouterr().out.splitlines()[-1])
    watched_live = board_of(run, boards)
    assert_shows(watched_live, run, [-1, 0, 1, 2])
    penalties = {"penalty/sparsity", "penalty/decorrelation"} if network == "sr3Net" else set()
    assert {tag for tag in watched_live.Tags()["scalars"] if tag.startswith("penalty/")} == penalties

    assert main(["tensorboard", str(run.path), "--to", str(tmp_path / "again")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "again" / run.id)
    exported = board_of(run, tmp_path / "again")
    assert_shows(exported, run, [-1, 0, 1, 2])
    assert exported.Tags() == watched_live.Tags()


def test_boards_leave_training_unchanged_and_show_finished_runs(tmp_path: Path) -> None:
    assert train(tmp_path / "plain") == 0
    for board in ("a", "b"):  # which finds the run
        assert train(tmp_path, "--tensorboard", str(tmp_path / board)) == 0
    runs = [study.load(path) for path in sorted(tmp_path.rglob("*.nc"))]
    assert runs[0].root["val_loss"].equals(runs[1].root["val_loss"])
    assert board_of(runs[0], tmp_path / "b").Tags() == board_of(runs[0], tmp_path / "a").Tags()


def test_a_resumed_training_is_shown_whole(tmp_path: Path) -> None:
    experiment = study.Experiment(**SMALL)
    asked = iter([False, False, True])
    for stop in (lambda: next(asked), None):
        board = Board.of_training(experiment, tmp_path / "boards")
        with contextlib.closing(board), contextlib.suppress(Stopped):
            run = study.train(experiment, board, tmp_path / "runs", stop=stop)
    assert_shows(board_of(run, tmp_path / "boards"), run, [-1, 0, 1, 2])


def test_an_epoch_written_again_replaces_those_from_there_on(tiny_run: study.Run, tmp_path: Path) -> None:
    for _ in range(2):
        export(tiny_run, tmp_path)
    steps = [event.step for event in board_of(tiny_run, tmp_path).Scalars("loss/validation")]
    assert steps == tiny_run.root["epoch"].to_numpy().tolist()


def test_failing_exports_are_refused_in_one_line(
    tiny_run: study.Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("")
    command = ["tensorboard", str(tiny_run.path), "--to"]
    assert main([*command, str(tmp_path / "file")]) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err
    assert main(["tensorboard", str(tmp_path / "no.nc"), "--to", str(tmp_path / "x")]) == 2
    assert "no.nc" in capsys.readouterr().err
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard")
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # as where it is not installed
    assert main([*command, str(tmp_path / "x")]) == 2
    assert "pip install 'sparsity-lib[study]'" in capsys.readouterr().err
