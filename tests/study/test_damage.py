"""A changed bit or a lost end of any file is noticed: nothing of it is used, and it is kept."""

import contextlib
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import origins
import pytest
import study_facts
from image_folders import contents, make_folder
from nbformat.v4 import new_code_cell, new_notebook, new_output
from programs import python
from refusals import refused
from run_files import changed
from test_notebook_runner import make_project
from test_training import SMALL, Interrupted, equal, interrupt_after

from sparsity_lib import study
from sparsity_lib.study import data, files
from sparsity_lib.study.errors import Unreadable, Unusable
from sparsity_lib.study.runs import file as runs
from sparsity_lib.study.runs import publication, results

ROOT = Path(__file__).resolve().parents[2]
WANTED = study.Experiment(**SMALL)


def damages(content: bytes, bits: int = 8, ends: int = 3) -> Iterator[bytes]:
    """The content with one bit changed, anywhere, and with its end cut off, anywhere."""
    chance = random.Random(len(content))
    for _ in range(bits):
        place, bit = chance.randrange(len(content)), chance.randrange(8)
        yield content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]
    for _ in range(ends):
        yield content[: chance.randrange(len(content))]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint of the wanted run."""
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.raises(Interrupted):
        study.train(WANTED, interrupt_after(1), folder, checkpoint_seconds=0)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wanted run."""
    return study.train(WANTED, folder=tmp_path_factory.mktemp("finished")).path.parent


