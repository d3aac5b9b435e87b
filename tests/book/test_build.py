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


BOARD = """\
protocol,model,metric,mean,sd,ci_low,ci_high,seeds,users,train_seconds,config
leave_one_out,popularity,NDCG@10,0.044,,0.035,0.055,1,943,0.0,"{""how"": ""fit""}"
leave_one_out,popularity,HR@10,0.085,,0.07,0.1,1,943,0.0,"{""how"": ""fit""}"
leave_one_out,"A <b>, recency",NDCG@10,0.104,0.002,0.09,0.12,3,943,1.0,{}
leave_one_out,"A <b>, recency",HR@10,0.2,0.002,0.18,0.22,3,943,1.0,{}
"""
PAIRED = """\
protocol,model,against,metric,difference,ci_low,ci_high,p_value,p_holm,users,ahead,of
leave_one_out,"A <b>, recency",popularity,NDCG@10,-0.06,-0.07,-0.05,0.0005,0.02,943,0,3
"""


def test_leaderboard_is_filled_from_its_files(small_book: Path) -> None:
    (small_book / "benchmarks/results").mkdir(parents=True)
    (small_book / "benchmarks/results/leaderboard.csv").write_text(BOARD, encoding="utf-8")
    (small_book / "benchmarks/results/leaderboard_tests.csv").write_text(PAIRED, encoding="utf-8")
    (small_book / "book/leaderboard.yml").write_text("recency: 近期加权\n", encoding="utf-8")
    write_page(
        small_book,
        "# Page\n\n{ranked}`leave_one_out/A <b>, recency:.2f`, "
        "{ranked}`leave_one_out/A <b>, recency/ci_low:.2f`\n\n```{leaderboard}\n```\n",
    )
    contents = {"en": small_book / "_toc.yml", "zh": small_book / "book/zh/_toc.yml"}
    before = {path: path.read_text(encoding="utf-8") for path in contents.values()}
    for language, path in contents.items():
        (small_book / f"book/{language}/leaderboard.md").write_text("# Board\n", encoding="utf-8")
        path.write_text(f"{before[path]}  - file: book/{language}/leaderboard\n", encoding="utf-8")
    site = build(small_book)[1]
    for path, text in before.items():
        path.write_text(text, encoding="utf-8")
    for language, name in (("en", "A <b>, recency"), ("zh", "A <b>，近期加权 A <b>, recency")):
        page = read(site / language / "book" / language / "index.html")
        links = page.select("article p a[href='leaderboard.html']")
        assert [link.get_text() for link in links] == ["0.10", "0.09"]
        rows = page.select(".leaderboard tbody tr")
        assert rows[0].th.get_text() == name  # best first
        cells = [cell.get_text(" ") for cell in rows[0].select("td.number")]
        assert cells[:5] == ["0.1040", "0.0020", "[0.0900, 0.1200]", "0.2000", "−0.0600 p ≤ 0.02"]
        assert [cell.get_text() for cell in rows[1].select("td.number")][4:7] == ["–", "–", "–"]
        assert page.select("script[src*='leaderboard.js']")
        assert not read(site / language / f"notebooks/{language}/chapter.html").select(
            "script[src*='leaderboard.js']"
        )


def test_faults_stop_the_build(small_book: Path) -> None:
    write_page(
        small_book,
        "# Page\n\n{measured}`chapter/no such check`, {measured}`chapter/cold items: share:.x%`, "
        "{ranked}`cold_items/nobody:.3f`, {term}`nothing`, {cite}`nobody`, {eq}`none`, [broken](nowhere.md)\n",
    )
    (small_book / "_build/site/marker").parent.mkdir(parents=True, exist_ok=True)
    (small_book / "_build/site/marker").touch()
    done = run_build(small_book)
    assert done.returncode == 1
    for text in (
        "no recorded value 'chapter/no such check'",
        ":.x%'",
        "no row 'cold_items/nobody:.3f'",
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
