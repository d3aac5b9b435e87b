"""Two towers: texts, ids or both; items beside each other, or histories, as queries; controls; logQ off; fusion.

Temperature and the shared tower were chosen on validation of leave-one-out at seed 0, when to stop on each seed's.
"""

from __future__ import annotations

from benchmarks.leaderboard.core import Cell, Row
from recsys_lib.evaluation import evaluate
from recsys_lib.models.two_tower import TwoTower


def towers(cell: Cell) -> TwoTower:
    config = dict(cell.config)
    source = config.pop("vectors", None)
    vectors = None if source is None else cell.data.vectors(source, cell.seed)
    return TwoTower(vectors, seed=cell.seed, every=2, patience=4, **config)


def towers_for_cold_items(cell: Cell) -> TwoTower:
    """The number of epochs is chosen on the validation films of each split."""
    split, config = cell.split, dict(cell.config)
    vectors = cell.data.vectors(config.pop("vectors"), cell.seed)
    choices, reached = config.pop("epochs"), {}
    for epochs in choices:
        model = TwoTower(vectors, seed=cell.seed, epochs=epochs, **config).fit(split.train)
        candidates = split.validation_candidates
        reached[epochs] = evaluate(model, split.validation, seen=split.train, candidates=candidates).mean()
    best = max(reached, key=lambda epochs: reached[epochs])
    return TwoTower(vectors, seed=cell.seed, epochs=best, **config).fit(split.fit_part)


HISTORY = {"query": "history", "temperature": 0.15}
PAIRS = {"query": "item", "temperature": 0.1}
NO_LOG_Q = {"log_q": 0.0}


def warm(name: str, **config: object) -> Row:
    part = name in ("two-tower, MiniLM", "two-tower, ids")
    return Row(name, "leave_one_out", towers, config, how="observe", trained=True, parts_of_fusion=part)


ROWS = [
    warm("two-tower, MiniLM", vectors="MiniLM", **HISTORY),
    warm("two-tower, MiniLM, no logQ", vectors="MiniLM", **HISTORY, **NO_LOG_Q),
    warm("two-tower, ids", **HISTORY),
    warm("two-tower, ids, no logQ", **HISTORY, **NO_LOG_Q),
    warm("two-tower, random vectors", vectors="random", **HISTORY),
    warm("two-tower, shuffled text", vectors="shuffled", **HISTORY),
    warm("two-tower, TF-IDF", vectors="TF-IDF", **HISTORY),
    warm("two-tower, MiniLM and ids", vectors="MiniLM", ids=True, **HISTORY),
    warm("item adapter, MiniLM", vectors="MiniLM", **PAIRS),
    warm("item adapter, MiniLM, no logQ", vectors="MiniLM", **PAIRS, **NO_LOG_Q),
    warm("item adapter, ids", **PAIRS),
    warm("item adapter, random vectors", vectors="random", **PAIRS),
    warm("item adapter, TF-IDF", vectors="TF-IDF", **PAIRS),
    warm("item adapter, MiniLM and ids", vectors="MiniLM", ids=True, **PAIRS),
    Row(
        "two-tower, MiniLM",
        "cold_items",
        towers_for_cold_items,
        {"vectors": "MiniLM", **HISTORY, "epochs": [4, 10, 20]},
        how="ready",
        trained=True,
    ),
    Row(
        "fusion, SASRec + EASE-recency + iALS + two-tower",
        "leave_one_out",
        how="fuse",
        trained=True,
        parts=("SASRec", "EASE-recency", "iALS", "two-tower, MiniLM"),
    ),
    Row(
        "fusion, all six",
        "leave_one_out",
        how="fuse",
        trained=True,
        parts=("SASRec", "EASE-recency", "iALS", "two-tower, MiniLM", "SASRec, text start", "two-tower, ids"),
    ),
]