@pytest.mark.parametrize(
    ("ending", "before", "aside"),
    [
        pytest.param(ending, before, aside, marks=pytest.mark.fault("damaged", what), id=what)
        for what, ending, before, aside in (
            ("a checkpoint", ".ckpt", "interrupted", {".ckpt"}),
            ("a trained network", runs.NETWORK, "finished", {".nc", runs.NETWORK}),
            ("a run file", ".nc", "finished", {".nc", runs.NETWORK}),
        )
    ],
)
def test_a_damaged_file_is_noticed_set_aside_and_made_again(
    ending: str,
    before: str,
    aside: set[str],
    finished: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    shutil.copytree(request.getfixturevalue(before), tmp_path, dirs_exist_ok=True)
    path = runs.path_of(WANTED, tmp_path).with_suffix(ending)
    for content in damages(path.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(Unusable):
            files.read_with_checksum(path)
        assert runs.find(WANTED, tmp_path) is None
        if ending == ".nc":
            with pytest.raises(Unusable):
                study.load(path)
    epochs: list[Any] = []
    with pytest.warns(UserWarning, match="set aside") as warned:
        made = study.train(WANTED, lambda record: epochs.append(record["epoch"]), tmp_path)
    assert len(warned) == len(aside)
    assert epochs == [-1, 0, 1, 2]
    assert equal(made, study.load(runs.path_of(WANTED, finished)))
    assert Path(f"{path}.set-aside").read_bytes() == content
    assert {file.name for file in tmp_path.glob("*.set-aside")} == {
        f"{WANTED.id}{each}.set-aside" for each in aside
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.update({"conv1/up": h5py.SoftLink("/")}),
        lambda file: file.update({"conv1/up": file["/"]}),
        lambda file: file.update({"up": file["/"]}),
        lambda file: file.update({"more": h5py.ExternalLink("/etc/passwd", "/")}),
        lambda file: file.create_dataset("conv1/more", (8,), np.uint8, external=[("/etc/passwd", 0, 8)]),
        lambda file: file.create_dataset("more", (10**13,), np.uint8, chunks=(2**20,)).make_scale("more"),
        lambda file: file.attrs.update(experiment="{}", layers='["<script>"]'),
        lambda file: file.attrs.update(layers="5"),
    ],
)
def test_a_run_file_of_another_form_is_refused_in_one_line(
    change: Callable[[h5py.File], object], finished: Path, tmp_path: Path
) -> None:
    path = changed(runs.path_of(WANTED, finished), tmp_path, change)
    with refused(path.name, error=Unreadable):
        study.load(path)


@pytest.mark.parametrize("name", ["experiment", "numerics", "data_digest"])
def test_a_sealed_file_without_a_runs_attributes_is_no_runs_file(
    name: str, finished: Path, tmp_path: Path
) -> None:
    path = changed(runs.path_of(WANTED, finished), tmp_path, lambda file: file.attrs.pop(name))
    with refused(path.name, name, error=Unusable):
        study.load(path)


@pytest.mark.filterwarnings("always:.*was set aside")
@pytest.mark.fault("damaged", "decoded data")
def test_damaged_decoded_data_are_made_again(tmp_path: Path) -> None:
    name = f"folder:{make_folder(tmp_path / 'insects')}"
    before = data.load(name, root=tmp_path)
    splits = [contents(split) for split in (before.train, before.monitor, before.validation)]
    kept = {path: path.read_bytes() for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"}
    assert len(kept) == 3  # the images, their record, and the digest of their files
    for path, sound in kept.items():
        for content in damages(sound):
            shutil.rmtree(tmp_path / "cache")
            (tmp_path / "cache").mkdir()
            for each in kept:
                each.write_bytes(content if each == path else kept[each])
            with pytest.warns() if path.suffix else contextlib.nullcontext():
                after = data.load(name, root=tmp_path)
            assert [contents(split) for split in (after.train, after.monitor, after.validation)] == splits
            assert (after.digest, after.classes) == (before.digest, before.classes)
            assert path.with_name(f"{path.name}.set-aside").exists() == bool(path.suffix)


@pytest.mark.fault("damaged", "an executed page")
def test_a_damaged_page_is_noticed_and_in_no_book(tmp_path: Path) -> None:
    root = make_project(tmp_path / "project")
    page = root / "book/experiments/01-one.ipynb"
    page.parent.mkdir(parents=True)
    executed = new_code_cell("print(n)", outputs=[new_output("stream", text="entropy 3\n")])
    content = dict(new_notebook(cells=[executed], metadata={origins.KEY: {"read": {"runs/a.nc": "5c"}}}))
    content["metadata"][origins.KEY][origins.OWN] = origins.own_digest(content)
    sound = json.dumps(content, indent=1).encode()
    page.write_bytes(sound)
    assert not origins.is_damaged(page)
    for damaged in damages(sound):
        page.write_bytes(damaged)
        assert origins.is_damaged(page) or json.loads(damaged) == json.loads(sound)
    page.write_bytes(sound.replace(b"entropy 3", b"entropy 7"))
    book = python("scripts/book.py", folder=root)
    assert (book.returncode, book.stdout) == (1, "")
    assert book.stderr.startswith(f"error: {page} is damaged")
    assert book.stderr.count("\n") == 1


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
        publication.write_sums(target)
    return tmp_path / "results"


@pytest.mark.fault("damaged", "published results")
def test_readers_of_published_results_refuse_damaged_ones(published: Path) -> None:
    run = results.published_runs("laptop")[0]
    readers: dict[Path, list[Callable[[], object]]] = {
        published / "laptop/adam.nc": [
            lambda: study.published("laptop"),
            lambda: results.published_ids("laptop"),
            lambda: study_facts.run_times(published.parent),
        ],
        run: [lambda: results.published_runs("laptop")],
        published / "language/laptop.nc": [lambda: study.published("language", "laptop.nc")],
    }
    for path, read_by in readers.items():
        sound = path.read_bytes()
        for content in damages(sound, 4, 1):
            path.write_bytes(content)
            results._sha256.cache_clear()  # the system's clock may not have ticked since the last change
            for read in read_by:
                with refused(f"git checkout -- {path}"):
                    read()
        path.write_bytes(sound)


@pytest.mark.fault("damaged", "the list of published results")
def test_a_damaged_list_of_published_results_is_noticed(published: Path) -> None:
    sums, path = published / "language/SHA256SUMS", published / "language/laptop.nc"
    noticed = 0
    for content in damages(sums.read_bytes()):
        sums.write_bytes(content)
        if results.listed_sums(sums.parent) == {path.name: files.digest(path)}:  # but for the line's end
            results.as_listed(path)
        else:
            with refused(match=f"git checkout -- ({sums}|{path})$"):
                results.as_listed(path)
            noticed += 1
    assert noticed
