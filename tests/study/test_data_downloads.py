"""The archives of CIFAR and Tiny ImageNet, from a server on this machine."""

import dataclasses
import hashlib
import http.server
import io
import random
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from image_folders import contents, make_tiny, splits_of
from PIL import Image
from small_cifar import small_cifar

from sparsity_lib.study import StudyError, data
from sparsity_lib.study.data import folders, official


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` under any name; `sent` of its bytes, though it announces all of them."""

    content = b""
    sent: int | None = None
    requests = 0


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()

    def do_GET(self) -> None:
        self.server.requests += 1
        self.do_HEAD()
        self.wfile.write(self.server.content[: self.server.sent])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def publish(server: Server, name: str, files: dict[str, bytes], folder: str) -> official.Archive:
    """Serve a zip of `files`."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        for file, content in files.items():
            zipped.writestr(file, content)
    server.content = archive.getvalue()
    return official.Archive(f"{address(server)}/{name}", md5(server.content), folder)


def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def publish_tiny(folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let us take a tiny Tiny ImageNet, made in `folder`, for the published one."""
    made = make_tiny(folder / "tiny-imagenet-200")
    files = {str(path.relative_to(folder)): path.read_bytes() for path in made.rglob("*.*")}
    archive = publish(server, "tiny-imagenet-200.zip", files, "tiny-imagenet-200")
    monkeypatch.setattr(official, "TINY", archive)
    monkeypatch.setattr(folders, "TINY_IMAGES_PER_CLASS", (1, 1))
    return "tiny-imagenet"


@pytest.fixture
def tiny(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Tiny ImageNet's name; its published archive is a tiny one on the server."""
    return publish_tiny(tmp_path / "made", server, monkeypatch)


@pytest.fixture(params=["cifar10", "cifar100", "tiny-imagenet"])
def published(
    request: pytest.FixtureRequest, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> str:
    """Each of the three names."""
    if request.param.startswith("cifar"):
        server.content = small_cifar(request.param, monkeypatch, address(server)).archive
        return request.param
    return publish_tiny(tmp_path / "made", server, monkeypatch)


def visible(folder: Path) -> list[str]:
    """The names of all files and folders, without locks and the folder for decoded images."""
    names = [path.name for path in folder.rglob("*") if not path.name.endswith(".lock")]
    return [name for name in names if name != "cache"]


def test_an_archive_is_downloaded_once(published: str, server: Server, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for size in (None, 16, None):
        assert data.load(published, root=root, image_size=size).name == published
    assert server.requests == 1


def test_tiny_imagenet_is_read_from_its_archive(tiny: str, server: Server, tmp_path: Path) -> None:
    loaded = data.load(tiny, root=tmp_path)
    assert loaded.train.images.shape == (102, 3, 64, 64)
    assert [len(split.images) for split in splits_of(loaded)] == [102, 25, 77]
    grey = loaded.train.images[0]
    assert torch.equal(grey[0], grey[2])
    assert len(set.union(*map(contents, splits_of(loaded)))) == 204
    made = tmp_path / "made" / "tiny-imagenet-200" / "val" / "images"
    pixels = {np.array(Image.open(made / f"val_{n}.JPEG")).tobytes(): n for n in range(102)}
    for split in (loaded.monitor, loaded.validation):
        numbers = [pixels[image.movedim(0, -1).contiguous().numpy().tobytes()] for image in split.images]
        assert numbers == split.labels.tolist()
    assert data.load(tiny, root=tmp_path, image_size=32).train.images.shape == (102, 3, 32, 32)


def test_a_cut_off_download_leaves_nothing_and_can_be_tried_again(
    published: str, server: Server, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    server.sent = len(server.content) // 2
    cut_off, whole = md5(server.content[: server.sent]), md5(server.content)
    with pytest.raises(StudyError, match=f"{cut_off}, not {whole}; try again"):
        data.load(published, root=root)
    assert visible(root) == []
    server.sent = None
    assert data.load(published, root=root).name == published


def test_a_server_without_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    monkeypatch.setattr(Handler, "do_HEAD", lambda handler: handler.send_error(404))
    publish_tiny(tmp_path / "made", server, monkeypatch)
    with pytest.raises(
        StudyError, match=r"cannot download http.*tiny-imagenet-200\.zip \(HTTP Error 404.*put"
    ):
        data.load("tiny-imagenet", root=tmp_path / "root")
    assert visible(tmp_path / "root") == []


def test_an_archive_put_there_is_used(tiny: str, server: Server, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "tiny-imagenet-200.zip").write_bytes(server.content)
    assert data.load(tiny, root=root).name == tiny
    assert server.requests == 0


def damages(content: bytes) -> Iterator[bytes]:
    """The content cut off, and with a bit flipped, at several places; and nothing of it."""
    choose = random.Random(0)
    yield b""
    for _ in range(4):
        yield content[: choose.randrange(len(content))]
        flipped = bytearray(content)
        flipped[choose.randrange(len(content))] ^= 1 << choose.randrange(8)
        yield bytes(flipped)


@pytest.mark.fault("damaged", "an archive")
def test_a_damaged_archive_is_set_aside_and_downloaded(
    published: str, server: Server, tmp_path: Path, survived: Callable[[], None]
) -> None:
    suffix = ".zip" if published == "tiny-imagenet" else "-python.tar.gz"
    name = (
        "tiny-imagenet-200.zip" if published == "tiny-imagenet" else published.replace("r1", "r-1") + suffix
    )
    for trial, damaged in enumerate(damages(server.content)):
        root = tmp_path / f"root{trial}"
        root.mkdir()
        (root / name).write_bytes(damaged)
        told = rf"{name} was set aside as {name}\.set-aside: it is damaged.*{md5(damaged)}, not "
        with pytest.warns(UserWarning, match=told):
            assert data.load(published, root=root).name == published
        assert (root / f"{name}.set-aside").read_bytes() == damaged
        assert (root / name).read_bytes() == server.content
        survived()
    assert server.requests == trial + 1


@pytest.mark.fault("damaged", "an archive")
def test_a_damaged_archive_without_a_network_is_one_line(
    tiny: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "do_GET", lambda handler: handler.send_error(503))
    root = tmp_path / "root"
    root.mkdir()
    (root / "tiny-imagenet-200.zip").write_bytes(server.content[:-5])
    with (
        pytest.warns(UserWarning, match="was set aside"),
        pytest.raises(StudyError, match=r"cannot download .*503.*put the file at") as refusal,
    ):
        data.load(tiny, root=root)
    assert "\n" not in str(refusal.value)
    assert visible(root) == ["tiny-imagenet-200.zip.set-aside"]


def test_what_a_killed_process_left_is_not_taken(server: Server, tmp_path: Path) -> None:
    archive = publish(server, "good.zip", {"good/inside.txt": b"x"}, "good")
    left = tmp_path / ".good.zip.unpacking" / "good" / "half.txt"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"ha")
    assert [file.name for file in official.unpacked(archive, tmp_path).iterdir()] == ["inside.txt"]


def test_an_archive_without_its_folder_is_one_line(server: Server, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"cannot unpack .*other\.zip: .*No such file.*nothing was changed$"):
        official.unpacked(publish(server, "other.zip", {"x.txt": b"x"}, "good"), tmp_path)
    assert visible(tmp_path) == ["other.zip"]


def test_what_is_published_has_a_digest_and_comes_by_https() -> None:
    assert official.TINY.url.startswith("https://")
    assert re.fullmatch("[0-9a-f]{32}", official.TINY.md5)


def test_a_failure_is_not_tried_again_without_encryption(tmp_path: Path, server: Server) -> None:
    archive = publish(server, "good.zip", {"good/inside.txt": b"x"}, "good")
    encrypted = dataclasses.replace(archive, url=archive.url.replace("http://", "https://"))
    with pytest.raises(StudyError, match="cannot download https://"):
        official.unpacked(encrypted, tmp_path)
    assert server.requests == 0
    assert visible(tmp_path) == []
