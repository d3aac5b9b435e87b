"""The library without torch on other Pythons, and on the lower bounds of pyproject.toml."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import check_torch

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TORCH_FREE = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "tests/library").glob("test_*.py")
    if path.stem not in {"test_encoders", "test_e5"}
    and 'importorskip("torch")' not in path.read_text("utf-8")
)


def run(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the project's folder."""
    return subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "TQDM_DISABLE": "1"} | environment,
    )


def interpreter(version: str) -> str | None:
    """Return a Python of that version that starts, or None."""
    found = shutil.which(f"python{version}")
    if found and run([found, "-c", "import venv, ssl, sqlite3"]).returncode == 0:
        return found
    candidates = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    return str(candidates[-1]) if candidates else None


def library_passes(python: str, folder: Path, requirements: list[str], constraints: list[str]) -> None:
    """Install the library's requirements (no torch) in a new environment and run its tests there."""
    made = run([python, "-m", "venv", str(folder)])
    assert made.returncode == 0, made.stderr
    own = str(folder / "bin" / "python")
    tests = ["pytest", "hypothesis"]
    installed = run([own, "-m", "pip", "install", "--quiet", *constraints, *requirements, *tests])
    assert installed.returncode == 0, installed.stderr
    assert run([own, "-c", "import torch"]).returncode != 0
    result = run(
        [own, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header", *TORCH_FREE],
        PYTHONPATH=str(ROOT),
    )
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_the_library_on_another_python(version: str, tmp_path: Path) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["data"]
    library_passes(python, tmp_path / "venv", wanted, ["-c", "requirements.txt"])


def test_the_library_on_its_lower_bounds(tmp_path: Path) -> None:
    python = interpreter("3.11")
    if python is None:
        pytest.skip("no Python 3.11 here: the lowest versions have wheels for it")
    wanted = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["data"]
    lowest = [re.sub(r">=", "==", requirement) for requirement in wanted]
    library_passes(python, tmp_path / "venv", lowest, [])


def test_bounds_and_pins_do_not_mix() -> None:
    extras = PROJECT["optional-dependencies"]
    bounds = PROJECT["dependencies"] + [bound for extra in extras.values() for bound in extra]
    assert all(re.fullmatch(r"[a-z0-9-]+(\[[a-z-]+\])?>=[\d.]+", requirement) for requirement in bounds)
    pins = [
        line
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[^=\s]+", line) for line in pins)
    names = {line.partition("==")[0] for line in pins}
    assert {re.split(r"[\[>]", requirement)[0] for requirement in bounds} <= names
    book = [
        line for line in (ROOT / "requirements-book.txt").read_text().splitlines() if not line.startswith("#")
    ]
    assert set(book) <= names and "torch" not in book


def test_import_needs_no_torch() -> None:
    modules = "recsys_lib, recsys_lib.datasets, recsys_lib.splits, recsys_lib.models, recsys_lib.evaluation, recsys_lib.plots"
    code = (
        f"import sys; sys.modules['torch'] = None; import {modules}; sys.exit('transformers' in sys.modules)"
    )
    result = run([sys.executable, "-c", code])
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("requirements", "expected"),
    [
        (["filelock", "sympy>=1.13"], []),
        (
            ["nvidia-cublas-cu12==12.1; platform_system == 'Linux'", "cuda-bindings"],
            ["nvidia-cublas-cu12", "cuda-bindings"],
        ),
        (["nvidia-cublas-cu12; platform_system == 'Nowhere'"], []),
        (["cuda-python; extra == 'gpu'"], []),
    ],
)
def test_cuda_requirements(requirements: list[str], expected: list[str]) -> None:
    assert check_torch.cuda_requirements(requirements) == expected


def test_a_cuda_build_is_stopped_before_it_is_fetched(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = {"install": [{"metadata": {"requires_dist": ["nvidia-cudnn-cu12"]}}]}
    answer = subprocess.CompletedProcess([], 0, json.dumps(report), "")
    monkeypatch.setattr(check_torch.subprocess, "run", lambda *args, **kwargs: answer)
    monkeypatch.delenv("TORCH_CUDA", raising=False)
    assert check_torch.main(["torch==999.0"]) == 1
    assert "make test TORCH_INDEX=" in capsys.readouterr().err
    monkeypatch.setenv("TORCH_CUDA", "1")
    assert check_torch.main(["torch==999.0"]) == 0
