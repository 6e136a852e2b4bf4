"""Published results: rounded, one file a grid, the same bytes each time, and repeatable."""

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused

from sparsity_lib import study
from sparsity_lib.study import profiles, repeatability
from sparsity_lib.study.__main__ import main
from sparsity_lib.study.queue import costs
from sparsity_lib.study.runs import compact, provenance, publication, results
from sparsity_lib.study.runs import file as runs
from sparsity_lib.study.runs.dimensions import KEPT, MOMENTS

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"dataset": "digits", "limit": 100, "lr": 0.1, "epochs": 2}
CELLS = tuple({"network": network, **SMALL} for network in ("vanillaNet", "normNet"))
FIRST = {"networks": profiles.Grid(CELLS, (0,), (100,), with_run_file={"network": "vanillaNet"})}
DEEP = {**CELLS[0], "rho": -1.0}
MORE = FIRST | {
    "adam": profiles.Grid(({**CELLS[0], "optimizer": "adam"}, CELLS[0]), (0,), (100,)),
    "deep": profiles.Grid((DEEP,), (0,), (100,), deep=True),
}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the finished runs of MORE."""
    folder = tmp_path_factory.mktemp("trained")
    for cell in (*CELLS, MORE["adam"].cells[0], DEEP):
        study.train(study.Experiment(**cell, seed=100), folder=folder)
    return folder


def use(monkeypatch: pytest.MonkeyPatch, project: Path, grids: dict[str, profiles.Grid]) -> Path:
    """Make the grids the profile `tiny` of a project; the folder of its published runs."""
    monkeypatch.setattr(publication, "require_committed", lambda *_, **__: None)
    monkeypatch.setattr(results, "PROJECT", project)
    monkeypatch.setitem(profiles.PROFILES, "tiny", profiles.Profile("a few cells", grids))
    return results.folder_of("tiny")


@pytest.fixture(scope="session")
def first_published(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which FIRST is published."""
    project = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as monkeypatch:
        use(monkeypatch, project, FIRST)
        assert publication.publish("tiny", trained) == 2
    return project


Profiled = Callable[[dict[str, profiles.Grid]], Path]


@pytest.fixture
def profiled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Profiled:
    """`profiled(grids)` makes them the profile `tiny`; the folder of its published runs, which is empty."""
    return lambda grids: use(monkeypatch, tmp_path, grids)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, first_published: Path) -> Path:
    """The folder of published runs of the profile `tiny`, in which FIRST is published."""
    shutil.copytree(first_published, tmp_path, dirs_exist_ok=True)
    return use(monkeypatch, tmp_path, FIRST)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@given(
    st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False),
    st.integers(min_value=2, max_value=5),
)
def test_rounding_errs_by_half_a_unit_of_the_last_digit(value: float, digits: int) -> None:
    near = float(compact.rounded(np.array([value], "float32"), digits)[0])
    _, _, exponent = f"{abs(value):.17e}".partition("e")
    assert abs(near - value) <= 0.5 * 10.0 ** (int(exponent) - digits + 1)
    assert np.sign(near) == np.sign(value)


def test_rounding_leaves_what_is_no_number_and_empties_the_last_bits() -> None:
    special = np.array([0, -0.0, np.nan, np.inf, -np.inf, 1], "float32")
    np.testing.assert_array_equal(compact.rounded(special), special)
    values = np.random.default_rng(0).lognormal(sigma=5, size=10_000).astype("float32")
    near = compact.rounded(values)
    assert not (near.view("uint32") & 0b111111).any()
    assert (np.diff(near[np.argsort(values)]) >= 0).all()


