"""The built site, served on localhost, and a browser that reaches nothing else."""

from __future__ import annotations

import functools
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from small_book import make_small_book

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [
    "_config.yml",
    "_toc.yml",
    "status.json",
    "pyproject.toml",
    "requirements.txt",
    "tools/build_site.py",
    "tools/chooser.html",
    "benchmarks/results",
    "book",
    "notebooks",
]


def newest_source() -> Path:
    """The source of the site that was changed last."""
    files = [path for name in SOURCES for path in [ROOT / name, *(ROOT / name).rglob("*")] if path.is_file()]
    kept = [
        path
        for path in files
        if path.suffix not in (".mo", ".pyc") and ".ipynb_checkpoints" not in path.parts
    ]
    return max(kept, key=lambda path: path.stat().st_mtime)


@pytest.fixture(scope="session")
def site() -> Path:
    """Folder of the built site, which must be there and newer than its sources."""
    folder = Path(os.environ.get("BOOK_SITE") or ROOT / "_build/site")
    stamp = folder / ".nojekyll"
    if not stamp.exists():
        pytest.fail(f"no site in {folder}: run `make book`")
    source = newest_source()
    if "BOOK_SITE" not in os.environ and stamp.stat().st_mtime < source.stat().st_mtime:
        pytest.fail(f"the site is older than {source.relative_to(ROOT)}: run `make book`")
    return folder


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """The site's address on localhost, with a slash at the end."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def find_chromium() -> str | None:
    """Path of a Chromium or Chrome on this machine."""
    names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"]
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    """Headless Chromium; without one the test skips, or fails where CI=true."""
    path = find_chromium()
    if path is None:
        message = "no Chromium found (apt-get install chromium, or set CHROMIUM to its path)"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(message)
        pytest.skip(message)
    api = pytest.importorskip("playwright.sync_api")
    arguments = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def small_book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The book's shell around one page and one chapter, which builds in seconds."""
    root = tmp_path_factory.mktemp("book")
    make_small_book(root)
    return root
