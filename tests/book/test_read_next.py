"""The links at the foot of each page: the file they come from, and what the site makes of them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import yaml
from site_pages import LANGUAGES, ROOT, read, written_pages
from small_book import build

sys.path.insert(0, str(ROOT / "tools"))
from read_next import LINKS, NOT_OFFERED, nearest

COMMAND = (
    "run `python tools/read_next.py` (a minute; needs the packaged encoder) and commit book/read_next.yml"
)


def the_file() -> dict[str, list[str]]:
    return yaml.safe_load((ROOT / "book/read_next.yml").read_text(encoding="utf-8"))


def contents() -> list[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]
    return [Path(name).name for name in files]


def test_the_file_names_exactly_the_pages_of_the_contents() -> None:
    new, gone = set(contents()) - set(the_file()), set(the_file()) - set(contents())
    assert not new and not gone, (
        f"book/read_next.yml is stale (new {new or '-'}, gone {gone or '-'}): {COMMAND}"
    )


def test_every_page_has_links_that_exist_and_none_to_itself() -> None:
    pages = set(contents())
    assert pages >= NOT_OFFERED, f"tools/read_next.py: NOT_OFFERED names {NOT_OFFERED - pages}"
    for page, targets in the_file().items():
        assert 2 <= len(targets) <= LINKS and len(set(targets)) == len(targets), f"{page}: {COMMAND}"
        assert page not in targets, f"{page}: {COMMAND}"
        wrong = set(targets) - (pages - NOT_OFFERED)
        assert not wrong, f"{page}: {wrong}: {COMMAND}"


def test_nearest_by_hand() -> None:
    angles = np.radians([0, 10, 20, 80, 30, 100])
    vectors = np.stack([np.stack([np.cos(angles), np.sin(angles)], axis=1)] * 2)
    found = nearest(vectors, list("abcdef"), [True, True, True, True, True, False], links=2)
    assert found == {
        "a": ["c", "e"],
        "b": ["e", "d"],
        "c": ["e", "a"],
        "d": ["b", "a"],
        "e": ["c", "b"],
        "f": ["d", "c"],
    }


def test_pages_of_the_site_have_their_links(site: Path) -> None:
    wanted = the_file()
    for language in LANGUAGES:
        for page in written_pages(site, language):
            assert page.stem in wanted, f"{page.stem}: {COMMAND}"
            found = read(page).select("nav.read-next[aria-labelledby='read-next']")
            assert len(found) == 1, page
            assert found[0].p["id"] == "read-next"
            assert found[0].p.get_text() == {"en": "Read next", "zh": "接着读"}[language]
            links = found[0].select("li > a")
            assert [Path(link["href"]).stem for link in links] == wanted[page.stem], page
            for link in links:
                target = (page.parent / link["href"]).resolve()
                assert target.exists() and target.parent.name == language
                heading = read(target).h1.get_text().removesuffix("#").strip()
                assert link.get_text().strip() == heading, page


def test_a_target_that_is_not_in_the_book_is_left_out(small_book: Path) -> None:
    (small_book / "book/read_next.yml").write_text(
        "index: [gone, chapter, index]\nchapter: [gone]\n", "utf-8"
    )
    site = build(small_book)[1]
    for language in LANGUAGES:
        links = read(site / language / "book" / language / "index.html").select("nav.read-next a")
        assert [link["href"] for link in links] == [f"../../notebooks/{language}/chapter.html"]
        assert not read(site / language / "notebooks" / language / "chapter.html").select("nav.read-next")
