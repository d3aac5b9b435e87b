"""A book of one page and one chapter in the shell of the real one, to build in seconds."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from site_pages import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import set_repository

FILES = ["README.md", "README.zh.md", "pyproject.toml", "CITATION.cff", "_config.yml", "book/zh/_config.yml"]
TOC = "format: jb-book\nroot: book/{0}/index\nchapters:\n  - file: notebooks/{0}/chapter\n"


def make_small_book(root: Path) -> None:
    """Write the book's shell around one page and one chapter."""
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


def build(root: Path) -> tuple[str, Path]:
    """Build a small book, which must succeed; returns what was printed, and the site's folder."""
    done = run_build(root)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, root / "_build/site"


def run_build(root: Path) -> subprocess.CompletedProcess[str]:
    """Build a small book."""
    command = [sys.executable, ROOT / "tools/build_site.py", "--root", root]
    return subprocess.run(command, capture_output=True, text=True)
