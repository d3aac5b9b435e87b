"""Models that read no text: random, popularity, item neighbours, EASE. Settings were chosen on validation."""

from __future__ import annotations

from benchmarks.leaderboard.core import PROTOCOLS, Cell, Row
from recsys_lib.models import EASE, ItemKNN, Popularity, RandomModel, WeightedFusion

IN_ORDER = ("leave_one_out", "global_time")  # where a user's history has an order that is not drawn


def random(cell: Cell) -> RandomModel:
    return RandomModel(cell.seed)


def popularity(cell: Cell) -> Popularity:
    return Popularity()


def neighbours(cell: Cell) -> ItemKNN:
    return ItemKNN(**cell.config)


def ease(cell: Cell) -> EASE:
    return EASE(**cell.config)


def ease_with_popularity(cell: Cell) -> WeightedFusion:
    """Users without a history, most of them in a split by time, get what is popular."""
    base = EASE(cell.config["regularization"], cell.config["decay"])
    return WeightedFusion([base, Popularity()], [1, cell.config["popularity"]])


KNN = {
    "leave_one_out": {"neighbours": 500, "shrink": 0.0},
    "global_time": {"neighbours": 500, "shrink": 10.0},
    "random_811": {"neighbours": 200, "shrink": 10.0},
}
REGULARIZATION = {"leave_one_out": 100.0, "global_time": 400.0, "random_811": 350.0}
RECENCY = {
    "leave_one_out": {"regularization": 800.0, "decay": 0.85},
    "global_time": {"regularization": 800.0, "decay": 0.85},
}

ROWS = [
    *[Row("random", name, random, trained=True, quick=True) for name in PROTOCOLS],
    *[Row("popularity", name, popularity, quick=True) for name in PROTOCOLS],
    *[Row("ItemKNN", name, neighbours, config, quick=True) for name, config in KNN.items()],
    *[
        Row(
            "ItemKNN-recency", name, neighbours, {"neighbours": 500, "shrink": 10.0, "decay": 0.7}, quick=True
        )
        for name in IN_ORDER
    ],
    *[
        Row("EASE", name, ease, {"regularization": value}, quick=True, parts_of_fusion=name == "random_811")
        for name, value in REGULARIZATION.items()
    ],
    *[
        Row("EASE-recency", name, ease, config, quick=True, parts_of_fusion=name == "leave_one_out")
        for name, config in RECENCY.items()
    ],
    Row(
        "EASE-recency, popularity prior",
        "global_time",
        ease_with_popularity,
        {"regularization": 800.0, "decay": 0.95, "popularity": 1.0},
        quick=True,
    ),
]
