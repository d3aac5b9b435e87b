"""Search finds every term of the glossary, and any Chinese phrase on every page that holds it."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
import yaml
from site_pages import ROOT, SearchIndex, block_texts, written_pages

CHINESE_RUN = re.compile(r"[\u4e00-\u9fff]{2,}")


def random_phrases(texts: dict[str, str], count: int, seed: int = 0) -> list[str]:
    """Chinese strings of 2 to 6 characters, taken anywhere from the pages."""
    generator = random.Random(seed)
    runs = [run for text in texts.values() for run in CHINESE_RUN.findall(text)]
    phrases = []
    for run in generator.choices(runs, weights=[len(run) for run in runs], k=count):
        length = generator.randint(2, min(6, len(run)))
        start = generator.randint(0, len(run) - length)
        phrases.append(run[start : start + length])
    return phrases


@pytest.fixture(scope="module")
def chinese_texts(site: Path) -> dict[str, str]:
    """Text of each Chinese page by its name, blocks separated by line ends."""
    return {
        page.relative_to(site / "zh").with_suffix("").as_posix(): "\n".join(block_texts(page))
        for page in written_pages(site, "zh")
    }


@pytest.mark.parametrize("edition", ["en", "zh"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_glossary_term_is_found(site: Path, edition: str, language: str) -> None:
    terms = yaml.safe_load((ROOT / "book/glossary.yml").read_text(encoding="utf-8"))
    index = SearchIndex(site, edition)
    lost = [term[language] for term in terms if f"book/{edition}/glossary" not in index.find(term[language])]
    assert terms and not lost


def test_random_chinese_phrases_are_found(site: Path, chinese_texts: dict[str, str]) -> None:
    index = SearchIndex(site, "zh")
    lost = []
    for phrase in random_phrases(chinese_texts, 100):
        holding = {name for name, text in chinese_texts.items() if phrase in text}
        assert holding, phrase
        if not holding <= index.find(phrase):
            lost.append((phrase, holding - index.find(phrase)))
    assert not lost


def test_what_is_nowhere_is_not_found(site: Path) -> None:
    assert SearchIndex(site, "zh").find("鼹鼠骑虎") == set()
    assert SearchIndex(site, "en").find("zyzzyva quux") == set()
