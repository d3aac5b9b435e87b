"""The chain from a check cell to a failing test: a stored value that the run does not reach must fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
CODE = "from recsys_lib.checks import check\ncheck('answer', {value}, about=42, margin=0.5)"


def chapter(value: float, stored: str, tags: list[str]) -> nbformat.NotebookNode:
    """Return a notebook with one executed check cell."""
    output = nbformat.v4.new_output("stream", name="stdout", text=stored)
    cell = nbformat.v4.new_code_cell(CODE.format(value=value), execution_count=1, outputs=[output])
    cell.metadata["tags"] = tags
    return nbformat.v4.new_notebook(cells=[cell])


@pytest.mark.parametrize(
    ("value", "stored", "tags", "code", "message"),
    [
        (42.1, "✓ answer = 42 (expected 42 ± 0.5)\n", ["check"], 0, "1 passed"),
        (42.1, "✓ answer = 41 (expected 42 ± 0.5)\n", ["check"], 1, "answer = 42.1, stored 41"),
        (42.1, "✓ question = 42 (expected 42 ± 0.5)\n", ["check"], 1, "answer is not among the stored"),
        (
            42.1,
            "✓ answer = 42 (expected 42 ± 0.5)\n✓ more = 1 (expected 1 ± 0)\n",
            ["check"],
            1,
            "more is stored",
        ),
        (43, "✓ answer = 42 (expected 42 ± 0.5)\n", ["check"], 1, "answer = 43, expected 42"),
        (42.1, "✓ answer = 41 (expected 42 ± 0.5)\n", [], 0, "1 passed"),
    ],
)
def test_a_chapter_is_held_to_its_stored_values(
    tmp_path: Path, value: float, stored: str, tags: list[str], code: int, message: str
) -> None:
    result = run_chapter(tmp_path, chapter(value, stored, tags))
    assert result.returncode == code, result.stdout + result.stderr
    assert message in result.stdout


@pytest.mark.parametrize(
    ("tags", "accepted", "code", "message"),
    [
        (["check", "accept-gemma"], "", 0, "1 passed"),
        (["check", "accept-gemma"], "gemma", 1, "more is stored, but was not recorded"),
        (["check"], "", 1, "more is stored, but was not recorded"),
    ],
)
def test_values_may_be_missing_only_where_terms_are_not_accepted(
    tmp_path: Path, tags: list[str], accepted: str, code: int, message: str
) -> None:
    stored = "✓ answer = 42 (expected 42 ± 0.5)\n✓ more = 1 (expected 1 ± 0)\n"
    result = run_chapter(tmp_path, chapter(42.1, stored, tags), RECSYS_LIB_ACCEPT=accepted)
    assert result.returncode == code, result.stdout + result.stderr
    assert message in result.stdout


def run_chapter(
    tmp_path: Path, notebook: nbformat.NotebookNode, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a notebook under nbval with the project's conftest."""
    (tmp_path / "conftest.py").write_bytes((ROOT / "conftest.py").read_bytes())
    nbformat.write(notebook, tmp_path / "chapter.ipynb")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--nbval-lax",
        "--nbval-current-env",
        "-p",
        "no:cacheprovider",
    ]
    environment |= {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    return subprocess.run(
        [*command, "chapter.ipynb"], cwd=tmp_path, capture_output=True, text=True, env=environment
    )
