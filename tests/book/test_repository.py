"""The repository's address: the same everywhere, and, once set, links of the right form."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import nbformat
import pytest
from site_pages import ROOT, read
from small_book import FILES, build

sys.path.insert(0, str(ROOT / "tools"))
import set_repository

URL = "https://github.com/example-owner/example-book"


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


def test_links_of_a_book_with_an_address(small_book: Path) -> None:
    set_repository.write(small_book, URL)
    site = build(small_book)[1]
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
    site = build(small_book)[1]
    for page in site.rglob("*.html"):
        assert not [link for link in hrefs(page) if link.startswith("http")], page


def test_a_chapter_names_the_extras_it_needs(small_book: Path) -> None:
    path = small_book / "notebooks/en/chapter.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.metadata["book"] = {"extras": ["models", "applications"]}
    nbformat.write(notebook, path)
    set_repository.write(small_book, URL)
    assert f'"recsys-lib[models,applications] @ git+{URL}@main"' in path.read_text().replace('\\"', '"')


def test_chapters_that_read_the_clothing_reviews_install_pyarrow() -> None:
    facts = [nbformat.read(path, as_version=4).metadata["book"] for path in set_repository.notebooks(ROOT)]
    readers = [each for each in facts if "clothing-reviews" in each.get("data", [])]
    assert readers and all("data" in each.get("extras", []) for each in readers)
