"""Assertions that leave a readable trace: every number in the book's prose rests on one of them.

A chapter states a result in a check cell; the line it prints is stored with the chapter, and the tests
run the chapter again and compare the new lines with the stored ones.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

LINE = re.compile(r"^✓ (?P<name>.+?) = (?P<value>\S+) \(expected (?P<about>\S+) ± (?P<margin>\S+)\)$")


class Recorded(NamedTuple):
    """One line of a check cell: the value found, the value expected and the margin allowed."""

    value: float
    about: float
    margin: float


def check(name: str, value: float, about: float, margin: float) -> None:
    """Assert that ``value`` lies within ``margin`` of ``about`` and print the line that records it.

    Parameters
    ----------
    name : str
        What was measured, unique within a chapter, for example ``"popularity NDCG@10"``.
    value : float
        The measured number, in the unit that ``name`` says.
    about, margin : float
        Expected number and the largest allowed distance from it (0 for counts), ``margin >= 0``.

    Raises
    ------
    AssertionError
        If the value is not a finite number, or lies outside the margin.
    """
    value = float(value)
    if not math.isfinite(value) or abs(value - about) > margin:
        raise AssertionError(f"{name} = {value:.6g}, expected {about:.6g} ± {margin:.2g}")
    print(f"✓ {name} = {value:.6g} (expected {about:.6g} ± {margin:.2g})")


def check_that(statement: str, condition: object) -> None:
    """Assert a statement that has no number, and print it.

    Raises
    ------
    AssertionError
        If ``condition`` is not true.
    """
    if not bool(condition):
        raise AssertionError(statement)
    print(f"✓ {statement}")


def read_checks(text: str) -> dict[str, Recorded]:
    """Return the values recorded in printed text, by name.

    Raises
    ------
    ValueError
        If a name occurs twice.
    """
    found: dict[str, Recorded] = {}
    for line in text.splitlines():
        match = LINE.match(line.strip())
        if not match:
            continue
        name = match["name"]
        if name in found:
            raise ValueError(f"{name!r} is recorded twice")
        found[name] = Recorded(float(match["value"]), float(match["about"]), float(match["margin"]))
    return found
