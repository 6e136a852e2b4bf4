"""A changed bit or a lost end of any file is noticed, or was none of what is read: nothing of it is used."""

import json
import random
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from image_folders import contents, make_folder
from test_notebook_runner import SCRIPTS, runner, write
from test_training import SMALL, Interrupted, equal, interrupt_after

from sparsity_lib import study
from sparsity_lib.study import data, files
from sparsity_lib.study.errors import StudyError
from sparsity_lib.study.runs import file as runs
from sparsity_lib.study.runs import publication, results

ROOT = Path(__file__).resolve().parents[2]
# Changed bits and lost ends.
HOW_MANY = [(6, 2), pytest.param((40, 10), marks=pytest.mark.slow)]
many = pytest.mark.parametrize("how_many", HOW_MANY, ids=["few", "many"])
Survived = Callable[[], None]


def damages(content: bytes, how_many: tuple[int, int]) -> Iterator[bytes]:
    """The content with one bit changed, anywhere, and with its end cut off, anywhere."""
    chance = random.Random(len(content))
    for _ in range(how_many[0]):
        place, bit = chance.randrange(len(content)), chance.randrange(8)
        yield content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]
    for _ in range(how_many[1]):
        yield content[: chance.randrange(len(content))]


def same(a: Any, b: Any) -> bool:
    """Whether what `torch.load` gave is bit for bit the same."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and np.array_equal(a.numpy(), b.numpy(), equal_nan=True)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def whole(path: Path) -> dict[str, Any]:
    """All that a netCDF file holds."""
    with xr.open_datatree(path) as tree:
        return {
            node.path: (str(node.attrs), node.to_dataset(inherit=False).load().to_dict())
            for node in tree.subtree
        }


def unsealed(path: Path) -> bytes:
    """The file as earlier code wrote it."""
    content, seal, _ = path.read_bytes().rpartition(b"\nSHA-256 ")
    assert seal
    return content


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.raises(Interrupted):
        study.train(study.Experiment(**SMALL), interrupt_after(1), folder, checkpoint_seconds=0)
    return runs.path_of(study.Experiment(**SMALL), folder).with_suffix(".ckpt")


@many
@pytest.mark.fault("damaged", "a checkpoint")
def test_a_damaged_checkpoint_is_noticed(
    checkpoint: Path, tmp_path: Path, how_many: tuple[int, int], survived: Survived
) -> None:
    sound, damaged = files.load_tensors(checkpoint), tmp_path / "damaged.ckpt"
    for content in damages(checkpoint.read_bytes(), how_many):
        damaged.write_bytes(content)
        try:
            read = files.load_tensors(damaged)
        except Exception:  # as a training does that finds it
            read = sound
        assert same(read, sound)
        survived()


@pytest.mark.fault("damaged", "a checkpoint")
def test_a_checkpoint_with_a_changed_weight_is_set_aside_and_the_run_made_again(
    checkpoint: Path, tmp_path: Path
) -> None:
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    torch.load(checkpoint, weights_only=True)
    damaged = tmp_path / checkpoint.name
    damaged.write_bytes(content)
    torch.load(damaged, weights_only=True)  # which notices nothing
    epochs: list[Any] = []
    with pytest.warns(UserWarning, match=f"{checkpoint.name} was set aside .*its content is not that of its"):
        made = study.train(study.Experiment(**SMALL), lambda record: epochs.append(record["epoch"]), tmp_path)
    assert epochs == [-1, 0, 1, 2]
    assert equal(made, study.train(study.Experiment(**SMALL), folder=tmp_path / "undisturbed"))


@many
@pytest.mark.fault("damaged", "a trained network")
def test_a_damaged_network_is_noticed(
    tiny_run: study.Run, tmp_path: Path, how_many: tuple[int, int], survived: Survived
) -> None:
    run = study.load(shutil.copy(tiny_run.path, tmp_path))
    sound = study.trained_network(tiny_run)[0].state_dict()
    damaged = run.path.with_suffix(runs.NETWORK)
    for content in damages(tiny_run.path.with_suffix(runs.NETWORK).read_bytes(), how_many):
        damaged.write_bytes(content)
        found = runs.find(run.experiment, tmp_path)
        if found is None:
            with pytest.raises(StudyError, match=f"^{damaged} is damaged or "):
                study.trained_network(run)
        else:
            assert same(study.trained_network(run)[0].state_dict(), sound)
        survived()


@pytest.mark.fault("damaged", "a trained network")
def test_a_damaged_network_is_made_again_with_its_run(tmp_path: Path) -> None:
    run = study.train(study.Experiment(**SMALL), folder=tmp_path)
    sound = study.trained_network(run)[0].state_dict()
    path = run.path.with_suffix(runs.NETWORK)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=rf"set aside as .*: {path} is damaged") as told:
        again = study.train(run.experiment, folder=tmp_path)
    assert [str(each.message).split()[0] for each in told] == [run.path.name, path.name]
    assert same(study.trained_network(again)[0].state_dict(), sound)
    assert path.with_name(f"{path.name}.set-aside").read_bytes() == content
    earlier = shutil.copy(f"{run.path}.set-aside", tmp_path / "earlier.nc")
    assert equal(study.load(earlier), again)


def test_files_of_earlier_code_still_open(tiny_run: study.Run, tmp_path: Path) -> None:
    path = tmp_path / tiny_run.path.name
    network = path.with_suffix(runs.NETWORK)
    path.write_bytes(unsealed(tiny_run.path))
    content = unsealed(tiny_run.path.with_suffix(runs.NETWORK))
    network.write_bytes(content)
    found = runs.find(tiny_run.experiment, tmp_path)
    assert found is not None
    assert equal(found, tiny_run)
    study.trained_network(found)
    network.write_bytes(content[:50_000] + bytes([content[50_000] ^ 1]) + content[50_001:])
    assert runs.find(tiny_run.experiment, tmp_path) is None
    with pytest.raises(StudyError, match="is damaged"):
        study.trained_network(found)


@many
@pytest.mark.fault("damaged", "a run file")
def test_a_damaged_run_file_is_noticed(
    tiny_run: study.Run, tmp_path: Path, how_many: tuple[int, int], survived: Survived
) -> None:
    sound, damaged = whole(tiny_run.path), tmp_path / tiny_run.path.name
    for content in damages(tiny_run.path.read_bytes(), how_many):
        damaged.write_bytes(content)
        if runs.find(tiny_run.experiment, tmp_path) is None:
            with pytest.raises(StudyError, match=f"^{damaged} is damaged or no run's file: "):
                study.load(damaged)
        else:
            np.testing.assert_equal(whole(damaged), sound)
        survived()


@many
@pytest.mark.fault("damaged", "decoded data")
def test_damaged_decoded_data_are_made_again(
    tmp_path: Path, how_many: tuple[int, int], survived: Survived
) -> None:
    name = f"folder:{make_folder(tmp_path / 'insects')}"
    before = data.load(name, root=tmp_path)
    splits = [contents(split) for split in (before.train, before.monitor, before.validation)]
    cache = tmp_path / "cache"
    kept = {path: path.read_bytes() for path in cache.iterdir() if path.suffix in (".npy", ".json")}
    assert len(kept) == 3  # the images, their record, and the digest of their files
    for path, sound in kept.items():
        for content in damages(sound, how_many):
            shutil.rmtree(cache)
            cache.mkdir()
            for each in kept:
                each.write_bytes(content if each == path else kept[each])
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                after = data.load(name, root=tmp_path)
            assert [contents(split) for split in (after.train, after.monitor, after.validation)] == splits
            assert (after.digest, after.classes) == (before.digest, before.classes)
            if path.suffix == ".npy":
                assert any(f"{path.name} was set aside" in str(each.message) for each in told)
            survived()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of one notebook, with its page."""
    root = tmp_path_factory.mktemp("project")
    for folder in ("notebooks", "sparsity_lib"):
        (root / folder).mkdir()
    shutil.copytree(SCRIPTS, root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "requirements.lock").write_text("a==1\n")
    write(root, "01-one", "n = 3", "print('entropy', n)", "{'a': 1.5}")
    answer = runner(root)
    assert answer.returncode == 0, answer.stderr
    return root


