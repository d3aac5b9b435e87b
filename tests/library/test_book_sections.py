"""The book as a catalogue: the snapshot's format, and how pages are read."""

from __future__ import annotations

import json
import re

import pytest

from recsys_lib.datasets.book_sections import COLUMNS, KINDS, LENGTHS, load_book, read_book, to_csv

CJK = re.compile("[一-鿿]")


def test_the_snapshot_has_the_stated_format():
    book = load_book()
    assert list(book.columns) == COLUMNS
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", book.attrs["date"])
    assert set(book["kind"]) == set(KINDS)
    assert len(book) >= 200
    for language, longest in LENGTHS.items():
        for column in (f"heading_{language}", f"text_{language}"):
            assert (book[column].str.len() > 0).all() and (book[column] == book[column].str.strip()).all()
            assert not book[column].str.contains(r"\]\(|\{\w+\}`|`{3}|<details").any()
        assert book[f"text_{language}"].str.len().max() <= longest
    assert book["text_zh"].str.contains(CJK).all()
    openings = book[book["kind"] == "opening"]
    assert openings["page"].is_unique and set(openings["page"]) == set(book["page"])
    assert (book[book["kind"] != "opening"]["needs"].str.len() == 0).all()
    named = {page for pages in book["needs"] for page in pages}
    assert len(named) >= 4 and named <= set(book["page"])


def test_the_first_line_states_the_numbers():
    book = load_book()
    first, header, *_ = to_csv(book, book.attrs["date"]).splitlines()
    assert first == f"# {book.attrs['date']}: {len(book)} sections of {book['page'].nunique()} pages"
    assert header.split(",") == COLUMNS


def write(root, language, page, chapter):
    (root / "book" / language).mkdir(parents=True)
    (root / "notebooks" / language).mkdir(parents=True)
    (root / "book" / language / "page.md").write_text(page, encoding="utf-8")
    cells = [{"cell_type": "markdown", "source": [text]} for text in chapter]
    cells.insert(1, {"cell_type": "code", "source": ["## no heading"]})
    path = root / "notebooks" / language / "chapter.ipynb"
    path.write_text(json.dumps({"cells": cells}), encoding="utf-8")


TOC = "root: book/en/page\nparts:\n  - chapters:\n    - file: notebooks/en/chapter\n"
CHAPTER = [
    "# Chapter\n\n| | |\n|:--|:--|\n| **You need** | [a page](../../book/en/page.md), [this](chapter.ipynb) |\n\nIt opens.",
    "## A {term}`cosine`\n\nWords **in bold**, $x^2$, [section 1](../../book/en/page.md#there), {term}`mean <means>`, "
    "{cite:p}`key`."
    "\n\n```python\n## not this\n```\n\n## Take-away\n\nNothing.",
    ":::{exercise} Try\n:label: x\n\nDo *it*.\n:::\n\n```{exercise} Again\nMore.\n```",
]


def test_pages_are_read(tmp_path):
    pytest.importorskip("yaml")
    (tmp_path / "_toc.yml").write_text(TOC, encoding="utf-8")
    for language in ("en", "zh"):
        write(
            tmp_path, language, "---\nhead: 1\n---\n# Page\n\nFirst. [out](https://x.org) <b>x</b>\n", CHAPTER
        )
    book = read_book(tmp_path)
    found = book[["page", "kind", "heading_en", "text_zh", "links", "needs"]].to_numpy().tolist()
    assert found == [
        ["page", "opening", "Page", "First. out x", (), ()],
        ["chapter", "opening", "Chapter", "It opens.", (), ("page",)],
        ["chapter", "section", "A cosine", "Words in bold , , , mean, .", ("page",), ()],
        ["chapter", "exercise", "Try", "Do it .", (), ()],
        ["chapter", "exercise", "Again", "More.", (), ()],
    ]


def test_editions_that_differ_are_refused(tmp_path):
    pytest.importorskip("yaml")
    (tmp_path / "_toc.yml").write_text(TOC, encoding="utf-8")
    write(tmp_path, "en", "# Page\n\nText.\n", CHAPTER)
    write(tmp_path, "zh", "# Page\n\nText.\n\n## More\n\nText.\n", CHAPTER)
    with pytest.raises(ValueError, match="book/en/page: the two editions"):
        read_book(tmp_path)
