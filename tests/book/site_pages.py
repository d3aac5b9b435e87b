"""Reading the built site without a browser: its pages, links, texts and search index."""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urldefrag, urljoin

from bs4 import BeautifulSoup, Tag

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "book/_ext"))
import book_site

HERE = "http://book.invalid/"  # stands for the site's root while addresses are joined
LANGUAGES = {"en": "en", "zh": "zh-CN"}
BLOCKS = ["p", "li", "dt", "dd", "td", "th", "h1", "h2", "h3", "h4", "figcaption", "pre", "summary"]
GENERATED = (
    ".headerlink, .math, script, style, button, .caption-number, .admonition-title, .above-input > summary,"
    "nav.read-next"
)


def pages(site: Path, language: str) -> list[Path]:
    """Pages of one edition, without the page that only forwards to the first one."""
    return [
        page for page in sorted((site / language).rglob("*.html")) if page != site / language / "index.html"
    ]


def written_pages(site: Path, language: str) -> list[Path]:
    """Pages of one edition that somebody wrote: without the index and the search page."""
    return [page for page in pages(site, language) if page.parent != site / language]


@cache
def read_version(page: Path, changed: int) -> BeautifulSoup:
    return BeautifulSoup(page.read_text(encoding="utf-8"), "lxml")


def read(page: Path) -> BeautifulSoup:
    """A page as a tree; not to be changed, for it is kept until the file changes."""
    return read_version(page, page.stat().st_mtime_ns)


class Link(NamedTuple):
    """One reference of a page: the tag's name, the address as written, and the address from the site's root."""

    tag: str
    written: str
    target: str


def links(page: Path, site: Path, soup: BeautifulSoup) -> list[Link]:
    """All that a page refers to, by href, src, srcset, poster, data or a forwarding meta tag."""
    base = HERE + page.relative_to(site).as_posix()
    found = []
    for tag in soup.find_all(True):
        for name in ("href", "src", "poster", "data", "action"):
            if tag.get(name):
                found.append(Link(tag.name, tag[name], urljoin(base, tag[name])))
        if tag.name == "meta" and str(tag.get("http-equiv", "")).lower() == "refresh":
            written = tag["content"].split("=", 1)[1].strip("'\" ")
            found.append(Link("meta", written, urljoin(base, written)))
    return found


def local_file(link: Link, site: Path) -> tuple[Path, str] | None:
    """File and anchor that a link inside the site names, or None for a link that leaves it."""
    if not link.target.startswith(HERE):
        return None
    path, anchor = urldefrag(link.target.removeprefix(HERE))
    return site / unquote(path.partition("?")[0]), unquote(anchor)


def block_texts(page: Path) -> list[str]:
    """Text of each paragraph, heading, table cell, … of a page's article that its author wrote."""
    article = BeautifulSoup(page.read_text(encoding="utf-8"), "lxml").find("article")
    if not isinstance(article, Tag):
        return []
    for generated in article.select(GENERATED):
        generated.replace_with(" ")
    return [block.get_text() for block in article.find_all(BLOCKS) if not block.find(BLOCKS)]


def query_words(text: str, language: str) -> list[str]:
    """Words that the site's search looks up for a query: split, without stop words and numbers, stemmed."""
    english = book_site.SearchWords({})
    if language == "zh":
        runs = book_site.RUN.findall(text)
        words = [
            word for run in runs for word in book_site.split_words(run) if len(word) > 1 or len(run) == 1
        ]
    else:
        words = re.findall(r"\w+", text)
    kept = [word.lower() for word in words if word.lower() not in english.stopwords and not word.isdigit()]
    return [english.stem(word) for word in kept]


class SearchIndex:
    """The search index of one edition, asked as Sphinx's own script asks it."""

    def __init__(self, site: Path, language: str) -> None:
        text = (site / language / "searchindex.js").read_text(encoding="utf-8")
        index = json.loads(text.removeprefix("Search.setIndex(").rstrip().removesuffix(")"))
        self.language, self.documents = language, index["docnames"]
        self.terms, self.titles = index["terms"], index["titleterms"]

    def holding(self, word: str) -> set[int]:
        """Numbers of the pages that hold a word; long words also match as a part of others."""
        found: set[int] = set()
        for table in (self.terms, self.titles):
            keys = [word] if word in table or len(word) < 3 else [key for key in table if word in key]
            for key in keys:
                value = table.get(key, [])
                found |= {value} if isinstance(value, int) else set(value)
        return found

    def find(self, query: str) -> set[str]:
        """Names of the pages that hold all words of a query."""
        words = query_words(query, self.language)
        if not words:
            return set()
        return {self.documents[number] for number in set.intersection(*map(self.holding, words))}
