"""Links, anchors and the two editions of the built site, read without a browser."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import yaml
from site_pages import LANGUAGES, ROOT, links, local_file, pages, read


@cache
def anchors(page: Path) -> set[str]:
    return {tag["id"] for tag in read(page).find_all(id=True)} | {
        tag["name"] for tag in read(page).find_all("a", attrs={"name": True})
    }


def all_pages(site: Path) -> list[Path]:
    return [
        site / "index.html",
        *(page for lang in LANGUAGES for page in sorted((site / lang).rglob("*.html"))),
    ]


def test_links_and_anchors_are_whole(site: Path) -> None:
    broken = []
    for page in all_pages(site):
        for link in links(page, site, read(page)):
            target = local_file(link, site)
            if target is None:
                continue
            file, anchor = target
            if not file.exists() or (file.is_dir() and not (file / "index.html").exists()):
                broken.append(f"{page.relative_to(site)}: {link.written}: no such file")
            elif anchor and file.suffix == ".html" and anchor not in anchors(file):
                broken.append(f"{page.relative_to(site)}: {link.written}: no such anchor")
    assert not broken, "\n".join(broken)


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    outside = [
        f"{page.relative_to(site)}: <{link.tag}> {link.written}"
        for page in all_pages(site)
        for link in links(page, site, read(page))
        if link.tag != "a" and local_file(link, site) is None and not link.written.startswith("data:")
    ]
    assert not outside, "\n".join(outside)


def test_both_editions_have_the_same_pages(site: Path) -> None:
    names = {
        lang: {p.relative_to(site / lang).as_posix().replace(f"/{lang}/", "/*/") for p in pages(site, lang)}
        for lang in LANGUAGES
    }
    assert names["en"] == names["zh"]
    assert len(names["en"]) > 2


def test_every_page_names_its_twin(site: Path) -> None:
    faults = []
    for lang, tag in LANGUAGES.items():
        for page in pages(site, lang):
            soup = read(page)
            other = "zh" if lang == "en" else "en"
            twin = site / page.relative_to(site).as_posix().replace(f"{lang}/", f"{other}/")
            found = {
                link["hreflang"]: (page.parent / link["href"]).resolve()
                for link in soup.select("link[rel=alternate][hreflang]")
            }
            if soup.html["lang"] != tag or found != {tag: page.resolve(), LANGUAGES[other]: twin.resolve()}:
                faults.append(f"{page.relative_to(site)}: {soup.html['lang']} {found}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_contents_list_exactly_what_is_written(lang: str) -> None:
    toc = yaml.safe_load(
        (ROOT / ("_toc.yml" if lang == "en" else "book/zh/_toc.yml")).read_text(encoding="utf-8")
    )
    listed = [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]
    written = [*(ROOT / "book" / lang).glob("*.md"), *(ROOT / "notebooks" / lang).glob("*.ipynb")]
    assert sorted(listed) == sorted(path.relative_to(ROOT).with_suffix("").as_posix() for path in written)


def test_both_contents_are_in_the_same_order() -> None:
    english, chinese = (
        (ROOT / name).read_text(encoding="utf-8") for name in ("_toc.yml", "book/zh/_toc.yml")
    )
    files = [
        [line.strip() for line in text.splitlines() if "file:" in line or "root:" in line]
        for text in (english, chinese)
    ]
    assert [line.replace("/en/", "/zh/") for line in files[0]] == files[1]


def test_both_configurations_agree() -> None:
    english, chinese = (
        yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
        for name in ("_config.yml", "book/zh/_config.yml")
    )
    for config in (english, chinese):
        for key in ("title", "author"):
            config.pop(key)
        config["html"].pop("extra_footer")
        config["sphinx"].pop("local_extensions")
        for key in (
            "language",
            "locale_dirs",
            "togglebutton_hint",
            "togglebutton_hint_hide",
            "nb_code_prompt_show",
            "nb_code_prompt_hide",
        ):
            config["sphinx"]["config"].pop(key, None)
        for key in ("toc_title", "search_bar_text"):
            config["sphinx"]["config"]["html_theme_options"].pop(key, None)
    assert english == chinese


@pytest.mark.parametrize("lang", LANGUAGES)
def test_notebooks_and_sources_can_be_downloaded(site: Path, lang: str) -> None:
    for page in pages(site, lang):
        name = page.relative_to(site / lang).with_suffix("").as_posix()
        suffix = ".ipynb" if name.startswith("notebooks/") else ".md"
        source = site / lang / "_sources" / (name + suffix)
        if name.startswith(("book/", "notebooks/")):
            targets = {
                (page.parent / tag["href"]).resolve()
                for tag in read(page).select("a.btn-download-source-button")
            }
            assert source.exists() and targets == {source.resolve()}, name
