"""Stars that were meant as bold and show as stars: CommonMark reads `**` by the characters beside it.

The trap is `**（…）**` beside a Chinese character, which no rule of CommonMark calls bold.
"""

from __future__ import annotations

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
