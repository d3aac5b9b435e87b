"""The repository's address: the same everywhere, and, once set, links of the right form."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import nbformat
import pytest
from site_pages import ROOT, read

sys.path.insert(0, str(ROOT / "tools"))
import set_repository

URL = "https://github.com/example-owner/example-book"
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


def test_the_address_is_the_same_everywhere() -> None:
    assert set_repository.differences(ROOT, set_repository.stored_address(ROOT)) == []


def test_setting_and_removing_leaves_no_trace(small_book: Path) -> None:
    def contents() -> dict[Path, str]:
        return {
            path: path.read_text(encoding="utf-8")
            for path in small_book.rglob("*.*")
            if path.suffix in (".md", ".yml", ".toml", ".cff", ".ipynb")
        }

    before = contents()
    set_repository.write(small_book, URL)
    assert set_repository.differences(small_book, URL) == []
    assert set_repository.stored_address(small_book) == URL
    assert sorted(set_repository.differences(small_book, "")) == sorted(
        [*FILES, "notebooks/en/chapter.ipynb", "notebooks/zh/chapter.ipynb"]
    )
    set_repository.write(small_book, "")
    assert contents() == before


@pytest.mark.parametrize(
    "url",
    ["http://github.com/a/b", "https://github.com/a", "https://example.org/a/b", "https://github.com/a/b c"],
)
def test_other_addresses_are_refused(small_book: Path, url: str) -> None:
    command = [sys.executable, ROOT / "tools/set_repository.py", url, "--root", small_book]
    assert subprocess.run(command, capture_output=True).returncode == 1
    assert set_repository.stored_address(small_book) == ""


def hrefs(page: Path) -> list[str]:
    return [tag["href"] for tag in read(page).select(".article-header-buttons a[href]")]


def build(root: Path) -> Path:
    done = subprocess.run(
        [sys.executable, ROOT / "tools/build_site.py", "--root", root], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "_build/site"


def test_links_of_a_book_with_an_address(small_book: Path) -> None:
    set_repository.write(small_book, URL)
    site = build(small_book)
    for language in ("en", "zh"):
        chapter = f"notebooks/{language}/chapter"
        links = hrefs(site / language / f"{chapter}.html")
        assert (
            f"https://colab.research.google.com/github/example-owner/example-book/blob/main/{chapter}.ipynb"
            in links
        )
        assert (
            f"https://mybinder.org/v2/gh/example-owner/example-book/main?urlpath=lab/tree/{chapter}.ipynb"
            in links
        )
        assert f"{URL}/edit/main/{chapter}.ipynb" in links
        assert URL in links
        issue = next(urlsplit(link) for link in links if link.startswith(f"{URL}/issues/new?"))
        assert parse_qs(issue.query)["title"] == [f"Issue on page /{chapter}.html"]
        page_links = hrefs(site / language / f"book/{language}/index.html")
        assert f"{URL}/edit/main/book/{language}/index.md" in page_links
        assert not [link for link in page_links if "colab" in link or "mybinder" in link]
        source = nbformat.read(small_book / f"{chapter}.ipynb", as_version=4).cells[1].source
        assert f'%pip install -q "recsys-lib[models] @ git+{URL}@main"' in source.splitlines()[3].strip()
        badge_file = "README.md" if language == "en" else "README.zh.md"
        badges = re.findall(r"\]\((https://[^)]+)\)", set_repository.texts(URL)[badge_file][1])
        named = [url for url in badges if f"notebooks/{language}/" in url]
        assert len(named) == 2 and all(
            (ROOT / f"notebooks/{language}" / url.rsplit("/", 1)[1]).exists() for url in named
        )


def test_without_an_address_nothing_points_outside(small_book: Path) -> None:
    set_repository.write(small_book, "")
    site = build(small_book)
    for page in site.rglob("*.html"):
        assert not [link for link in hrefs(page) if link.startswith("http")], page
