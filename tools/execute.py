"""Run chapters in fresh kernels, store their outputs in both editions, and bring status.json up to date.

    python tools/execute.py [NAME ...]        default: every chapter whose outputs are stale
    python tools/execute.py --all

status.json keeps, for each chapter, the run time, the values recorded by its check cells, and a hash of all
that the outputs came from: the chapter's code, the library modules it imports, the pinned versions of the
packages that compute, and the checksums of the resources (they stand in the library).
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path

import nbformat
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
STATUS = ROOT / "status.json"
LIBRARY = ROOT / "recsys_lib"
COMPUTING = ("numpy", "pandas", "scipy", "scikit-learn", "torch", "transformers", "tokenizers", "matplotlib")
QUIET = {
    "OMP_NUM_THREADS": "1",
    "TQDM_DISABLE": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONWARNINGS": "ignore",
}


def chapters() -> list[str]:
    """Return the names of all chapters, in the book's order."""
    return sorted(path.stem for path in (NOTEBOOKS / "en").glob("*.ipynb"))


def read(name: str, language: str = "en") -> nbformat.NotebookNode:
    """Return one notebook."""
    return nbformat.read(NOTEBOOKS / language / f"{name}.ipynb", as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Return the code cells of a notebook."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def module_path(name: str) -> Path | None:
    """Return the file of a library module, or None if there is none of that name."""
    base = LIBRARY.joinpath(*name.split(".")[1:])
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file() and name.split(".")[0] == "recsys_lib":
            return path
    return None


def imported_modules(tree: ast.AST, package: str = "") -> set[str]:
    """Return the library modules that a piece of code imports (names inside a module are not followed)."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parent = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parent, *([node.module] if node.module else [])])
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return {name for name in found if module_path(name)}


def library_of(names: set[str]) -> dict[str, str]:
    """Return the modules that are reached from some modules, each with its code without docstrings."""
    reached: dict[str, str] = {}
    todo = set(names)
    while todo:
        name = todo.pop()
        path = module_path(name)
        if path is None or name in reached:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        todo |= imported_modules(tree, package)
        todo |= {name.rpartition(".")[0]} if "." in name else set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
                node, clean=False
            ):
                node.body = node.body[1:] or [ast.Pass()]
        reached[name] = ast.unparse(tree)
    return reached


def fingerprint(notebook: nbformat.NotebookNode) -> str:
    """Return a hash of all that a chapter's outputs came from."""
    sources = [cell.source for cell in code_cells(notebook)]
    plain = "\n".join(
        line for source in sources for line in source.splitlines() if not line.lstrip().startswith("%")
    )
    modules = library_of(imported_modules(ast.parse(plain)))
    pins = [
        line.strip()
        for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
        if re.split(r"[=<>;\s]", line)[0] in COMPUTING
    ]
    install = [
        source
        for source in sources
        if "import recsys_lib" not in source or "except ImportError" not in source
    ]
    text = json.dumps([install, sorted(modules.items()), sorted(pins)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def printed(cell: nbformat.NotebookNode) -> str:
    """Return what a cell printed."""
    return "".join(out.text for out in cell.outputs if out.output_type == "stream" and out.name == "stdout")


def recorded(notebook: nbformat.NotebookNode) -> dict[str, dict[str, float]]:
    """Return the values that a chapter's check cells recorded, by name."""
    from recsys_lib.checks import read_checks

    text = "\n".join(printed(cell) for cell in code_cells(notebook))
    return {name: values._asdict() for name, values in read_checks(text).items()}


def run(name: str) -> dict:
    """Execute one chapter in a fresh kernel, store its outputs in both editions, and return its status."""
    from nbclient import NotebookClient

    from recsys_lib.resources import RESOURCES, how_to_accept, is_accepted

    english = read(name)
    for model in english.metadata.get("book", {}).get("models", []):
        if model in RESOURCES and not is_accepted(model):  # its values would be missing
            raise SystemExit(how_to_accept(model))
    started = time.perf_counter()
    folder = str(NOTEBOOKS / "en")
    place = {"metadata": {"path": folder}}
    NotebookClient(
        english, timeout=1200, kernel_name="python3", coalesce_streams=True, resources=place
    ).execute()
    seconds = time.perf_counter() - started
    for cell in code_cells(english):
        cell.metadata.pop("execution", None)
        cell.outputs = [
            out for out in cell.outputs if not (out.output_type == "stream" and out.name == "stderr")
        ]
    english.metadata["language_info"] = {"name": "python"}
    nbformat.write(english, NOTEBOOKS / "en" / f"{name}.ipynb")
    chinese = read(name, "zh")
    for mine, theirs in zip(code_cells(english), code_cells(chinese), strict=True):
        theirs.source, theirs.outputs, theirs.execution_count = (
            mine.source,
            mine.outputs,
            mine.execution_count,
        )
    nbformat.write(chinese, NOTEBOOKS / "zh" / f"{name}.ipynb")
    return describe(english) | {"seconds": round(seconds, 1)}


def describe(notebook: nbformat.NotebookNode) -> dict:
    """Return what the status page says of a chapter, but for its run time."""
    cells = code_cells(notebook)
    compared = [c for c in cells if "check" in c.metadata.get("tags", []) or "NBVAL_CHECK_OUTPUT" in c.source]
    facts = notebook.metadata.get("book", {})
    return {
        "hash": fingerprint(notebook),
        "code_cells": len(cells),
        "compared": len(compared),
        "data": facts.get("data", []),
        "models": facts.get("models", []),
        "checks": recorded(notebook),
    }


def load_status() -> dict[str, dict]:
    """Return the stored status of every chapter, by name."""
    return json.loads(STATUS.read_text(encoding="utf-8"))["chapters"] if STATUS.exists() else {}


def store_status(name: str, found: dict) -> None:
    """Write one chapter's status beside the others', which another run may be writing too."""
    with FileLock(STATUS.with_suffix(".lock")):
        status = load_status() | {name: found}
        kept = {chapter: status[chapter] for chapter in sorted(status) if chapter in chapters()}
        text = json.dumps({"chapters": kept}, indent=1, ensure_ascii=False) + "\n"
        STATUS.write_text(text, encoding="utf-8")


def is_stale(name: str, status: dict[str, dict]) -> bool:
    """Say whether a chapter's outputs came from something else than what is there now."""
    return status.get(name, {}).get("hash") != fingerprint(read(name))


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="chapters, for example 05_1_code_walkthrough")
    parser.add_argument("--all", action="store_true", help="run every chapter")
    args = parser.parse_args()
    os.environ.update(QUIET)
    os.environ["PYTHONPATH"] = str(ROOT)
    sys.path.insert(0, str(ROOT))
    status = load_status()
    wanted = chapters() if args.all else args.names or [name for name in chapters() if is_stale(name, status)]
    for name in wanted:
        print(f"{name} ...", end=" ", flush=True)
        found = run(name)
        store_status(name, found)
        print(f"{found['seconds']} s, {len(found['checks'])} values recorded")
    if not wanted:
        print("every chapter's outputs are up to date (--all runs them anyway)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
