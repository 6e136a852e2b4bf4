"""Files and values of strangers, made at random: they are taken, or refused in one line, and nothing else.

Each test's cases are the same in every run. HDF5 is C code, so run files are opened in a process of their
own, whose end, silence and memory are seen from here.
"""

import itertools
import json
import re
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import h5py
import notebook_parameters
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sparsity_lib import study
from sparsity_lib.study import StudyError, files
from sparsity_lib.study.__main__ import _field
from sparsity_lib.study.runs import file as runs
from sparsity_lib.study.selection import parse_seeds, select

pytestmark = pytest.mark.slow

MEMORY = 1_500_000_000  # bytes that opening files may take beyond those of the libraries
SECONDS = 30  # for one file


def cases(count: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """So many cases, always the same; none is tried again in a smaller form, as that could take hours."""
    return settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def refused(made: Callable[[], Any], error: type[Exception] = StudyError) -> str | None:
    """The line with which something is refused; None if it is taken."""
    try:
        made()
    except error as told:
        line, kind = str(told), type(told)
    else:
        return None
    assert kind is error
    assert len(line.splitlines()) == 1, line
    return line


@st.composite
def mutations(draw: st.DrawFn, content: bytes) -> bytes:
    """The content with bytes changed, cut out or put in, or without its end."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(changed) - 1, 0)))
        kind = draw(st.sampled_from(["flip", "flip", "byte", "byte", "put", "cut", "end"]))
        if kind == "flip" and changed:
            changed[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "byte" and changed:
            changed[at] = draw(st.sampled_from([0, 1, 127, 128, 255]))
        elif kind == "put":
            changed[at:at] = draw(st.binary(max_size=600))
        elif kind == "cut":
            del changed[at : at + draw(st.integers(1, 600))]
        elif kind == "end":
            del changed[at:]
    return bytes(changed)


# Run files


def opened(path: str, fields: dict[str, Any]) -> tuple[list[str], int]:
    """What reading a run's file whole says, where it is refused, and the memory that this process took."""
    said = []

    def tried(read: Callable[[], Any]) -> Any:
        try:
            return read()
        except StudyError as error:
            said.append(str(error))
            return None

    if run := tried(lambda: study.load(path)):
        tried(lambda: run.root)
        for name in run.layers[:3]:
            tried(lambda name=name: run.layer(name))
        repr(run)
    found = runs.find(study.Experiment(**fields), Path(path).parent, by_any_code=True)
    assert found is None or run is not None
    tried(lambda: runs._sound(Path(path)))
    return said, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.fixture(scope="module")
def reader(
    tmp_path_factory: pytest.TempPathFactory, tiny_run: study.Run
) -> Iterator[Callable[[Callable[[Path], None]], list[str]]]:
    """`reader(write)` opens in another process what `write` wrote to a path, and gives what was refused."""
    root, numbers = tmp_path_factory.mktemp("files"), itertools.count()
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        fields = tiny_run.experiment.model_dump()
        _, before = pool.submit(opened, str(tiny_run.path), fields).result()

        def read(write: Callable[[Path], None]) -> list[str]:
            path = root / f"{next(numbers)}-{tiny_run.experiment.digest}.nc"
            write(path)
            said, memory = pool.submit(opened, str(path), fields).result(timeout=SECONDS)
            path.unlink()
            there = list(root.iterdir())
            assert there == []
            assert memory < before + MEMORY
            assert all(line and len(line.splitlines()) == 1 for line in said)
            return said

        yield read


@pytest.fixture(scope="module")
def small(tiny_run: study.Run) -> bytes:
    return tiny_run.path.read_bytes()


MARKS = rb"OHDR|OCHK|FRHP|FHDB|BTHD|BTLF|GCOL|HDF|experiment|layers|heatmap"


@given(drawn=st.data())
@cases(300)
def test_run_files_with_changed_bytes(drawn: st.DataObject, small: bytes, reader: Callable[..., Any]) -> None:
    changed = bytearray(small)
    marks = [found.start() for found in re.finditer(MARKS, small)]
    for _ in range(drawn.draw(st.integers(1, 6))):
        near = drawn.draw(st.sampled_from(marks)) + drawn.draw(st.integers(0, 120))
        at = drawn.draw(st.one_of(st.just(near), st.just(near), st.integers(0, len(small) - 1)))
        changed[at % len(changed)] = drawn.draw(st.integers(0, 255))
    if drawn.draw(st.integers(0, 9)) == 0:
        del changed[drawn.draw(st.integers(0, len(changed))) :]
    reader(lambda path: path.write_bytes(changed))


TEXT = st.one_of(
    st.text(max_size=20), st.sampled_from(["<script>", "\n", "a\x1b[2J", "../x", "conv1", "null"])
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from([*study.Experiment.model_fields, "unknown", ""])
ATTRIBUTES = st.one_of(
    JSON.map(json.dumps),
    TEXT.filter(lambda text: "\0" not in text),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.lists(st.integers(0, 9), max_size=3).map(lambda items: np.array(items, dtype=np.int64)),
    st.binary(max_size=20).map(np.void).filter(lambda void: void.dtype.itemsize > 0),
    st.sampled_from([h5py.Empty("f"), np.zeros(0), b"\xff\xfe"]),
)


@given(drawn=st.data())
@cases(150)
def test_run_files_with_hostile_attributes(
    drawn: st.DataObject, small: bytes, tiny_run: study.Run, reader: Callable[..., Any]
) -> None:
    described = dict(tiny_run.experiment) | drawn.draw(st.dictionaries(FIELDS, JSON, max_size=2))
    names = st.sampled_from(["experiment", "layers", "classes", "numerics", "data_digest", "x"])
    changed = drawn.draw(st.dictionaries(names, ATTRIBUTES, max_size=2))
    inner = drawn.draw(
        st.sampled_from(
            ["", "", "", "scale_factor", "units", "_FillValue", "dtype", "coordinates", "calendar"]
        )
    )

    def write(path: Path) -> None:
        path.write_bytes(small)
        with h5py.File(path, "r+") as file:
            for name, value in ({"experiment": json.dumps(described)} | changed).items():
                file.attrs[name] = value
            if inner:
                file["conv1/heatmap"].attrs[inner] = value

    said = reader(write)
    if not changed and not inner and described == dict(tiny_run.experiment):
        assert said == []


@pytest.mark.parametrize(
    ("where", "shape"),
    [
        ("val_loss", (10**12,)),
        ("conv1/heatmap", (10**6, 10**6)),
        ("conv1/new", (2**62,)),
        ("new", (3, 2**40)),
    ],
)
def test_a_run_file_that_says_it_is_huge(
    where: str, shape: Any, small: bytes, reader: Callable[..., Any]
) -> None:
    def write(path: Path) -> None:
        path.write_bytes(small)
        with h5py.File(path, "r+") as file:
            if where in file:
                del file[where]
            file.create_dataset(where, shape, np.uint8, chunks=(1,) * len(shape))

    assert reader(write)


def soft(file: h5py.File) -> None:
    file["conv1/up"] = h5py.SoftLink("/")


def circle(file: h5py.File) -> None:
    file["conv1/up"] = file["/"]


def itself(file: h5py.File) -> None:
    file["up"] = file["/"]


def elsewhere(file: h5py.File) -> None:
    file["conv1/more"] = h5py.ExternalLink("/etc/passwd", "/")


def outside(file: h5py.File) -> None:
    file.create_dataset("conv1/more", (8,), np.uint8, external=[("/etc/passwd", 0, 8)])


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), np.uint8)
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    file.create_virtual_dataset("conv1/more", layout)


