"""Frozen text: the article's recipe and its repairs, and the controls. Maps from text to scores: cold.py.

MiniLM stands in for the article's bert-base-uncased. Settings were chosen on validation (chapter 05_2).
"""

from __future__ import annotations

import numpy as np

from benchmarks.leaderboard.core import Cell, Fixed, Row
from recsys_lib.geometry import center, cosine
from recsys_lib.models import EASE, ContentModel, Popularity, WeightedFusion


def prompts(cell: Cell) -> Fixed:
    """The article's recipe: cosine of the user's sentence and the item's text."""
    films, pooling = cell.data.dataset, cell.config["pooling"]
    titles = films.items["title"].to_numpy()
    sentences = [
        f"User {user} watched {', '.join(titles[history[-5:]])}"
        for user, history in zip(films.users["user_id"], cell.split.fit_part.histories(), strict=True)
    ]
    users, items = cell.data.encode(sentences, pooling), cell.data.encode(films.texts, pooling)
    return Fixed(cosine(users, items))


def vectors(cell: Cell) -> np.ndarray:
    """The vectors that the config names, centred unless it says otherwise."""
    found = cell.data.vectors(cell.config["vectors"], cell.seed)
    return center(found) if cell.config.get("centred", True) else found


def content(cell: Cell) -> ContentModel:
    return ContentModel(vectors(cell), last=cell.config.get("last"), decay=cell.config.get("decay", 1.0))


def with_popularity(cell: Cell) -> WeightedFusion:
    return WeightedFusion([content(cell), Popularity()], [1, cell.config["popularity"]])


def ease_and_text(cell: Cell) -> WeightedFusion:
    base = EASE(cell.config["regularization"], cell.config["ease_decay"])
    return WeightedFusion([base, content(cell)], [1, cell.config["text"]])


RECENT = {"vectors": "MiniLM", "decay": 0.85}
CONTROLS = {
    "random vectors": "random",
    "shuffled text": "shuffled",
    "one-hot ids": "one-hot ids",
    "genres and year": "genres and year",
    "TF-IDF": "TF-IDF",
}
TEXTS = {"MiniLM": "MiniLM", "MiniLM rich text": "MiniLM rich", "MiniLM both texts": "MiniLM both"}


def drawn(name: str) -> bool:
    """Say whether the vectors are drawn from the seed."""
    return name in ("random", "shuffled")


WARM = [
    Row(
        "article's recipe, MiniLM CLS", "leave_one_out", prompts, {"pooling": "cls"}, how="ready", quick=True
    ),
    Row(
        "article's recipe, MiniLM mean",
        "leave_one_out",
        prompts,
        {"pooling": "mean"},
        how="ready",
        quick=True,
    ),
    Row(
        "text cosine, MiniLM CLS, last 5",
        "leave_one_out",
        content,
        {"vectors": "MiniLM CLS", "centred": False, "last": 5},
        quick=True,
    ),
    Row(
        "text cosine, MiniLM mean, last 5",
        "leave_one_out",
        content,
        {"vectors": "MiniLM", "centred": False, "last": 5},
        quick=True,
    ),
    Row(
        "text cosine, MiniLM, centred, last 5",
        "leave_one_out",
        content,
        {"vectors": "MiniLM", "last": 5},
        quick=True,
    ),
    Row(
        "text cosine, MiniLM, whitened, last 5",
        "leave_one_out",
        content,
        {"vectors": "MiniLM whitened", "centred": False, "last": 5},
        quick=True,
    ),
    *[
        Row(
            f"text cosine, {name}, recency",
            "leave_one_out",
            content,
            {"vectors": source, "decay": 0.85},
            trained=drawn(source),
            quick=True,
        )
        for name, source in (TEXTS | CONTROLS).items()
    ],
    *[
        Row(
            f"text cosine, {name}, recency, popularity prior",
            "leave_one_out",
            with_popularity,
            {"vectors": source, "decay": 0.85, "popularity": weight},
            trained=drawn(source),
            quick=True,
        )
        for name, source, weight in (
            ("MiniLM", "MiniLM", 0.5),
            ("MiniLM both texts", "MiniLM both", 0.5),
            ("shuffled text", "shuffled", 4.0),
            ("TF-IDF", "TF-IDF", 0.5),
        )
    ],
    Row(
        "EASE-recency, text cosine, MiniLM",
        "leave_one_out",
        ease_and_text,
        {**RECENT, "regularization": 800.0, "ease_decay": 0.85, "text": 0.5},
        quick=True,
    ),
]

OTHER = [
    Row("text cosine, MiniLM, centred", "random_811", content, {"vectors": "MiniLM"}, quick=True),
    Row(
        "text cosine, MiniLM, centred, popularity prior",
        "random_811",
        with_popularity,
        {"vectors": "MiniLM", "popularity": 0.5},
        quick=True,
    ),
    Row(
        "EASE, text cosine, MiniLM",
        "random_811",
        ease_and_text,
        {"vectors": "MiniLM", "regularization": 350.0, "ease_decay": 1.0, "text": 0.1},
        quick=True,
    ),
    Row(
        "text cosine, MiniLM, recency",
        "global_time",
        content,
        {"vectors": "MiniLM", "decay": 0.7},
        quick=True,
    ),
    Row(
        "text cosine, MiniLM, recency, popularity prior",
        "global_time",
        with_popularity,
        {"vectors": "MiniLM", "decay": 0.85, "popularity": 1.0},
        quick=True,
    ),
]

COLD = [
    Row(
        "text cosine, MiniLM CLS, raw",
        "cold_items",
        content,
        {"vectors": "MiniLM CLS", "centred": False},
        quick=True,
    ),
    Row(
        "text cosine, MiniLM, raw", "cold_items", content, {"vectors": "MiniLM", "centred": False}, quick=True
    ),
    *[
        Row(f"text cosine, {name}", "cold_items", content, {"vectors": source}, quick=True)
        for name, source in (TEXTS | CONTROLS).items()
    ],
]

ROWS = [*WARM, *OTHER, *COLD]
