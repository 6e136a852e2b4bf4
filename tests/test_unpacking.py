"""Archives of strangers: what is written, and what is refused in one line that names it."""

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sparsity_lib.study import StudyError
from sparsity_lib.study.data.unpacking import unpack

FILES = {"good/a.txt": b"a" * 3_000_000, "good/deep/b.bin": bytes(range(256)), "good/empty": b""}
BYTES = sum(map(len, FILES.values()))


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, **more: object) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.size = kind, size
    for key, value in more.items():
        setattr(made, key, value)
    return made


def tar_of(path: Path, files: dict[str, bytes], *more: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            tar.addfile(member(name, size=len(content)), io.BytesIO(content))
        for special in more:
            tar.addfile(special, io.BytesIO(bytes(special.size)) if special.isreg() else None)
    return path


def zip_of(path: Path, files: dict[str, bytes], *more: zipfile.ZipInfo) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
        for special in more:
            zipped.writestr(special, b"/etc/passwd")
    return path


MAKERS: dict[str, Callable[..., Path]] = {"x.tar.gz": tar_of, "x.zip": zip_of}


def unpacked(archive: Path, most_bytes: int = BYTES, most_members: int = 5) -> Path:
    folder = archive.parent / "inside" / "folder"
    folder.mkdir(parents=True)
    unpack(archive, folder, most_bytes=most_bytes, most_members=most_members)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if not path.is_dir()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(params=MAKERS)
def name(request: pytest.FixtureRequest) -> str:
    """An archive's file name, of either format."""
    return request.param


def test_files_and_folders_come_out_as_they_went_in(name: str, tmp_path: Path) -> None:
    folder = unpacked(MAKERS[name](tmp_path / name, FILES))
    assert contents(folder) == FILES
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o111 == 0 for path in folder.rglob("*") if path.is_file())


def test_folders_are_members_too(tmp_path: Path) -> None:
    tar_of(tmp_path / "x.tar.gz", {}, member("./one", tarfile.DIRTYPE), member("one/two", tarfile.DIRTYPE))
    assert (unpacked(tmp_path / "x.tar.gz") / "one" / "two").is_dir()


@pytest.mark.parametrize(
    "outside",
    ["../out", "good/../../out", "/tmp/out", "..", "..\\out", "C:\\out", "C:out", "\\\\host\\share\\out"],
)
def test_a_member_that_would_lie_outside_is_named(name: str, outside: str, tmp_path: Path) -> None:
    MAKERS[name](tmp_path / name, {"good/a.txt": b"a", outside: b"x"})
    with pytest.raises(StudyError) as refusal:
        unpacked(tmp_path / name)
    assert f"{name}: member '{outside}' would lie outside its folder; nothing" in str(refusal.value)
    assert contents(tmp_path / "inside") == {"folder/good/a.txt": b"a"}


KINDS = {
    "symlink": member("bad", tarfile.SYMTYPE, linkname="/etc/passwd"),
    "link inside": member("bad", tarfile.SYMTYPE, linkname="good/a.txt"),
    "hard link": member("bad", tarfile.LNKTYPE, linkname="good/a.txt"),
    "device": member("bad", tarfile.CHRTYPE, devmajor=1, devminor=3),
    "block device": member("bad", tarfile.BLKTYPE),
    "pipe": member("bad", tarfile.FIFOTYPE),
    "unknown": member("bad", b"Z"),
    "sparse": member("bad", pax_headers={"GNU.sparse.map": "0,0", "GNU.sparse.size": "9" * 15}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_special_members_of_a_tar_are_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="member 'bad' is neither a plain file nor a folder; nothing"):
        unpacked(tar_of(tmp_path / "x.tar.gz", {"good/a.txt": b"a"}, KINDS[kind]))
    assert contents(tmp_path / "inside") == {"folder/good/a.txt": b"a"}


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK])
def test_special_members_of_a_zip_are_named(kind: int, tmp_path: Path) -> None:
    special = zipfile.ZipInfo("bad")
    special.external_attr = (kind | 0o777) << 16
    with pytest.raises(StudyError, match="member 'bad' is neither a plain file nor a folder; nothing"):
        unpacked(zip_of(tmp_path / "x.zip", {"good/a.txt": b"a"}, special))
    assert contents(tmp_path / "inside") == {"folder/good/a.txt": b"a"}


