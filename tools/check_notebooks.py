"""Hold every chapter to the book's shape, and the two editions against each other.

    python tools/check_notebooks.py [NOTEBOOKS_DIR]

Prints one row per English chapter, then every finding; the exit status is 1 if there is one, or no chapter.
"""

from __future__ import annotations

import json
import re
import statistics
import sys
from pathlib import Path

MAX_CELL_LINES = 40  # the longest cell allowed
P90_CELL_LINES = 20  # nine cells in ten
MEDIAN_CELL_LINES = 7
MAX_SETUP_LINES = 15  # only the first code cell may be set-up (tag remove-cell)
MAX_CODE_RUN = 2  # code cells in a row without prose; check cells do not count
MIN_WORDS = 900  # of prose, English edition
MIN_CJK_PER_WORD = 0.8  # Chinese characters for each English word
KNOWN_TAGS = {"accept-gemma", "check", "hide-input", "hide-output", "remove-cell", "remove-input", "solution"}
CJK = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff]")
WORD = re.compile(r"[A-Za-z][A-Za-z'-]*")
ROOT = Path(__file__).resolve().parent.parent


def source(cell: dict) -> str:
    """Return a cell's text."""
    text = cell["source"]
    return text if isinstance(text, str) else "".join(text)


def tags(cell: dict) -> list[str]:
    """Return a cell's tags."""
    return sorted(cell.get("metadata", {}).get("tags", []))


def is_prose(cell: dict) -> bool:
    """Say whether a cell is a sentence at least."""
    words = max(len(WORD.findall(source(cell))), len(CJK.findall(source(cell))))
    return cell["cell_type"] == "markdown" and words >= 5


def without_setup(cells: list[dict]) -> list[dict]:
    """Leave out the set-up cell, if the first code cell is one."""
    first = next((c for c in cells if c["cell_type"] == "code"), None)
    is_setup = first and "remove-cell" in tags(first) and len(source(first).splitlines()) <= MAX_SETUP_LINES
    return [c for c in cells if c is not first] if is_setup else cells


def longest_run(cells: list[dict]) -> int:
    """Return how many code cells follow each other without prose, at the most."""
    run = longest = 0
    for cell in cells:
        if cell["cell_type"] == "code" and "check" not in tags(cell):
            run += 1
            longest = max(longest, run)
        elif is_prose(cell):
            run = 0
    return longest


def shape(all_cells: list[dict]) -> dict:
    """Measure a chapter."""
    cells = without_setup(all_cells)
    code = [c for c in cells if c["cell_type"] == "code"]
    lines = sorted(sum(1 for line in source(c).splitlines() if line.strip()) for c in code) or [0]
    prose = "\n".join(source(c) for c in cells if c["cell_type"] == "markdown")
    outputs = [out for c in code for out in c.get("outputs", [])]
    return {
        "code": len(code),
        "median": statistics.median(lines),
        "p90": lines[min(len(lines) - 1, int(0.9 * len(lines)))],
        "max": lines[-1],
        "run": longest_run(cells),
        "words": len(WORD.findall(prose)) + len(CJK.findall(prose)),
        "cjk": len(CJK.findall(prose)),
        "removed": sum("remove-cell" in tags(c) for c in code),
        "errors": sum(out.get("output_type") == "error" for out in outputs),
        "widgets": sum("application/vnd.jupyter.widget-view+json" in out.get("data", {}) for out in outputs),
    }


def pictures_without_text(cells: list[dict]) -> list[str]:
    """Return the ids of the cells whose output is a picture that has no alternative text."""
    shown = [c for c in cells if any("image/png" in out.get("data", {}) for out in c.get("outputs", []))]
    return [c["id"] for c in shown if not c["metadata"].get("mystnb", {}).get("image", {}).get("alt")]


