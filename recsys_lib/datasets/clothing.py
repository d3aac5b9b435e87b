"""Reviews of women's clothing, for language models to learn from; nobody's tastes can be learned from them."""

from __future__ import annotations

import html

import numpy as np
import pandas as pd

from recsys_lib import resources

_TEXTS = {
    "Title": "title",
    "Review Text": "text",
    "Division Name": "division",
    "Department Name": "department",
    "Class Name": "class",
}


def load_clothing_reviews() -> pd.DataFrame:
    """22,640 reviews of 1,179 garments of one shop, in the order of the source (23,486 rows).

    **There are no users**: the reviewers have an age but no id, so these reviews can teach a model the language of
    clothes and show which texts belong to one item, but no recommender can be evaluated on them.

    Cleaning: rows without a text (845) and exact copies of a row (1) are dropped; HTML entities, some of them
    encoded three times, become characters; runs of spaces and line ends become one space; the division "Initmates"
    is spelled "Intimates". Broken characters (a few ``Ã©``), repeated texts and the word "retailer", which stands
    for the shop's name, are left as they are. Item 1119 has reviews in two classes.

    Returns
    -------
    pandas.DataFrame
        item_id (str), age (of the reviewer, years), title ("" where there is none), text, rating (1–5), recommended
        (bool), division, department, class (str, "" where unknown: 13 reviews).

    Raises
    ------
    recsys_lib.resources.ResourceError
        If the data cannot be fetched.
    ImportError
        If pandas has no reader of Parquet files: ``pip install pyarrow``.
    """
    folder = resources.fetch("clothing-reviews")
    return _clean(pd.read_parquet(folder / "WomensClothingE-CommerceReviews.parquet.brotli"))


def _clean(source: pd.DataFrame) -> pd.DataFrame:
    kept = source[source["Review Text"].notna()].drop_duplicates(ignore_index=True)
    frame = pd.DataFrame(
        {
            "item_id": kept["Clothing ID"].astype(np.int64).astype(str).astype(object),
            "age": kept["Age"].astype(np.int64),
            **{new: [_plain(text) for text in kept[old]] for old, new in _TEXTS.items()},
            "rating": kept["Rating"].astype(np.int64),
            "recommended": kept["Recommended IND"].astype(bool),
        }
    )
    frame["division"] = frame["division"].replace("Initmates", "Intimates")
    frame[list(_TEXTS.values())] = frame[list(_TEXTS.values())].astype(object)
    order = ["item_id", "age", "title", "text", "rating", "recommended", "division", "department", "class"]
    return frame[order]


def _plain(text: object) -> str:
    """The text without HTML entities and superfluous space; "" for a missing one."""
    if not isinstance(text, str):
        return ""
    while (decoded := html.unescape(text)) != text:
        text = decoded
    return " ".join(text.split())