def test_a_sealed_run_file_with_a_huge_coordinate(small: bytes, tmp_path: Path) -> None:
    """xarray would read it as it opens the file."""
    path = tmp_path / "strange.nc"
    path.write_bytes(small)
    with h5py.File(path, "r+") as file:
        file.create_dataset("more", (10**13,), np.uint8, chunks=(2**20,)).make_scale("more")
    files.write_sealed(path, path.read_bytes())
    with pytest.raises(StudyError, match="/more declares 10,000,000,000,000 bytes"):
        study.load(path)


@pytest.mark.parametrize("change", [soft, circle, itself, elsewhere, outside, virtual])
def test_a_run_file_leads_nowhere(
    change: Callable[[h5py.File], None], small: bytes, reader: Callable[..., Any]
) -> None:
    def write(path: Path) -> None:
        path.write_bytes(small)
        with h5py.File(path, "r+") as file:
            change(file)

    assert re.search(r"has a link|has a group|in another file", reader(write)[0])


# Parameters


@given(fields=st.dictionaries(FIELDS, JSON, max_size=4))
@cases(500)
def test_experiments(fields: dict[str, Any]) -> None:
    if refused(lambda: study.Experiment(**fields)) is None:
        made = study.Experiment(**fields)
        assert study.Experiment(**made.model_dump()) == made
        assert re.fullmatch(r"[A-Za-z0-9_.-]+", made.id)
        assert Path(made.id).name == made.id


