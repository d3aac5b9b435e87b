"""The built site in a browser that reaches no other host: what a reader sees, on a screen and on a phone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from site_pages import LANGUAGES, ROOT, SearchIndex, block_texts, pages, query_words, written_pages
from test_search_index import random_phrases

playwright = pytest.importorskip("playwright.sync_api")
AXE = (ROOT / "tests/book/vendor/axe.min.js").read_text(encoding="utf-8")
SCREENS = {"screen": (1280, 900, "light", "dark"), "phone": (390, 844, "dark", "light")}

SETTLE = """async () => {
  document.querySelectorAll('details').forEach(details => { details.open = true });
  document.querySelectorAll('.toggle-button.toggle-button-hidden').forEach(button => button.click());
  await Promise.all([...document.images].map(image => image.decode().catch(() => null)));
  if (window.MathJax?.startup) await MathJax.startup.promise;
}"""
DIAGRAMS_DRAWN = """() => [...document.querySelectorAll('pre.mermaid')].every(diagram =>
  !diagram.getClientRects().length || diagram.dataset.processed === 'true' && diagram.querySelector('svg > desc'))"""
FAULTS = """() => {
  const faults = [];
  for (const math of document.querySelectorAll('.math')) {
    if (!math.querySelector('mjx-container')) faults.push('formula not drawn: ' + math.textContent);
    if (math.querySelector('mjx-merror, mjx-mtext[style*="red"]')) faults.push('bad formula: ' + math.textContent);
  }
  for (const diagram of document.querySelectorAll('pre.mermaid')) {
    const svg = diagram.querySelector('svg');
    if (!svg || svg.getAttribute('aria-roledescription') === 'error') faults.push('diagram not drawn: ' + diagram.textContent);
    else if (!svg.querySelector('title') || !svg.querySelector('desc')) faults.push('diagram without accTitle and accDescr');
  }
  for (const image of document.querySelectorAll('article img')) {
    if (!image.complete || !image.naturalWidth) faults.push('image not shown: ' + image.src);
    if (!image.alt.trim()) faults.push('image without alternative text: ' + image.src);
  }
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width) faults.push('page scrolls sideways: ' + document.documentElement.scrollWidth);
  const scrolls = element => element
    && (['auto', 'scroll', 'hidden'].includes(getComputedStyle(element).overflowX) || scrolls(element.parentElement));
  for (const element of document.querySelectorAll('article :is(p, pre, table, img, svg, .math, ul, ol, dl, details)')) {
    const box = element.getBoundingClientRect();
    const out = box.width && box.right > width + 1 && !scrolls(element.parentElement);
    if (out) faults.push('sticks out: ' + element.outerHTML.slice(0, 120));
  }
  return faults;
}"""
AXE_RUN = """async () => (await axe.run(document, {resultTypes: ['violations']})).violations.map(
  fault => fault.id + ' (' + fault.impact + '): ' + fault.nodes.map(node => node.html.slice(0, 160)).slice(0, 3).join(' | '))"""


@contextmanager
def open_page(
    browser, address: str, width: int = 1280, height: int = 900, scheme: str = "light"
) -> Iterator[tuple]:
    """A page of a fresh browser, and the list of what went wrong on it; every other host is blocked."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, reduced_motion="reduce"
    )
    faults: list[str] = []
    context.route(
        "**/*", lambda route: route.continue_() if route.request.url.startswith(address) else route.abort()
    )
    page = context.new_page()
    page.on(
        "console",
        lambda message: (
            faults.append(f"console: {message.text}") if message.type in ("error", "warning") else None
        ),
    )
    page.on("pageerror", lambda error: faults.append(f"script error: {error}"))
    # a request that the reader's next click cut short is no fault
    page.on(
        "requestfailed",
        lambda request: (
            faults.append(f"request failed: {request.url}") if request.failure != "net::ERR_ABORTED" else None
        ),
    )
    page.on(
        "response",
        lambda answer: faults.append(f"{answer.status}: {answer.url}") if answer.status >= 400 else None,
    )
    yield page, faults
    context.close()


def wait_for_diagrams(page) -> None:
    """Wait until all diagrams are drawn; one that is not after ten seconds is found by what looks at it next."""
    with suppress(playwright.TimeoutError):
        page.wait_for_function(DIAGRAMS_DRAWN, timeout=10_000)


def visit(page, url: str) -> None:
    """Open a page, wait until all is drawn, and open everything that folds."""
    page.goto(url)
    page.evaluate(SETTLE)
    wait_for_diagrams(page)


def accessibility_faults(page, scheme: str) -> list[str]:
    """What axe-core finds with a colour scheme, once the page has changed to it."""
    page.emulate_media(color_scheme=scheme)
    page.wait_for_function(
        f"!document.documentElement.dataset.theme || document.documentElement.dataset.theme === '{scheme}'"
    )
    wait_for_diagrams(page)
    if not page.evaluate("typeof axe !== 'undefined'"):
        page.evaluate(AXE)
    return [f"{scheme}: {fault}" for fault in page.evaluate(AXE_RUN)]


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_page_is_whole_and_accessible(
    site: Path, address: str, browser, language: str, screen: str
) -> None:
    width, height, *schemes = SCREENS[screen]
    wrong = []
    with open_page(browser, address, width, height, schemes[0]) as (page, faults):
        for path in [*pages(site, language), *([site / "index.html"] if language == "en" else [])]:
            name = path.relative_to(site).as_posix()
            page.emulate_media(color_scheme=schemes[0])
            visit(page, address + name)
            faults += page.evaluate(FAULTS)
            for scheme in schemes:
                faults += accessibility_faults(page, scheme)
            wrong += [f"{name}: {fault}" for fault in faults]
            faults.clear()
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("language", LANGUAGES)
def test_language_switch_leads_there_and_back(site: Path, address: str, browser, language: str) -> None:
    other = "zh" if language == "en" else "en"
    chapter = written_pages(site, language)[-1].relative_to(site).as_posix()
    kinds = [
        f"{language}/{name}.html"
        for name in ("genindex", "search", f"book/{language}/index", f"book/{language}/glossary")
    ]
    with open_page(browser, address) as (page, faults):
        for name in [*kinds, chapter]:
            page.goto(address + name)
            page.click("a.lang-switch")
            page.wait_for_url(address + name.replace(f"{language}/", f"{other}/"))
            assert page.evaluate("document.documentElement.lang") == LANGUAGES[other]
            page.click("a.lang-switch")
            page.wait_for_url(address + name)
            assert page.evaluate("document.documentElement.lang") == LANGUAGES[language]
        assert not faults


