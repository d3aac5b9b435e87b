"""The book itself as a catalogue: its sections, exercises and questions, each in two languages.

The snapshot beside this module does not follow every edit of a page, so that what is measured on it stays as it
is; ``python tools/read_next.py --snapshot`` renews it.
"""

from __future__ import annotations

import json
import re
from importlib.resources import files
from io import StringIO
from pathlib import Path

import pandas as pd

LANGUAGES = ("en", "zh")
COLUMNS = ["page", "kind", "heading_en", "heading_zh", "text_en", "text_zh", "links", "needs"]
KINDS = ("opening", "section", "exercise", "question")
LENGTHS = {"en": 600, "zh": 200}
"""Characters of a text that are kept; about 130 tokens of the packaged encoders in either language."""

_EVERYWHERE = {
    "What we measured", "Exercises", "Quiz", "Take-away", "Further reading", "Verdict",
    "What this does not show", "Limits"
}  # fmt: skip
_HEADING = re.compile(r"^(#{1,2}) +(.+?) *$|^[:`]{3,}\{exercise\} *(.*?) *$", re.MULTILINE)
_FENCE = re.compile(r"^```(?!\{(?:exercise|solution)).*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^\]\n]*)\]\(([^)\s]*)\)")
_MARKUP = re.compile(
    r"^(`{3,}|~{3,}).*?^\1`*$|^\$\$.*?\$\$.*?$|<!--.*?-->|^:{3,}.*?$|^:\w+:.*?$|^\(.*?\)=$|^\|?[ :|-]+\|$"
    r"|\{(?:cite\S*?|measured|ranked|eq|ref|numref)\}`[^`]*`|<[^>\n]+>|\$[^$\n]+\$",
    re.MULTILINE | re.DOTALL,
)
_TERM = re.compile(r"\{\w+\}`([^`<\n]*?) *(?:<[^`\n]*>)?`")


def load_book() -> pd.DataFrame:
    """Return the catalogue as it was when the snapshot was taken.

    Returns
    -------
    DataFrame, a row a section in the book's order: ``page``, ``kind`` (one of `KINDS`), ``heading_en``,
    ``heading_zh``, ``text_en``, ``text_zh`` (prose without formulas, code and links, cut to `LENGTHS`), ``links``
    (pages that the whole section links to, a tuple) and ``needs`` (pages named under "You need"; openings only).
    ``attrs["date"]`` is the day of the snapshot.
    """
    text = files("recsys_lib").joinpath("datasets/book/sections.csv").read_text(encoding="utf-8")
    first, _, rest = text.partition("\n")
    table = pd.read_csv(StringIO(rest), dtype=object, keep_default_na=False)
    for column in ("links", "needs"):
        table[column] = [tuple(value.split()) for value in table[column]]
    table.attrs["date"] = first.removeprefix("# ").split(":")[0]
    return table


def read_book(root: str | Path) -> pd.DataFrame:
    """Read the catalogue from the pages of both editions.

    Parameters
    ----------
    root : str or Path
        The repository, with ``_toc.yml``, ``book/`` and ``notebooks/``.

    Returns
    -------
    DataFrame as of `load_book`, without a date.

    Raises
    ------
    ValueError
        If a page has other sections in one edition than in the other.
    """
    folder = Path(root)
    rows: list[dict[str, object]] = []
    for page in table_of_contents(folder):
        english, chinese = (_sections(_read_page(folder, page, language)) for language in LANGUAGES)
        if [kind for kind, _, _ in english] != [kind for kind, _, _ in chinese]:
            raise ValueError(f"{page}: the two editions have other sections")
        name = Path(page).name
        for (kind, heading, body), (_, heading_zh, body_zh) in zip(english, chinese, strict=True):
            if heading in _EVERYWHERE:
                continue
            opening = kind == "opening"
            row: dict[str, object] = {
                "page": name,
                "kind": "question" if name == "09_faq" and kind == "section" else kind,
                "heading_en": _plain(heading),
                "heading_zh": _plain(heading_zh),
                "text_en": _plain(body, skip_table=opening)[: LENGTHS["en"]].strip(),
                "text_zh": _plain(body_zh, skip_table=opening)[: LENGTHS["zh"]].strip(),
                "links": _pages(body if not opening else _without_table(body), name),
                "needs": _pages(_needs_row(body), name) if opening else (),
            }
            if row["text_en"] and row["text_zh"]:
                rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def table_of_contents(root: str | Path) -> list[str]:
    """Return the pages of ``_toc.yml`` in order, as paths without an ending (English edition)."""
    import yaml

    toc = yaml.safe_load(Path(root, "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]


def to_csv(table: pd.DataFrame, date: str) -> str:
    """Return a catalogue in the snapshot's format, its first line being the date and the numbers."""
    plain = table.copy()
    for column in ("links", "needs"):
        plain[column] = [" ".join(value) for value in plain[column]]
    first = f"# {date}: {len(table)} sections of {table['page'].nunique()} pages\n"
    return first + plain.to_csv(index=False, lineterminator="\n")


def _read_page(root: Path, page: str, language: str) -> str:
    path = root / page.replace("/en/", f"/{language}/")
    if path.with_suffix(".md").exists():
        return re.sub(r"\A---\n.*?\n---\n", "", path.with_suffix(".md").read_text("utf-8"), flags=re.DOTALL)
    cells = json.loads(path.with_suffix(".ipynb").read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def _sections(text: str) -> list[tuple[str, str, str]]:
    """Kind, heading and body of each part of a page; a heading inside a fence of code is none."""
    fenced = [match.span() for match in _FENCE.finditer(text)]
    found = [m for m in _HEADING.finditer(text) if not any(low < m.start() < high for low, high in fenced)]
    parts = []
    for match, end in zip(found, [m.start() for m in found[1:]] + [len(text)], strict=True):
        kind = "exercise" if match[3] is not None else "opening" if len(match[1]) == 1 else "section"
        parts.append((kind, (match[2] or match[3] or "").strip(), text[match.end() : end]))
    return parts


def _without_table(body: str) -> str:
    return "\n".join(line for line in body.splitlines() if not line.lstrip().startswith("|"))


def _needs_row(body: str) -> str:
    lines = [line for line in body.splitlines() if re.match(r"\| \*\*(?:What )?[Yy]ou need", line)]
    return " ".join(lines)


def _pages(body: str, own: str) -> tuple[str, ...]:
    """Names of the book's pages that a text links to, each once, in order."""
    targets = [Path(target.partition("#")[0]) for _, target in _LINK.findall(body) if "://" not in target]
    names = [target.stem for target in targets if target.suffix in (".ipynb", ".md") and target.stem != own]
    return tuple(dict.fromkeys(names))


def _plain(text: str, skip_table: bool = False) -> str:
    """Prose without markup: no code, formula, link, table rule or role."""
    text = _without_table(text) if skip_table else text
    text = _TERM.sub(r"\1", _MARKUP.sub(" ", text))
    text = _LINK.sub(lambda m: "" if not re.match(r"\w+:", m[2]) else m[1], text)
    return re.sub(r"\s+", " ", re.sub(r"[*|`_#]+|\{\w+\}", " ", text)).strip()
