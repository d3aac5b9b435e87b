"""Both editions of a chapter in one text file: write it there, save it as two notebooks.

    python tools/sidebyside.py show 05_1_code_walkthrough > chapter.txt
    python tools/sidebyside.py save 05_1_code_walkthrough chapter.txt

The text is a list of cells. Prose holds both languages; code is written once. For example:

    %%% book data=movielens-100k models=all-MiniLM-L6-v2
    %%% md opening
    %% en
    # 1 Background
    %% zh
    # 1 背景介绍
    %%% code first_table tags=hide-input
    %% caption.en
    The first table.
    %% caption.zh
    第一张表。
    %% alt.en
    A table of five models.
    %% alt.zh
    五个模型的表格。
    %% code
    report

A cell of prose without `%% en` is the same in both editions. The word after md or code is the cell's id.
Stored outputs stay with every cell whose code did not change.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import nbformat

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
LANGUAGES = ("en", "zh")


def parse(text: str) -> tuple[dict[str, list[str]], list[dict]]:
    """Return the chapter's facts (data, models) and its cells, each with its parts by name."""
    facts: dict[str, list[str]] = {}
    cells: list[dict] = []
    part: list[str] = []
    for line in text.splitlines():
        if line.startswith("%%% "):
            kind, *words = line[4:].split()
            options = dict(word.split("=", 1) for word in words if "=" in word)
            if kind == "book":
                facts = {key: value.split(",") for key, value in options.items() if value}
                continue
            if kind not in ("md", "code") or not words or "=" in words[0]:
                raise SystemExit(f"not a cell: {line}")
            tags = options["tags"].split(",") if options.get("tags") else []
            cells.append({"kind": kind, "id": words[0], "tags": tags, "parts": {"all": []}})
            part = cells[-1]["parts"]["all"]
        elif line.startswith("%% ") and cells and len(line.split()) == 2:
            part = cells[-1]["parts"].setdefault(line.split()[1], [])
        else:
            part.append(line)
    for cell in cells:
        cell["parts"] = {name: "\n".join(lines).strip("\n") for name, lines in cell["parts"].items()}
    ids = [cell["id"] for cell in cells]
    if len(set(ids)) != len(ids):
        raise SystemExit(f"cell ids occur twice: {sorted({i for i in ids if ids.count(i) > 1})}")
    return facts, cells


def figure_metadata(parts: dict[str, str], language: str) -> dict:
    """Return the metadata by which the book draws a caption and an alternative text under an output."""
    found: dict = {}
    if f"alt.{language}" in parts:
        found["image"] = {"alt": " ".join(parts[f"alt.{language}"].split())}
    if f"caption.{language}" in parts:
        found["figure"] = {"caption": parts[f"caption.{language}"]}
    return {"mystnb": found} if found else {}


def notebook(facts: dict, cells: list[dict], language: str, old: nbformat.NotebookNode | None):
    """Return one edition's notebook, with the outputs of the old one where the code is the same."""
    stored = {c.source: c for c in old.cells if c.cell_type == "code"} if old else {}
    made = nbformat.v4.new_notebook()
    made.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "book": facts,
    }
    for cell in cells:
        parts = cell["parts"]
        metadata = {"tags": cell["tags"]} if cell["tags"] else {}
        if cell["kind"] == "md":
            source = parts.get(language, parts["all"])
            made.cells.append(nbformat.v4.new_markdown_cell(source, id=cell["id"], metadata=metadata))
            continue
        source = parts.get("code", parts["all"])
        metadata |= figure_metadata(parts, language)
        new = nbformat.v4.new_code_cell(source, id=cell["id"], metadata=metadata)
        if source in stored:
            new.outputs = stored[source].outputs
            new.execution_count = stored[source].execution_count
        made.cells.append(new)
    return made


def save(name: str, text: str, folder: Path = NOTEBOOKS) -> None:
    """Write both notebooks of a chapter."""
    facts, cells = parse(text)
    for language in LANGUAGES:
        path = folder / language / f"{name}.ipynb"
        old = nbformat.read(folder / "en" / f"{name}.ipynb", as_version=4) if path.exists() else None
        made = notebook(facts, cells, language, old)
        nbformat.validate(made)
        nbformat.write(made, path)


def show(name: str, folder: Path = NOTEBOOKS) -> str:
    """Return a chapter's two notebooks as one text."""
    en, zh = (nbformat.read(folder / language / f"{name}.ipynb", as_version=4) for language in LANGUAGES)
    facts = en.metadata.get("book", {})
    lines = ["%%% book " + " ".join(f"{key}={','.join(value)}" for key, value in facts.items())]
    for a, b in zip(en.cells, zh.cells, strict=True):
        tags = a.metadata.get("tags", [])
        kind = "md" if a.cell_type == "markdown" else "code"
        lines.append(f"%%% {kind} {a.id}" + (f" tags={','.join(tags)}" if tags else ""))
        if kind == "md":
            lines += [a.source] if a.source == b.source else ["%% en", a.source, "%% zh", b.source]
            continue
        for language, cell in zip(LANGUAGES, (a, b), strict=True):
            shown = cell.metadata.get("mystnb", {})
            if "figure" in shown:
                lines += [f"%% caption.{language}", shown["figure"]["caption"]]
            if "image" in shown:
                lines += [f"%% alt.{language}", shown["image"]["alt"]]
        lines += ["%% code", a.source]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("command", choices=["show", "save"])
    parser.add_argument("name", help="the chapter, for example 05_1_code_walkthrough")
    parser.add_argument("file", nargs="?", type=Path, help="the text to save")
    args = parser.parse_args()
    if args.command == "show":
        sys.stdout.write(show(args.name))
    elif args.file is None:
        parser.error("save needs a file")
    else:
        save(args.name, args.file.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