@given(text=st.one_of(st.text(max_size=30), st.tuples(FIELDS, JSON.map(json.dumps)).map("=".join)))
@cases(300)
def test_fields_in_a_shell(text: str) -> None:
    refused(lambda: study.Experiment(**dict([_field(text)])))


SEEDS = st.one_of(
    st.from_regex(r"[0-9]{1,12}([-,][0-9]{0,12}){0,3}", fullmatch=True),
    st.text("0123456789-, ²", max_size=24),
    JSON,
)


@given(seeds=SEEDS)
@cases(300)
def test_seeds(seeds: Any) -> None:
    refused(lambda: parse_seeds(seeds))


@given(
    said=st.dictionaries(
        st.sampled_from(
            [
                "grid",
                "dataset",
                "sizes",
                "seeds",
                "label_noise",
                "optimizer",
                "epochs",
                "limit",
                "image_size",
                "device",
            ]
        ),
        st.one_of(JSON, st.sampled_from(["s", "m", "digits", "0,1", "0.3", "adam", "networks", 3])),
        max_size=3,
    ),
    networks=st.one_of(TEXT, st.sampled_from(["vanillaNet", "sr2Net,normNet"])),
)
@cases(300)
def test_selections(said: dict[str, Any], networks: str) -> None:
    refused(lambda: select("laptop", networks, **said))


NOTEBOOK = {
    "cells": [
        {
            "cell_type": "code",
            "metadata": {"tags": ["parameters"]},
            "source": ["a = 1\n", "b = 0"],
        }
    ],
    "metadata": {},
    "nbformat": 4,
}
SOURCES = st.one_of(
    st.text(max_size=40),
    st.tuples(
        st.sampled_from(["a", "b: int", "c: int | None", "d: object", "e.f", "import os;g"]),
        st.one_of(JSON.map(repr), st.text(max_size=20)),
    ).map(" = ".join),
)


@given(source=SOURCES, name=TEXT, value=TEXT)
@cases(300)
def test_parameters_of_notebooks(source: str, name: str, value: str, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "01-x.ipynb"
    cell = NOTEBOOK["cells"][0] | {"source": [source]}
    path.write_text(json.dumps(NOTEBOOK | {"cells": [cell]}), encoding="utf-8")

    def convert() -> None:
        defaults = notebook_parameters.read(path)
        for there in [*defaults, name]:
            notebook_parameters.convert(there, value, defaults, path)

    refused(convert, ValueError)


@given(drawn=st.data())
@cases(200)
def test_damaged_notebooks(drawn: st.DataObject, tmp_path_factory: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "02-x.ipynb"
    whole = json.dumps(NOTEBOOK).encode()
    path.write_bytes(
        drawn.draw(st.one_of(mutations(whole), JSON.map(lambda made: json.dumps(made).encode())))
    )
    refused(lambda: notebook_parameters.read(path), ValueError)