def test_grids_are_published_as_separate_files(
    trained: Path, profiled: Profiled, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = content(folder)
    shown = study.Experiment(**CELLS[0], seed=100).id
    assert first.keys() == {"networks.nc", f"{shown}.nc", results.SUMS}
    assert publication.publish("tiny", trained) == 0
    assert content(folder) == first
    profiled(MORE)
    assert publication.publish("tiny", trained) == 2  # a run of two grids is in the first
    second = content(folder)
    assert second.keys() - first.keys() == {"adam.nc", "deep.nc"}
    assert {name for name in first if second[name] != first[name]} == {results.SUMS}
    assert publication.verify("tiny") == []
    together, deep = study.published("tiny"), study.published("tiny", "deep.nc")
    assert (together.sizes["run"], deep.sizes["run"]) == (3, 1)
    assert results.published_ids("tiny") == {*together["run"].values, *deep["run"].values}
    assert deep["coherence"].notnull().any()
    assert together["coherence"].isnull().all()
    assert together["layer"].to_numpy().tolist()[:3] == ["conv1", "conv2", "norm1"]
    shutil.rmtree(folder)
    assert publication.publish("tiny", trained) == 4
    assert content(folder) == second
    assert main(["status", "tiny", "--seeds", "100"]) == 0
    assert "4 runs, 0 missing" in capsys.readouterr().out


def test_runs_published_one_by_one_make_the_same_file(trained: Path, folder: Path, tmp_path: Path) -> None:
    whole = content(folder)
    shutil.rmtree(folder)
    for cell in reversed(CELLS):
        (tmp_path / "part").mkdir(exist_ok=True)
        shutil.copy(runs.path_of(study.Experiment(**cell, seed=100), trained), tmp_path / "part")
        assert publication.publish("tiny", tmp_path / "part") == 1
    assert content(folder) == whole


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_repeated_runs_replace_those_of_other_code_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = study.published("tiny")["commit"].to_numpy().tolist()
    monkeypatch.setattr(provenance, "_commit", lambda: ("b" * 40, False))
    monkeypatch.setitem(provenance.NUMERICS, "core", provenance.NUMERICS["core"] + 1)
    study.train(study.Experiment(**CELLS[0], seed=100), folder=(anew := tmp_path / "anew"))
    assert publication.publish("tiny", anew) == 0
    assert publication.publish("tiny", anew, replace=True) == 1
    assert publication.publish("tiny", anew, replace=True) == 0
    assert study.published("tiny")["commit"].to_numpy().tolist() == ["b" * 40, before[1]]
    assert [study.load(path).provenance["commit"] for path in results.published_runs("tiny")] == ["b" * 40]
    assert publication.verify("tiny") == []


def test_without_training_published_runs_stand_in(
    folder: Path, runs_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = study.Experiment(**CELLS[0])
    monkeypatch.setenv("SPARSITY_READS", str(reads := tmp_path / "reads.txt"))
    (run,) = study.load_or_train_all([own], train=False)
    assert (run.path.parent, run.experiment.seed) == (folder, 100)
    assert str(runs.path_of(own)) in reads.read_text()  # so that a page changes once it is trained
    study.train(own)
    other, unknown = (own.model_copy(update=changed) for changed in ({"seed": 1}, {"epochs": 1}))
    both = study.load_or_train_all([own, other], train=False)
    assert [run.path.parent for run in both] == [runs_folder, folder]
    assert study.load_or_train_all([unknown], train=False) == []


@pytest.mark.usefixtures("folder")
def test_published_numbers_are_the_runs(trained: Path) -> None:
    run = study.load(runs.path_of(study.Experiment(**CELLS[1], seed=100), trained))
    its, of_all = results.curves([run]).squeeze("run"), study.published("tiny").sel(run=run.id)
    for name, values in its.data_vars.items():
        published = of_all[name].sel({dim: its[dim] for dim in values.dims})
        tolerance = 0 if name in compact.EXACT else 5e-5
        np.testing.assert_allclose(published, values, rtol=tolerance, err_msg=str(name))
        bits = published.to_numpy().view("uint32")[published.notnull()]
        assert name in compact.EXACT or not (bits & 0b111111).any(), name
    assert of_all["seconds"] == run.provenance["seconds"]
    outcomes = compact.published_outcomes("tiny", "networks.nc").sel(run=run.id)
    np.testing.assert_array_equal(outcomes["image_correct"], run.root["image_correct"])
    accuracy = outcomes["image_correct"].mean("validation_image")
    expected = [run.root["val_accuracy"].sel(epoch=epoch) for epoch in run.root["moment_epoch"]]
    np.testing.assert_allclose(accuracy, expected, rtol=1e-6)
    losses = run.root["image_loss"].isel(moment=[MOMENTS.index(moment) for moment in KEPT])
    np.testing.assert_allclose(outcomes["image_loss"], losses, rtol=0.05)


@pytest.mark.usefixtures("folder")
def test_a_published_run_file_is_trimmed(trained: Path) -> None:
    run = study.load(runs.path_of(study.Experiment(**CELLS[0], seed=100), trained))
    (shown,) = map(study.load, results.published_runs("tiny"))
    assert shown.experiment == run.experiment
    assert "image_loss" not in shown.root
    for layer in run.layers:
        kept, whole = shown.layer(layer), run.layer(layer)
        assert "activations" not in kept
        assert kept.sizes["image"] == compact.PUBLISHED_IMAGES
        for name in ("heatmap", "scale_free_heatmap"):
            step = whole[name].encoding["scale_factor"]
            here = whole[name].isel(image=slice(compact.PUBLISHED_IMAGES))
            assert float(abs(kept[name] - here).max()) <= compact.LEVEL / 2 * step
    assert shown.path.stat().st_size < run.path.stat().st_size
    with h5py.File(shown.path) as file:
        assert file["conv1/heatmap"].dtype == np.uint8


def test_published_networks_are_the_same_to_the_bit(
    trained: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["publish", "tiny", "--out", str(trained), "--weights"]
    for count in (1, 0):
        assert main([*command, "vanillaNet"]) == 0
        assert f"{count} networks added" in capsys.readouterr().out
    assert publication.verify("tiny") == []
    (path,) = results.published_runs("tiny")
    published, original = study.load(path), study.load(trained / path.name)
    for moment in ("last", "lowest_loss"):
        (ours, scaled), (theirs, _) = (study.trained_network(r, moment) for r in (published, original))
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        for name, values in theirs.state_dict().items():
            assert torch.equal(ours.state_dict()[name], values)
        assert torch.equal(scaled.scale, torch.tensor(255.0))
    assert main([*command, "sr9Net"]) == 2
    error = capsys.readouterr().err
    assert "sr9Net" in error
    assert "vanillaNet" in error
    network = folder / f"{path.stem}{runs.PUBLISHED_NETWORK}"
    network.write_bytes(network.read_bytes()[:-1] + b"x")
    with refused(network):
        study.trained_network(published)
    assert main(["verify", "tiny"]) == 1
    assert network.name in capsys.readouterr().out


@pytest.mark.usefixtures("folder")
def test_a_run_is_trained_again_and_compared(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = study.Experiment(**CELLS[0], seed=100)
    again = ["verify", "tiny", "--again", experiment.id, "--out"]
    for finished in (trained, tmp_path):  # in the latter it is not: the published one
        assert main([*again, str(finished)]) == 0
    assert main(["verify", "tiny", "--again", "deadbeef"]) == 2
    curves = study.published("tiny").sel(run=[experiment.id])
    changed = curves.assign(entropy=curves["entropy"] * (1 + 3e-4))
    found = repeatability.differences(experiment, changed)
    assert found
    assert all("entropy" in line for line in found)
    assert len(repeatability.differences(experiment.model_copy(update={"seed": 101}), curves)) > 5
    shutil.rmtree(tmp_path / "results")
    capsys.readouterr()
    assert main([*again, str(tmp_path)]) == 2
    assert experiment.id in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_status_shows_runs_in_training_and_the_hours_left(
    profiled: Profiled, runs_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profiled(FIRST)
    experiment = study.Experiment(**CELLS[0], seed=100)
    asked = ["status", "tiny", "--published"]
    assert main(asked) == 0
    assert "2 runs of unknown cost" in capsys.readouterr().out
    with pytest.raises(study.errors.Stopped):
        study.train(experiment, stop=iter([False, True]).__next__)
    ((run, (epochs, seconds)),) = costs.in_training([experiment]).items()
    assert (run, epochs) == (experiment.id, 1)
    assert seconds > 0
    assert main(asked) == 0
    output = capsys.readouterr().out
    assert "0 done, 1 in training (1 of 2 epochs), 0 missing" in output
    assert "0 runs of unknown cost" in output  # the other one is of the same size
    study.train(experiment)
    assert main(asked) == 0
    assert "1 done, 0 missing" in capsys.readouterr().out
    checkpoint = runs.path_of(experiment).with_suffix(".ckpt")
    checkpoint.write_bytes(b"damaged")
    assert costs.in_training([experiment]) == {}


@pytest.mark.parametrize("profile", ["laptop", "desktop", "registered"])
def test_published_results_are_small_and_as_listed(profile: str) -> None:
    assert sum(path.stat().st_size for path in (ROOT / "results").rglob("*")) < 35e6
    assert publication.verify(profile) == []


def test_a_published_file_is_read_as_xarray_reads_it() -> None:
    path = results.folder_of("registered") / "networks.nc"
    for group in (None, "outcomes"):
        expected = xr.load_dataset(path, engine="h5netcdf", group=group)
        found = results.load_curves(path, group)
        xr.testing.assert_identical(found, expected)
        assert {n: v.dtype for n, v in found.items()} == {n: v.dtype for n, v in expected.items()}
    assert results.load_curves(path, "no such group") is None