def test_chooser_leads_to_both_editions(address: str, browser) -> None:
    with open_page(browser, address) as (page, faults):
        for language, tag in LANGUAGES.items():
            page.goto(address)
            page.click(f"a[hreflang='{tag}']")
            page.wait_for_url(f"{address}{language}/book/{language}/index.html")
            page.goto(f"{address}{language}/")
            page.wait_for_url(f"{address}{language}/book/{language}/index.html")
        assert not faults


def sample_queries(site: Path, language: str) -> list[str]:
    """A few phrases of the edition: Chinese ones from anywhere, English ones of two words from headings."""
    texts = {path.as_posix(): "\n".join(block_texts(path)) for path in written_pages(site, language)}
    if language == "zh":
        return random_phrases(texts, 6, seed=1)
    words = [
        word
        for text in texts.values()
        for word in text.split()
        if word.isascii() and word.isalpha() and len(word) > 4
    ]
    return random.Random(1).sample(sorted(set(words)), 4)


@pytest.mark.parametrize("language", LANGUAGES)
def test_search_typed_by_a_reader(site: Path, address: str, browser, language: str) -> None:
    index = SearchIndex(site, language)
    with open_page(browser, address) as (page, faults):
        for query in sample_queries(site, language):
            page.goto(f"{address}{language}/book/{language}/index.html")
            page.click(".search-button-field")
            page.fill("#pst-search-dialog input[type=search]", query)
            page.keyboard.press("Enter")
            expected = [f"/{language}/{name}.html" for name in index.find(query)]
            assert expected, query
            page.wait_for_function(
                """names => {
                const found = new Set([...document.querySelectorAll('#search-results ul.search li a')].map(a => a.pathname));
                return names.every(name => found.has(name));
            }""",
                arg=expected,
            )
        assert not faults


@pytest.mark.parametrize("language", LANGUAGES)
def test_browser_reads_queries_as_the_index_test_does(
    site: Path, address: str, browser, language: str
) -> None:
    texts = {path.as_posix(): "\n".join(block_texts(path)) for path in written_pages(site, language)}
    queries = [
        "leave-one-out",
        "NDCG@10 of BERT",
        "the α of 2 items",
        "用BERT做 top-10 推荐",
        "双塔 模型",
        "词",
    ]
    if language == "zh":
        queries += random_phrases(texts, 100, seed=2)
    read_query = """queries => queries.map(query => [...Search._parseQuery(query)[1]])"""
    with open_page(browser, address) as (page, faults):
        page.goto(f"{address}{language}/search.html")
        for query, words in zip(queries, page.evaluate(read_query, queries), strict=True):
            assert words == list(dict.fromkeys(query_words(query, language))), query
        assert not faults


def test_theme_button_changes_the_colours(address: str, browser) -> None:
    with open_page(browser, address) as (page, faults):
        page.goto(f"{address}en/book/en/index.html")
        seen = set()
        for _ in range(3):
            page.click(".theme-switch-button")
            seen.add(page.evaluate("document.documentElement.dataset.theme"))
        assert seen == {"light", "dark"}
        assert not faults


@pytest.mark.parametrize("language", LANGUAGES)
def test_leaderboard_sorts_and_filters(address: str, browser, language: str) -> None:
    shown = """() => [...document.querySelectorAll('.leaderboard tbody tr')].filter(row => row.getClientRects().length)
      .map(row => ({protocol: row.dataset.protocol, name: row.querySelector('th').textContent,
        value: row.cells[2].dataset.value}))"""
    with open_page(browser, address) as (page, faults):
        page.goto(f"{address}{language}/book/{language}/leaderboard.html")
        page.wait_for_selector(".leaderboard th[data-key=model] button")
        first = page.evaluate(shown)
        assert len(first) > 10 and {row["protocol"] for row in first} == {"leave_one_out"}
        values = [float(row["value"]) for row in first]
        assert values == sorted(values, reverse=True)
        head = page.locator(".leaderboard th[data-key=ndcg]")
        for order in ("descending", "ascending"):
            head.get_by_role("button").focus()
            page.keyboard.press("Enter")
            assert head.get_attribute("aria-sort") == order
            assert page.locator(".leaderboard th[aria-sort]").count() == 1
        assert [float(row["value"]) for row in page.evaluate(shown)] == sorted(values)
        protocol = page.locator(".leaderboard th[data-key=protocol]")
        assert not protocol.is_visible()
        page.select_option(".leaderboard select", "")
        assert protocol.is_visible()
        everything = page.evaluate(shown)
        assert {row["protocol"] for row in everything} > {"leave_one_out", "cold_items"}
        page.fill(".leaderboard input", "ease minilm")
        some = page.evaluate(shown)
        assert 0 < len(some) < len(everything)
        assert all("EASE" in row["name"] and "MiniLM" in row["name"] for row in some)
        assert page.locator(".leaderboard output").text_content().startswith(f"{len(some)} ")
        assert not faults
