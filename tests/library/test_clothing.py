"""The clothing reviews: a small table cleaned by hand, and the real one."""

import re

import pandas as pd
import pytest

from recsys_lib.datasets import load_clothing_reviews
from recsys_lib.datasets.clothing import _clean

SOURCE = pd.DataFrame(
    [
        [7, 33, None, "Soft  &amp; warm,\r\n it&amp;amp;#39;s fine ", 5, 1, "Initmates", "Intimate", "Sleep"],
        [7, 33, "No words", None, 5, 1, "Initmates", "Intimate", "Sleep"],
        [8, 60, "Too &quot;short&quot;", "Too short for me.", 2, 0, "General", "Dresses", "Dresses"],
        [8, 60, "Too &quot;short&quot;", "Too short for me.", 2, 0, "General", "Dresses", "Dresses"],
        [8, 61, "", "Too short for me.", 3, 1, None, None, None],
    ],
    columns=[
        *("Clothing ID", "Age", "Title", "Review Text", "Rating", "Recommended IND"),
        *("Division Name", "Department Name", "Class Name"),
    ],
    index=[4, 5, 6, 9, 8],
)


def test_cleaning():
    frame = _clean(SOURCE)
    assert list(map(list, frame.itertuples())) == [
        [0, "7", 33, "", "Soft & warm, it's fine", 5, True, "Intimates", "Intimate", "Sleep"],
        [1, "8", 60, 'Too "short"', "Too short for me.", 2, False, "General", "Dresses", "Dresses"],
        [2, "8", 61, "", "Too short for me.", 3, True, "", "", ""],
    ]
    assert list(frame.columns) == [
        *("item_id", "age", "title", "text", "rating", "recommended", "division", "department", "class")
    ]


def test_the_real_reviews():
    pytest.importorskip("pyarrow")
    frame = load_clothing_reviews()
    assert frame.shape == (22640, 9)
    assert frame["item_id"].nunique() == 1179
    assert frame["rating"].between(1, 5).all()
    assert set(frame["division"]) == {"General", "General Petite", "Intimates", ""}
    assert (frame["class"] == "").sum() == 13
    assert not frame.isna().any(axis=None) and frame["text"].str.len().min() > 0
    for text in (*frame["text"], *frame["title"]):
        assert text == " ".join(text.split())
        assert not re.search(r"&(#\d+|[a-z]+);", text)
    classes = frame.groupby("item_id")["class"].nunique()
    assert list(classes.index[classes > 1]) == ["1119"]
    assert frame["recommended"].mean() == pytest.approx(0.819, abs=0.001)