def own_findings(cells: list[dict]) -> list[str]:
    """Return what is wrong with one chapter by itself."""
    s = shape(cells)
    code = [c for c in cells if c["cell_type"] == "code"]
    checks = [c for c in code if "check" in tags(c)]
    unknown = sorted({tag for c in cells for tag in tags(c)} - KNOWN_TAGS)
    missing = pictures_without_text(code)
    rules = (
        (s["max"] > MAX_CELL_LINES, f"a code cell of {s['max']} lines (at most {MAX_CELL_LINES})"),
        (s["p90"] > P90_CELL_LINES, f"p90 of {s['p90']} lines a code cell (at most {P90_CELL_LINES})"),
        (
            s["median"] > MEDIAN_CELL_LINES,
            f"median of {s['median']:g} lines a code cell (at most {MEDIAN_CELL_LINES})",
        ),
        (s["run"] > MAX_CODE_RUN, f"{s['run']} code cells in a row without prose (at most {MAX_CODE_RUN})"),
        (s["words"] < MIN_WORDS, f"{s['words']} words of prose (at least {MIN_WORDS})"),
        (s["removed"] > 0, f"{s['removed']} code cells removed from the page besides the set-up cell"),
        (s["errors"] > 0, f"{s['errors']} saved error outputs"),
        (s["widgets"] > 0, f"{s['widgets']} widget outputs (they draw nothing on a static page)"),
        (not checks, "no check cell"),
        (any("hide-input" not in tags(c) for c in checks), "a check cell without the tag hide-input"),
        (bool(unknown), f"unknown tags {unknown}"),
        (bool(missing), f"pictures without alternative text in cells {missing}"),
    )
    return [text for bad, text in rules if bad]


def twin_findings(en: list[dict], zh: list[dict]) -> list[str]:
    """Return how the Chinese edition of a chapter differs from the English one where it must not."""

    def code(cells: list[dict]) -> list[dict]:
        return [c for c in cells if c["cell_type"] == "code"]

    labels = re.compile(
        r"^\(([\w-]+)\)=|^:label: *(\S+)|\{solution(?:-start)?\} *(\S+)|\$\$ \(([\w-]+)\)", re.MULTILINE
    )
    pairs = (
        ("cell types", [c["cell_type"] for c in en], [c["cell_type"] for c in zh]),
        ("cell ids", [c.get("id") for c in en], [c.get("id") for c in zh]),
        ("tags", [tags(c) for c in en], [tags(c) for c in zh]),
        ("code", [source(c) for c in code(en)], [source(c) for c in code(zh)]),
        ("outputs", [c.get("outputs", []) for c in code(en)], [c.get("outputs", []) for c in code(zh)]),
        ("labels", *([labels.findall(source(c)) for c in cells] for cells in (en, zh))),
        ("pictures with text", pictures_without_text(code(en)), pictures_without_text(code(zh))),
    )
    found = [f"the editions differ in {what}" for what, a, b in pairs if a != b]
    words, cjk = shape(en)["words"], shape(zh)["cjk"]
    if cjk < MIN_CJK_PER_WORD * words:
        found.append(f"{cjk} Chinese characters for {words} English words")
    return found


def cells_of(path: Path) -> list[dict]:
    """Return the cells of a notebook file."""
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def chapter_files(folder: Path) -> dict[str, Path]:
    """Return the notebooks of one edition, by name."""
    return {path.name: path for path in sorted(folder.glob("*.ipynb"))}


def findings(folder: Path) -> list[str]:
    """Return everything that is wrong under a folder of notebooks."""
    en, zh = chapter_files(folder / "en"), chapter_files(folder / "zh")
    found = [] if en else [f"no notebook under {folder}/en"]
    for name, path in en.items():
        cells = cells_of(path)
        found += [f"en/{name}: {text}" for text in own_findings(cells)]
        if name in zh:
            found += [f"zh/{name}: {text}" for text in twin_findings(cells, cells_of(zh[name]))]
        else:
            found.append(f"en/{name}: no Chinese twin")
    return found + [f"zh/{name}: no English twin" for name in zh if name not in en]


def main() -> int:
    """Run the command."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "notebooks"
    print(f"{'chapter':36} code  med  p90  max  run  words")
    for name, path in chapter_files(folder / "en").items():
        s = shape(cells_of(path))
        print(
            f"{name[:36]:36} {s['code']:4} {s['median']:4g} {s['p90']:4} {s['max']:4} {s['run']:4} {s['words']:6}"
        )
    found = findings(folder)
    print("\n".join(["", *found]) if found else "\nno findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
