"""What the builder prints and refuses, and the pages that are filled from data files."""

from __future__ import annotations

import json
from pathlib import Path

from site_pages import SearchIndex, read
from small_book import build, run_build

STATUS = {
    "chapter": {
        "seconds": 12.4,
        "data": ["movielens-100k"],
        "models": [],
        "compared": 3,
        "code_cells": 4,
        "checks": {"cold items: share": {"value": 0.21049}},
    }
}
GLOSSARY = """\
- {id: cold-start, en: cold start, zh: 冷启动, definition_en: "No history: $n = 0$.", definition_zh: "没有历史：$n = 0$。"}
"""


def write_page(root: Path, text: str) -> None:
    for language in ("en", "zh"):
        (root / "book" / language / "index.md").write_text(text, encoding="utf-8")


def test_pages_filled_from_data_files(small_book: Path) -> None:
    (small_book / "status.json").write_text(json.dumps({"chapters": STATUS}), encoding="utf-8")
    (small_book / "book/glossary.yml").write_text(GLOSSARY, encoding="utf-8")
    write_page(
        small_book,
        "# Page\n\n{measured}`chapter/cold items: share:.1%`, {measured}`chapter/cold items: share`, "
        "[a term](#term-cold-start), 双**塔模**型\n\n```{glossary-table}\n```\n\n```{status-table}\n```\n",
    )
    printed, site = build(small_book)
    assert "English edition: 2 pages. Chinese edition: 2 pages." in printed
    for language, seconds, share in (("en", "12 s", "3 of 4 (75%)"), ("zh", "12 秒", "3 / 4（75%）")):
        page = read(site / language / "book" / language / "index.html")
        chapter = f"../../notebooks/{language}/chapter.html"
        shown = [
            (link.get_text(), link["href"])
            for link in page.select("article p a.internal[href$='chapter.html']")
        ][:2]
        assert shown == [("21.0%", chapter), ("0.21049", chapter)]
        assert (
            page.select_one("dt#term-cold-start")
            .get_text()
            .startswith({"en": "cold start", "zh": "冷启动"}[language])
        )
        assert page.find("a", string="a term")["href"] == "#term-cold-start"
        cells = [cell.get_text(strip=True) for cell in page.select("table.status tbody td")]
        assert cells == ["Chapter", seconds, "movielens-100k", {"en": "none", "zh": "无"}[language], share]
    assert "book/zh/index" in SearchIndex(site, "zh").find("双塔模型")


def test_faults_stop_the_build(small_book: Path) -> None:
    write_page(
        small_book,
        "# Page\n\n{measured}`chapter/no such check`, {measured}`chapter/cold items: share:.x%`, {term}`nothing`, "
        "{cite}`nobody`, {eq}`none`, [broken](nowhere.md)\n",
    )
    (small_book / "_build/site/marker").parent.mkdir(parents=True, exist_ok=True)
    (small_book / "_build/site/marker").touch()
    done = run_build(small_book)
    assert done.returncode == 1
    for text in (
        "no recorded value 'chapter/no such check'",
        ":.x%'",
        "term not in glossary",
        "nobody",
        "none",
        "nowhere.md",
    ):
        assert text in done.stdout, text
    assert (small_book / "_build/site/marker").exists(), "a failed build must leave the site that was there"


def test_a_page_that_is_listed_but_missing_stops_the_build(small_book: Path) -> None:
    write_page(small_book, "# Page\n\nText.\n")
    toc = small_book / "_toc.yml"
    toc.write_text(toc.read_text(encoding="utf-8") + "  - file: book/en/not_written\n", encoding="utf-8")
    done = run_build(small_book)
    assert done.returncode == 1 and "not_written" in done.stdout
