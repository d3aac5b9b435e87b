"""The Markdown as a reader sees it: bold that does not render, and chapters called by another one's number.

CommonMark reads `**` by the characters beside it. The trap is `**（…）**` beside a Chinese character, which no
rule calls bold: the stars stay.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import yaml
from markdown_it.renderer import RendererHTML
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser

ROOT = Path(__file__).resolve().parents[2]
EXTENSIONS = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["parse"][
    "myst_enable_extensions"
]
PARSER = create_md_parser(MdParserConfig(enable_extensions=set(EXTENSIONS)), RendererHTML)
NO_PROSE = ("code", "math", "mermaid", "raw", "eval-rst", "bibliography", "toctree", "literalinclude")
FILES = sorted(
    path
    for folder, pattern in (
        ("notebooks/en", "*.ipynb"),
        ("notebooks/zh", "*.ipynb"),
        ("book/en", "*.md"),
        ("book/zh", "*.md"),
        ("book", "glossary.yml"),
        (".", "*.md"),
    )
    for path in (ROOT / folder).glob(pattern)
)


def loose_stars(text: str) -> Iterator[str]:
    """Yield the pieces of text of a Markdown source that still hold `**` once it is rendered."""
    for token in PARSER.parse(text):
        if token.type in ("fence", "colon_fence"):
            name, _, title = token.info.strip().partition("}")
            if name.startswith("{") and not name[1:].startswith(NO_PROSE):
                yield from loose_stars(title)
                yield from loose_stars(token.content)
        elif token.type == "html_block" and "**" in token.content:
            yield token.content
        for child in token.children or ():
            if child.type in ("text", "html_inline") and "**" in child.content:
                yield child.content


def prose(path: Path) -> Iterator[str]:
    """Yield the Markdown of a notebook (cells and captions), a page or the glossary."""
    if path.suffix == ".ipynb":
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "markdown":
                yield cell.source
            yield cell.metadata.get("mystnb", {}).get("figure", {}).get("caption", "")
    elif path.suffix == ".yml":
        yield from (
            str(v) for term in yaml.safe_load(path.read_text(encoding="utf-8")) for v in term.values()
        )
    else:
        yield path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_bold_is_bold(path: Path) -> None:
    found = [text for source in prose(path) for text in loose_stars(source)]
    assert not found, "these stars are shown to the reader: " + " | ".join(found)


@pytest.mark.parametrize(
    ("text", "loose"),
    [
        ("这是**（重点）**内容", True),
        ("这是**“重点”**中", True),
        ("他说：**好。**然后", True),
        ("| a |\n|---|\n| 用**（一）**的 |", True),
        (":::{note}\n用**（一）**的\n:::", True),
        (":::{admonition} 用**（一）**的\n正文\n:::", True),
        ("::::{note}\n:::{tip}\n用**（一）**的\n:::\n::::", True),
        ("<summary>1. **是**</summary>", True),
        ("这是**重点**内容，**重点**。", False),
        ("这是 **（重点）** 内容", False),
        ("`2 ** 3` and $a^{**}$", False),
        ("```python\nf(**options)\n```", False),
        ("```{code-block} python\nf(**options)\n```", False),
        (":::{note}\n**重点**。\n:::", False),
    ],
)
def test_the_check_itself(text: str, loose: bool) -> None:
    assert bool(list(loose_stars(text))) == loose


# what leads to a chapter, called by a number: [section 3.7](03_7_x.ipynb), [第 3.7 节](03_7_x.ipynb), [3.7](03_7_x.ipynb)
LINK = re.compile(
    r"\[(?:(?:section|chapter) |第 ?)?(\d+(?:\.\d+)?)(?:[^\w\]][^\]]*)?\]\((?:[./]*notebooks/\w\w/)?(\d\d_\w+)\.ipynb",
    re.IGNORECASE,
)


@functools.cache
def title_numbers(name: str) -> set[str]:
    """Return the numbers a chapter may be called by: those in its title, "4.1–4.2 …" and "5 …" for 5.1 too."""
    cells = nbformat.read(ROOT / "notebooks/en" / f"{name}.ipynb", as_version=4).cells
    title = re.search(
        r"^# (.*?)(?::|$)", "\n".join(c.source for c in cells if c.cell_type == "markdown"), re.M
    )
    assert title, f"{name} has no title"
    return set(re.findall(r"\d+(?:\.\d+)?", title[1])) | {name[:4].replace("_", ".").lstrip("0")}


def wrong_numbers(text: str) -> list[str]:
    """Return the links of a Markdown text that call a chapter by a number not its own."""
    return [m[0] for m in LINK.finditer(text) if m[1] not in title_numbers(m[2])]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_chapters_are_called_by_their_own_number(path: Path) -> None:
    assert [link for source in prose(path) for link in wrong_numbers(source)] == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("see [section 3.3](03_7_strengths_and_limits.ipynb)", True),
        ("见[第 3.3 节](03_7_strengths_and_limits.ipynb)", True),
        ("[chapter 8.1](../../notebooks/en/08_2_cost.ipynb)", True),
        ("see [section 3.7](03_7_strengths_and_limits.ipynb)", False),
        ("见[第 4.2 节](04_1_embeddings_and_cosine.ipynb)和[3.7](03_7_strengths_and_limits.ipynb)", False),
        ("[two layers, 3.3 times](03_7_strengths_and_limits.ipynb)", False),
    ],
)
def test_the_check_of_numbers_itself(text: str, wrong: bool) -> None:
    assert bool(wrong_numbers(text)) == wrong
