"""The chapters: their shape, their two editions, their stored outputs, and the numbers in their prose."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import check_notebooks
import execute
import prose_numbers
import sidebyside

CHAPTERS = execute.chapters()
ALLOWED = yaml.safe_load((ROOT / "tests/book/allowed_numbers.yml").read_text(encoding="utf-8")) or {}


def test_shape_and_editions() -> None:
    assert check_notebooks.findings(ROOT / "notebooks") == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_outputs_are_not_stale(name: str) -> None:
    status = execute.load_status()
    assert name in status, f"{name} was never executed: make execute NB={name}"
    facts = execute.describe(execute.read(name))
    stored = {key: status[name][key] for key in facts}
    assert stored == facts, (
        f"the outputs of {name} are older than what they came from: make execute NB={name}"
    )
    counts = [cell.execution_count for cell in execute.code_cells(execute.read(name))]
    assert counts == list(range(1, len(counts) + 1)), (
        f"{name} was not run from top to bottom in a fresh kernel"
    )


def test_status_lists_the_chapters() -> None:
    assert sorted(execute.load_status()) == CHAPTERS


@pytest.mark.parametrize("language", sidebyside.LANGUAGES)
@pytest.mark.parametrize("name", CHAPTERS)
def test_prose_numbers_were_measured(name: str, language: str) -> None:
    notebook = execute.read(name, language)
    values = [recorded["value"] for recorded in execute.recorded(execute.read(name)).values()]
    allowed = set(ALLOWED.get(name, {}))
    loose = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            found = prose_numbers.decimals(cell.source)
            loose += [
                f"{n} in cell {cell.id}"
                for n in found
                if n not in allowed and not prose_numbers.is_measured(n, values)
            ]
    assert not loose, "no check cell records these numbers: " + "; ".join(loose)


@pytest.mark.parametrize("page", sorted(p.relative_to(ROOT).as_posix() for p in ROOT.glob("book/*/*.md")))
def test_pages_print_no_number_by_hand(page: str) -> None:
    allowed = set(ALLOWED.get(Path(page).stem, {}))
    found = prose_numbers.decimals((ROOT / page).read_text(encoding="utf-8"))
    assert [n for n in found if n not in allowed] == [], (
        "print it by the role {measured}, or allow it with a reason"
    )


def test_allowed_numbers_have_reasons_and_are_used() -> None:
    for name, numbers in ALLOWED.items():
        if name in CHAPTERS:
            cells = [c for language in sidebyside.LANGUAGES for c in execute.read(name, language).cells]
            texts = [c.source for c in cells if c.cell_type == "markdown"]
        else:
            texts = [p.read_text(encoding="utf-8") for p in ROOT.glob(f"book/*/{name}.md")]
        used = {n for text in texts for n in prose_numbers.decimals(text)}
        assert set(numbers) <= used, f"{name}: allowed but not used: {sorted(set(numbers) - used)}"
        assert all(isinstance(reason, str) and len(reason) > 10 for reason in numbers.values())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("it reaches .044 and 12.5% of 0.38", [".044", "12.5%", "0.38"]),
        ("see section 4.1, chapter 5.2, 第 4.1 节, [5.1 Code](x.ipynb) and §3.2", []),
        ("# 4.1 Title\nversion `1.2` costs $0.5x$ and\n```\n0.7\n```\n$$\n0.3\n$$ (eq)\n", []),
        ("the shop (CC BY 4.0), the model (Apache-2.0)（CC BY 4.0）", []),
        ("Python 3.11+, arXiv 1810.04805, {cite}`a.1` <https://x.org/1.2>", ["3.11", "1810.04805"]),
        ("−0.02 到 0.05 之间，约 3.5 倍。", ["0.02", "0.05", "3.5"]),
    ],
)
def test_decimals_are_found(text: str, expected: list[str]) -> None:
    assert prose_numbers.decimals(text) == expected


@pytest.mark.parametrize(
    ("number", "values", "measured"),
    [
        ("0.044", [0.04432], True),
        (".044", [0.04432], True),
        ("0.045", [0.04432], False),
        ("12.5%", [0.1249], True),
        ("12.5%", [12.52], True),
        ("12.5", [0.125], False),
        ("0.02", [-0.0213], True),
        ("0.13", [0.125], True),
        ("0.12", [0.125], True),
    ],
)
def test_is_measured(number: str, values: list[float], measured: bool) -> None:
    assert prose_numbers.is_measured(number, values) is measured


def test_side_by_side_returns_the_same_notebooks(tmp_path: Path) -> None:
    for name in CHAPTERS:
        for language in sidebyside.LANGUAGES:
            (tmp_path / language).mkdir(exist_ok=True)
            source = ROOT / "notebooks" / language / f"{name}.ipynb"
            (tmp_path / language / f"{name}.ipynb").write_bytes(source.read_bytes())
        sidebyside.save(name, sidebyside.show(name), tmp_path)
        for language in sidebyside.LANGUAGES:
            before, after = (
                check_notebooks.cells_of(folder / language / f"{name}.ipynb")
                for folder in (ROOT / "notebooks", tmp_path)
            )
            assert before == after


def test_fingerprint_sees_code_and_library_but_not_docstrings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat

    library = tmp_path / "recsys_lib"
    (library / "models").mkdir(parents=True)
    (library / "__init__.py").write_text('"""Top."""\n')
    (library / "models" / "__init__.py").write_text("from .one import f\n")
    (library / "models" / "one.py").write_text(
        'from ..two import g\n\n\ndef f():\n    """Doc."""\n    return g()\n'
    )
    (library / "two.py").write_text("def g():\n    return 1\n")
    (library / "three.py").write_text("x = 1\n")
    (tmp_path / "requirements.txt").write_text("numpy==1.0\nruff==1.0\n")
    monkeypatch.setattr(execute, "LIBRARY", library)
    monkeypatch.setattr(execute, "ROOT", tmp_path)
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("from recsys_lib.models import f\nf()")])
    first = execute.fingerprint(book)
    (library / "models" / "one.py").write_text(
        'from ..two import g\n\n\ndef f():\n    """New."""\n    return g()  # x\n'
    )
    (library / "three.py").write_text("x = 2\n")
    (tmp_path / "requirements.txt").write_text("numpy==1.0\nruff==2.0\n")
    assert execute.fingerprint(book) == first
    (library / "two.py").write_text("def g():\n    return 2\n")
    second = execute.fingerprint(book)
    (tmp_path / "requirements.txt").write_text("numpy==1.1\n")
    third = execute.fingerprint(book)
    book.cells[0].source += "\n1"
    assert len({first, second, third, execute.fingerprint(book)}) == 4


def broken(**change: object) -> list[dict]:
    """Return a chapter of one code cell that has one fault."""
    cell = {
        "cell_type": "code",
        "id": "a",
        "metadata": {"tags": []},
        "source": "x = 1",
        "outputs": [],
    } | change
    return [cell]


@pytest.mark.parametrize(
    ("cells", "finding"),
    [
        (broken(source="x = 1\n" * 41), "a code cell of 41 lines"),
        (broken(source="x = 1\n" * 21), "p90 of 21"),
        (broken() * 3, "3 code cells in a row"),
        (broken(), "words of prose"),
        (broken(), "no check cell"),
        (broken(outputs=[{"output_type": "error"}]), "saved error"),
        (broken(metadata={"tags": ["check"]}), "without the tag hide-input"),
        (broken(outputs=[{"data": {"image/png": ""}}]), "without alternative text"),
        (broken(metadata={"tags": ["nbval-skip"]}), "unknown tags"),
    ],
)
def test_the_shape_checker_finds(cells: list[dict], finding: str) -> None:
    assert any(finding in text for text in check_notebooks.own_findings(cells))


def test_the_shape_checker_compares_labels_but_not_titles() -> None:
    def chapter(title: str, exercise: str, equation: str) -> list[dict]:
        text = f":::{{exercise}} {title}\n:label: {exercise}\n:::\n$$ x $$ ({equation})"
        return [{"cell_type": "markdown", "id": "a", "metadata": {}, "source": text}]

    en = chapter("Distance", "ex1", "eq1")
    wrong = "the editions differ in labels"
    assert wrong not in check_notebooks.twin_findings(en, chapter("距离", "ex1", "eq1"))
    assert wrong in check_notebooks.twin_findings(en, chapter("距离", "ex2", "eq1"))
    assert wrong in check_notebooks.twin_findings(en, chapter("距离", "ex1", "eq2"))
