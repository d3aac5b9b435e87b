"""How the chapters are proven: the values that check cells record must equal the stored ones."""

from __future__ import annotations

import os

import pytest

from recsys_lib.checks import read_checks
from recsys_lib.resources import is_accepted

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def printed(outputs: list) -> str:
    """Return what a cell printed."""
    return "".join(out.text for out in outputs if out.output_type == "stream" and out.name == "stdout")


def pytest_configure(config: pytest.Config) -> None:
    """Keep coverage to the library's tests: a line that only a chapter runs is not tested."""
    try:
        import nbval.plugin
    except ImportError:  # the library's tests alone need no notebooks
        return
    nbval.plugin.setup_coverage = nbval.plugin.teardown_coverage = lambda *args, **kwargs: None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item: pytest.Item):
    """After a check cell of a chapter ran, compare its values with the stored ones, within their margins."""
    outcome = yield
    cell = getattr(item, "cell", None)
    if cell is None or "check" not in cell.metadata.get("tags", []) or outcome.excinfo:
        return
    new, stored = read_checks(printed(item.test_outputs)), read_checks(printed(cell.outputs))
    problems = [f"{name} is not among the stored values" for name in new.keys() - stored.keys()]
    if "accept-gemma" not in cell.metadata["tags"] or is_accepted(
        "gemma-3-270m"
    ):  # else the cell may skip them
        problems += [f"{name} is stored, but was not recorded" for name in stored.keys() - new.keys()]
    problems += [
        f"{name} = {new[name].value:g}, stored {stored[name].value:g}, margin {stored[name].margin:g}"
        for name in new.keys() & stored.keys()
        if abs(new[name].value - stored[name].value)
        > max(stored[name].margin, 1e-5 * abs(stored[name].value))
    ]
    if problems:
        outcome.force_exception(AssertionError("; ".join(problems) + ": run make execute"))