def test_the_bounds_are_those_that_are_said(name: str, tmp_path: Path) -> None:
    archive = MAKERS[name](tmp_path / name, FILES)
    assert contents(unpacked(archive, BYTES, len(FILES))) == FILES


@pytest.mark.parametrize(
    ("most_bytes", "most_members", "said"),
    [
        (BYTES - 1, 3, f"with member 'good/deep/b.bin' it is larger than the {BYTES - 1:,} bytes allowed"),
        (100, 3, "with member 'good/a.txt' it is larger than the 100 bytes allowed"),
        (BYTES, 2, "member 'good/empty' is one more than the 2 allowed"),
    ],
)
def test_too_many_bytes_or_members_are_refused(
    name: str, most_bytes: int, most_members: int, said: str, tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match=said):
        unpacked(MAKERS[name](tmp_path / name, FILES), most_bytes, most_members)
    assert sum(map(len, contents(tmp_path / "inside").values())) <= most_bytes


def test_a_name_that_comes_twice_is_refused(name: str, tmp_path: Path) -> None:
    path = MAKERS[name](tmp_path / name, {"good/a.txt": b"a", "good/b.txt": b"b", "good//a.txt": b"c"})
    with pytest.raises(StudyError, match=r"member 'good//a.txt' is there twice"):
        unpacked(path)


@pytest.mark.parametrize("claimed", [1, 10**6, 2**31])
def test_a_zip_that_lies_about_a_size_is_refused(claimed: int, tmp_path: Path) -> None:
    content = bytes(10_000_000)
    archive = zip_of(tmp_path / "x.zip", {"bomb": content})
    size = len(content).to_bytes(4, "little")
    assert archive.read_bytes().count(size) == 2  # in the file's head, and in the list of files
    archive.write_bytes(archive.read_bytes().replace(size, claimed.to_bytes(4, "little")))
    with pytest.raises(StudyError, match=r"CRC|larger than the 5,000,000 bytes allowed"):
        unpacked(archive, most_bytes=5_000_000)
    assert sum(map(len, contents(tmp_path / "inside").values())) <= 5_000_000


@pytest.mark.parametrize("size", [-512, -1, 10**6, 2**62])
def test_a_tar_that_lies_about_a_size_is_refused(size: int, tmp_path: Path) -> None:
    liar = member("liar", size=0)
    head = liar.tobuf(tarfile.GNU_FORMAT)
    field = size.to_bytes(12, "big", signed=True)
    field = (b"\xff" if size < 0 else b"\x80") + field[1:]
    head = head[:124] + field + head[136:148] + b" " * 8 + head[156:]
    head = head[:148] + f"{sum(head):06o}\0 ".encode() + head[156:]
    path = tmp_path / "x.tar.gz"
    with gzip.open(path, "wb") as file:
        file.write(head + bytes(1024))
    with pytest.raises(StudyError, match=r"member 'liar' (is cut off|it is larger than the 2,000,000 bytes)"):
        unpacked(path, most_bytes=2_000_000)


def test_a_header_of_millions_of_bytes_is_not_read(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "x.tar.gz", {}, member("long" * 1_000_000))
    with pytest.raises(StudyError, match="the header of a member is too large"):
        unpacked(path)


def test_what_is_cut_off_is_refused(name: str, tmp_path: Path) -> None:
    path = MAKERS[name](tmp_path / name, FILES)
    for length in (0, 1, 100, path.stat().st_size // 2, path.stat().st_size - 30):
        (tmp_path / str(length)).mkdir()
        short = tmp_path / str(length) / name
        short.write_bytes(path.read_bytes()[:length])
        with pytest.raises(StudyError, match=r"^cannot unpack .*nothing was changed$"):
            unpacked(short)
