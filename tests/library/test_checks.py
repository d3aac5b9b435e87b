"""Check cells record what they assert, and cannot pass by accident."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_lib.checks import check, check_that, read_checks


def test_a_check_prints_a_line_that_is_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    check("popularity NDCG@10", 0.04432, about=0.0443, margin=0.0005)
    check_that("order is kept", 1 < 2)
    text = capsys.readouterr().out
    assert text == "✓ popularity NDCG@10 = 0.04432 (expected 0.0443 ± 0.0005)\n✓ order is kept\n"
    assert read_checks(text) == {"popularity NDCG@10": (0.04432, 0.0443, 0.0005)}


@pytest.mark.parametrize("value", [0.05, -0.0443, math.nan, math.inf])
def test_a_check_fails(value: float) -> None:
    with pytest.raises(AssertionError, match=r"x = .*, expected 0\.0443 ± 0\.0005"):
        check("x", value, about=0.0443, margin=0.0005)


@pytest.mark.parametrize("condition", [False, None, 0, float("nan") > 0])
def test_a_statement_fails(condition: object) -> None:
    with pytest.raises(AssertionError, match="it holds"):
        check_that("it holds", condition)


def test_a_name_that_occurs_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="twice"):
        read_checks("✓ a = 1 (expected 1 ± 0)\n✓ a = 1 (expected 1 ± 0)\n")


@given(st.floats(-1e6, 1e6), st.floats(0, 1e3))
def test_what_is_recorded_is_what_was_measured(value: float, margin: float) -> None:
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        check("a = b (c)", value, about=value, margin=margin)
    assert read_checks(out.getvalue())["a = b (c)"].value == pytest.approx(value, rel=1e-5, abs=1e-300)
