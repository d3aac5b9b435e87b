"""The toy shop: the source article's six products and two users, and a small made-up shop around them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files

import pandas as pd

from recsys_lib.datasets.interactions import DataError, Dataset

DEPARTMENTS = {"electronics": "电子产品", "clothing": "服装鞋包", "home": "家居厨房", "sport": "运动户外"}
EXPORTED = pd.Timestamp("2025-01-01T00:00:00Z")
"""When the event log was written; a later time in it is a wrong clock."""


@dataclass(frozen=True)
class ToyShop:
    """A made-up shop of 64 products in four departments.

    Attributes
    ----------
    products
        ``product_id``, ``department`` (a key of `DEPARTMENTS`), ``emoji``, ``name_en``, ``name_zh``,
        ``description_en``, ``description_zh``, ``article`` (true for the article's six).
    users
        ``user_id`` (int; 1 and 2 are the article's), ``taste``, ``article``, ``history`` (ids of the products
        bought, oldest first).
    events
        The messy log: ``event_time``, ``user_id``, ``event`` (view, click, purchase, tag), ``product``, ``value``
        (a tag's text), all strings as they stand in the file, NaN where a field is empty.
    dataset
        The clean purchases; an item's title is its name and its text "name. description" in one language.
    """

    products: pd.DataFrame
    users: pd.DataFrame
    events: pd.DataFrame
    dataset: Dataset


def load_toy_shop(language: str = "en") -> ToyShop:
    """Load the toy shop, with item texts in English (``"en"``) or Chinese (``"zh"``).

    Raises
    ------
    DataError
        If the language is another one.
    """
    _check_language(language)
    products = _read("products")
    products["article"] = products["article"] == "yes"
    purchases = _read("purchases").astype({"user_id": "int64", "timestamp": "int64"})
    users = _read("users").astype({"user_id": "int64"})
    users["article"] = users["article"] == "yes"
    bought = purchases.sort_values(["user_id", "timestamp"]).groupby("user_id")["product_id"].agg(list)
    users["history"] = users["user_id"].map(bought)
    name, description = products[f"name_{language}"], products[f"description_{language}"]
    items = pd.DataFrame(
        {
            "item_id": products["product_id"],
            "title": name,
            "text": name + (". " if language == "en" else "。") + description,
            "department": products["department"],
            "emoji": products["emoji"],
        }
    )
    dataset = Dataset.from_frames(
        purchases.rename(columns={"product_id": "item_id"}),
        items,
        users[["user_id", "taste"]],
        name="toy shop",
        licence="CC BY 4.0",
        source="made up for this book by the contributors; six products and two users from the article",
    )
    return ToyShop(products, users, _read("events"), dataset)


def load_article_example(language: str = "zh") -> tuple[dict[str, str], dict[int, list[str]]]:
    """The article's six products (name to description) and two users (id to names of the products bought).

    Chinese (``"zh"``) is exactly as the article prints it; English (``"en"``) is a translation. DataError if
    the language is another one.
    """
    shop = load_toy_shop(language)
    products = shop.products[shop.products["article"]]
    names = dict(zip(products["product_id"], products[f"name_{language}"], strict=True))
    items = dict(zip(products[f"name_{language}"], products[f"description_{language}"], strict=True))
    users = shop.users[shop.users["article"]]
    histories = zip(users["user_id"].tolist(), users["history"], strict=True)
    return items, {user: [names[product] for product in history] for user, history in histories}


def load_shop_texts(name: str) -> pd.DataFrame:
    """Small bilingual texts around the shop, for trying a language model: columns ``en`` and ``zh``.

    ``"sentences"``: 46 short sentences, each the translation of the other; the first six serve as examples, the
    others as a test. ``"words"``: a glossary, written with those sentences at hand. ``"questions"``: 40 customers'
    questions and, in ``title``, the English name of the product that answers each; they avoid the words of its
    description. All were written by the contributors.

    Raises
    ------
    DataError
        If the name is another one.
    """
    if name not in ("sentences", "words", "questions"):
        raise DataError(f"texts {name!r}: choose 'sentences', 'words' or 'questions'.")
    return _read(name)


def _check_language(language: str) -> None:
    if language not in ("en", "zh"):
        raise DataError(f"language {language!r}: choose 'en' or 'zh'.")


def _read(name: str) -> pd.DataFrame:
    """One of the shop's tables, all columns strings."""
    with (files("recsys_lib.datasets") / "toy_shop" / f"{name}.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype=str)
