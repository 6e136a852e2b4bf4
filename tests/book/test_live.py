"""The explorer in a real JupyterLab: what the page does reaches the kernel, and the other way round."""

import contextlib
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
from browser import Visit
from jupyter_client import BlockingKernelClient
from playwright.sync_api import Locator, Page, expect

from sparsity_lib import study

pytestmark = [pytest.mark.slow, pytest.mark.browser]

SECONDS = 90  # at most, for each single thing: it takes a few, but machines may be busy
# JupyterLab requests no news, updates or extensions.
ALONE = (
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
)


class Lab(NamedTuple):
    """A running JupyterLab: its address and token, its folder of notebooks, and that of its kernels."""

    url: str
    token: str
    folder: Path
    runtime: Path


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """JupyterLab with a home of its own; its log is shown if the test fails."""
    home, folder = tmp_path / "home", tmp_path / "notebooks"
    folder.mkdir()
    (home / "config/labconfig").mkdir(parents=True)
    # Its debugger may report an error where the kernel ends while it starts.
    disabled = {"disabledExtensions": {"@jupyterlab/debugger-extension": True}}
    (home / "config/labconfig/page_config.json").write_text(json.dumps(disabled))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = Lab(f"http://127.0.0.1:{port}", secrets.token_hex(), folder, home / "runtime")
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"),
        *(f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}"),
        *(f"--IdentityProvider.token={started.token}", *ALONE),
    ]
    own = {f"JUPYTER_{name.upper()}_DIR": str(home / name) for name in ("config", "data", "runtime")}
    own |= {f"JUPYTERLAB_{name.upper()}_DIR": str(home / name) for name in ("settings", "workspaces")}
    log = tmp_path / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            env=os.environ | own | {"HOME": str(home), "IPYTHONDIR": str(home / "ipython")},
            stdout=output,
            stderr=output,
        )
    end = time.monotonic() + SECONDS
    try:
        while "is running at" not in log.read_text():
            assert process.poll() is None, "JupyterLab ended"
            assert time.monotonic() < end, "JupyterLab does not start"
            time.sleep(0.1)
        yield started
    finally:
        process.terminate()  # it ends its kernels
        try:
            process.wait(SECONDS)
        finally:
            process.kill()
            print(log.read_text())


@pytest.fixture
def notebook(lab: Lab, tiny_runs: list[study.Run]) -> str:
    """A notebook with one cell, the explorer of two runs."""
    code = f"""import sparsity_lib as sl
from sparsity_lib import study

explorer = study.explore([study.load(path) for path in {[str(run.path) for run in tiny_runs[:2]]}])
explorer"""
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    written = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)], metadata={"kernelspec": spec})
    nbformat.write(written, lab.folder / "live.ipynb")
    return "live.ipynb"


class Kernel:
    """A second client of the kernel that a notebook runs on."""

    def __init__(self, lab: Lab) -> None:
        (connection,) = lab.runtime.glob("kernel-*.json")
        self._client = BlockingKernelClient(connection_file=str(connection))
        self._client.load_connection_file()

    def __enter__(self) -> "Kernel":
        self._client.start_channels()
        self._client.wait_for_ready(SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.stop_channels()

    def run(self, code: str, expression: str = "None") -> str:
        """Run the code; the expression's value afterwards, as text."""
        asked = {"value": expression}
        reply = self._client.execute(code, user_expressions=asked, reply=True, timeout=SECONDS)["content"]
        assert reply["status"] == "ok", reply
        return reply["user_expressions"]["value"]["data"]["text/plain"]

    def comes_to(self, expression: str, wanted: object) -> None:
        """Wait until the expression takes that value: what the page sends takes a moment."""
        end = time.monotonic() + SECONDS
        while (found := self.run("", expression)) != repr(wanted) and time.monotonic() < end:
            time.sleep(0.1)  # the kernel is to hear the page, too
        assert found == repr(wanted), expression


def close(dialog: Locator) -> None:
    """Close a dialog of JupyterLab and print its text."""
    print("JupyterLab's dialog:", " | ".join(dialog.first.inner_text().splitlines()))
    dialog.first.locator(".jp-Dialog-footer button").last.click()


def run_first_cell(page: Page) -> None:
    """Press Shift+Enter until the cell runs: JupyterLab shows cells before all its keys are bound."""
    prompt = page.locator(".jp-Notebook .jp-InputPrompt").first
    end = time.monotonic() + SECONDS
    while (prompt.text_content() or "").startswith("[ ]") and time.monotonic() < end:
        page.locator(".jp-Notebook .cm-content").first.click()
        page.keyboard.press("Shift+Enter")
        with contextlib.suppress(AssertionError):
            expect(prompt).to_have_text(re.compile(r"\[[*1]\]"), timeout=3000)
    expect(prompt).to_have_text(re.compile(r"\[[*1]\]"))


def test_page_and_kernel_move_each_other(lab: Lab, notebook: str, visit: Visit) -> None:
    sockets: list[str] = []

    def prepare(page: Page) -> None:
        page.on("websocket", lambda socket: sockets.append(socket.url))
        page.add_locator_handler(page.locator("dialog.jp-Dialog"), close)

    page: Page = visit(f"{lab.url}/login?token={lab.token}&next=/lab/tree/{notebook}", prepare=prepare)
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(timeout=1000 * SECONDS)
    run_first_cell(page)
    slider = page.get_by_role("slider", name="Epoch")
    slider.wait_for(timeout=1000 * SECONDS)

    network = page.get_by_role("combobox", name="Network")
    compare = page.get_by_role("combobox", name="Compare")
    with Kernel(lab) as kernel:
        assert kernel.run("", "explorer.epoch") == "11"
        slider.press("Home")
        kernel.comes_to("explorer.epoch", -1)
        network.select_option(index=1)
        compare.select_option(index=1)
        for name in ("conv3", "Image 3 of 8", "Scale-free entropy"):
            page.get_by_role("radio", name=name).check()
        page.get_by_role("checkbox", name="Stretch colours").check()
        names = ("run", "compare", "layer", "image", "measure", "stretched")
        kernel.comes_to(
            ", ".join(f"explorer.{name}" for name in names), (1, 0, "conv3", 2, "scale_free_entropy", True)
        )
        page.get_by_role("button", name="Play").click()
        kernel.comes_to("explorer.epoch, explorer.playing", (11, False))

        kernel.run("explorer.run, explorer.compare, explorer.epoch = 0, None, 3")
        kernel.run("explorer.layer, explorer.image, explorer.measure = 'fc1', 4, 'entropy'")
        seconds = {"timeout": 1000.0 * SECONDS}
        expect(slider).to_have_attribute("aria-valuetext", re.compile(r"\b3\b"), **seconds)
        expect(network).to_have_value("0", **seconds)
        expect(compare).to_have_value("", **seconds)
        for name in ("fc1", "Image 5 of 8", "Entropy"):
            expect(page.get_by_role("radio", name=name, exact=name == "Entropy")).to_be_checked(**seconds)
    assert sockets
    assert all(url.startswith(lab.url.replace("http", "ws", 1)) for url in sockets), sockets
