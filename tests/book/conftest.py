"""The built site, served on localhost, and a browser that reaches nothing else."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import set_repository  # noqa: E402

SOURCES = [
    "_config.yml",
    "_toc.yml",
    "status.json",
    "pyproject.toml",
    "requirements.txt",
    "tools/build_site.py",
    "tools/chooser.html",
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


# --- a small book, to build in seconds -------------------------------------------------------

FILES = ["README.md", "README.zh.md", "pyproject.toml", "CITATION.cff", "_config.yml", "book/zh/_config.yml"]
TOC = "format: jb-book\nroot: book/{0}/index\nchapters:\n  - file: notebooks/{0}/chapter\n"


@pytest.fixture(scope="module")
def small_book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The book's shell around one page and one chapter."""
    root = tmp_path_factory.mktemp("book")
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, root / name)
    for name in ("_ext", "_templates", "_locale", "_static"):
        shutil.copytree(
            ROOT / "book" / name, root / "book" / name, ignore=shutil.ignore_patterns("*.mo", "vendor")
        )
    (root / "tools").mkdir()
    shutil.copyfile(ROOT / "tools/chooser.html", root / "tools/chooser.html")
    (root / "book/references.bib").touch()
    for language in ("en", "zh"):
        (root / "book" / language).mkdir(exist_ok=True)
        (root / "book" / language / "index.md").write_text("# Page\n\nText.\n", encoding="utf-8")
        (root / "notebooks" / language).mkdir(parents=True)
        cells = [
            nbformat.v4.new_markdown_cell("# Chapter"),
            nbformat.v4.new_code_cell(set_repository.NOT_SET),
        ]
        cells[1].metadata["tags"] = ["remove-cell"]
        notebook = nbformat.v4.new_notebook(
            cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python"}}
        )
        nbformat.write(notebook, root / "notebooks" / language / "chapter.ipynb")
        (root / ("_toc.yml" if language == "en" else "book/zh/_toc.yml")).write_text(
            TOC.format(language), encoding="utf-8"
        )
    set_repository.write(root, "")
    return root


def build(root: Path) -> tuple[str, Path]:
    """Build a small book, which must succeed; returns what was printed, and the site's folder."""
    done = run_build(root)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, root / "_build/site"


def run_build(root: Path) -> subprocess.CompletedProcess[str]:
    """Build a small book."""
    command = [sys.executable, ROOT / "tools/build_site.py", "--root", root]
    return subprocess.run(command, capture_output=True, text=True)