@many
@pytest.mark.fault("damaged", "an executed page")
def test_a_damaged_page_is_noticed(
    project: Path,
    tmp_path: Path,
    how_many: tuple[int, int],
    survived: Survived,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    import origins

    page, damaged = project / "book/experiments/01-one.ipynb", tmp_path / "01-one.ipynb"
    assert not origins.is_damaged(page)
    for content in damages(page.read_bytes(), how_many):
        damaged.write_bytes(content)
        assert origins.is_damaged(damaged) or json.loads(content) == json.loads(page.read_bytes())
        survived()


@pytest.mark.fault("damaged", "an executed page")
def test_a_damaged_page_is_made_again_and_in_no_book(project: Path) -> None:
    page = project / "book/experiments/01-one.ipynb"
    sound = page.read_bytes()
    damaged = sound.replace(b"entropy 3", b"entropy 7")
    assert damaged != sound
    page.write_bytes(damaged)
    book = subprocess.run(
        [sys.executable, "scripts/book.py"], cwd=project, capture_output=True, text=True, check=False
    )
    told = f"error: {page} is damaged; make it again: python scripts/notebooks.py\n"
    assert (book.returncode, book.stdout, book.stderr) == (1, "", told)
    assert runner(project, "--check").stdout == "stale: 01-one: the page is damaged\n"
    again = runner(project)
    aside = project / "_build/notebooks/01-one.damaged.ipynb"
    assert again.stderr.splitlines()[0] == f"{page} is damaged; it was set aside as {aside}"
    assert again.returncode == 0
    assert page.read_bytes() == sound
    assert aside.read_bytes() == damaged


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A few of the published files."""
    monkeypatch.setattr(results, "PROJECT", tmp_path)
    source = ROOT / "results"
    some = [source / "laptop/adam.nc", *sorted((source / "laptop").glob("*-digits-*.nc"))[:2]]
    for path in [*some, source / "language/laptop.nc"]:
        target = tmp_path / "results" / path.parent.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        publication.write_sums(target, sorted(target.glob("*.nc")))
    return tmp_path / "results"


@many
@pytest.mark.fault("damaged", "published results")
def test_damaged_published_results_are_refused(
    published: Path, how_many: tuple[int, int], survived: Survived
) -> None:
    cases: dict[Path, Callable[[], object]] = {
        published / "laptop/adam.nc": lambda: study.published("laptop"),
        results.published_runs("laptop")[0]: lambda: results.published_runs("laptop"),
        published / "language/laptop.nc": lambda: study.published("language", "laptop.nc"),
    }
    for path, read in cases.items():
        sound = path.read_bytes()
        for content in damages(sound, how_many):
            path.write_bytes(content)
            results._sha256.cache_clear()  # the system's clock may not have ticked since the last change
            with pytest.raises(StudyError, match=f"^{path} is damaged .*: git checkout -- {path}$"):
                read()
            survived()
        path.write_bytes(sound)


@many
@pytest.mark.fault("damaged", "the list of published results")
def test_a_damaged_list_of_published_results_hides_nothing(
    published: Path, how_many: tuple[int, int], survived: Survived
) -> None:
    sums, path = published / "language/SHA256SUMS", published / "language/laptop.nc"
    refused = 0
    for content in damages(sums.read_bytes(), how_many):
        sums.write_bytes(content)
        if results.listed_sums(sums.parent) == {path.name: files.sha256(path)}:  # but for the line's end
            results.as_listed(path)
        else:
            with pytest.raises(StudyError, match=rf"^({sums}|{path}) is damaged \(.*: git checkout -- \1$"):
                results.as_listed(path)
            refused += 1
        survived()
    assert refused


@pytest.mark.fault("damaged", "published results")
def test_all_that_reads_published_results_refuses_damaged_ones(
    published: Path, monkeypatch: pytest.MonkeyPatch, survived: Survived
) -> None:
    """Each byte changed is of a name or a number that no checksum of the file format covers."""
    monkeypatch.syspath_prepend(ROOT / "book/_ext")
    import published_explorer
    import study_facts

    root = published.parent
    run, curves = results.published_runs("laptop")[0], published / "laptop/adam.nc"
    everything: dict[Path, list[Callable[[], object]]] = {
        curves: [lambda: study.published("laptop"), lambda: study_facts.run_times(root)],
        run: [published_explorer.chosen, lambda: study_facts.run_times(root)],
        published / "language/laptop.nc": [lambda: study.published("language", "laptop.nc")],
    }
    for path, readers in everything.items():
        sound = path.read_bytes()
        path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
        for read in readers:
            with pytest.raises(StudyError, match=f"^{path} is damaged .*: git checkout -- {path}$"):
                read()
            survived()
        path.write_bytes(sound)
