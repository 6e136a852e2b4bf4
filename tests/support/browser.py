"""Headless Chromium for tests: fixtures that open pages, and serve them, and how colours contrast."""

import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urljoin

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Route, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]

Visit = Callable[..., Page]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser; without one tests are skipped, but not where CI=true."""
    if not CHROMIUM.exists():
        missing = f"{CHROMIUM} is missing; on Debian or Ubuntu: apt-get install chromium"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page_of(tmp_path: Path) -> Callable[..., Path]:
    """`page_of(part, ..., head="")` is the file of a page that holds these parts."""

    def write(*parts: str, head: str = "") -> Path:
        path = tmp_path / "page.html"
        start = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Page</title>'
        head = f'{start}<meta name="viewport" content="width=device-width">{head}</head>'
        path.write_text(f"{head}<body><main><h1>Page</h1>{''.join(parts)}</main></body></html>", "utf-8")
        return path

    return write


@pytest.fixture
def visit(chromium: Browser, served: Callable[[Path], str]) -> Iterator[Visit]:
    """`visit(url, **context)` opens a page; at its end, requests to other hosts and errors fail the test.

    The fixture requests `served` so that pages close before their server.
    """
    contexts, outside, errors = [], [], []

    def open_page(url: str, *, prepare: Callable[[Page], None] | None = None, **settings: Any) -> Page:
        context = chromium.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        inside = (urljoin(url, "."), "data:", "blob:")

        def guard(route: Route) -> None:
            if route.request.url.startswith(inside):
                route.continue_()
            else:
                outside.append(route.request.url)
                route.abort()

        page.route("**/*", guard)
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        if prepare:
            prepare(page)
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not outside, f"requests to other hosts: {outside}"
    assert not errors, errors


def contrast(*colours: str) -> float:
    """The ratio of luminances (WCAG) of two CSS colours such as "rgb(0, 0, 0)"."""
    low, high = sorted(map(luminance, colours))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    """Relative luminance (WCAG) of a CSS colour, from 0 for black to 1 for white."""
    channels = np.array([int(value) for value in re.findall(r"\d+", colour)[:3]]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


class Handler(SimpleHTTPRequestHandler):
    requests = 0  # of the present test

    def log_message(self, *_: object) -> None:
        Handler.requests += 1


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], str]]:
    """`served(folder)` is the address at which a folder is served on this machine."""
    servers = []
    monkeypatch.setattr(Handler, "requests", 0)

    def serve(folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        servers.append(server)
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()
