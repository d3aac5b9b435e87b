"""Graph models: LightGCN, its losses, its contrasts and its text. Settings chosen on validation or fixed before."""

from __future__ import annotations

from typing import Any

from benchmarks.leaderboard.core import Cell, Row
from recsys_lib.evaluation import evaluate


def lightgcn(cell: Cell) -> Any:
    from recsys_lib.models.graph import LightGCN

    config = dict(cell.config)
    vectors = config.pop("vectors", None)
    found = None if vectors is None else cell.data.vectors(vectors, cell.seed)
    return LightGCN(seed=cell.seed, item_vectors=found, **config)


def cold_map(cell: Cell) -> Any:
    """The number of steps is chosen on the validation films of each split, ranked among themselves."""
    from recsys_lib.models.graph import LightGCN

    split, vectors = cell.split, cell.data.vectors(cell.config["vectors"], cell.seed)
    reached = {}
    for epochs in cell.config["epochs"]:
        model = LightGCN(
            item_vectors=vectors, text="map", learning_rate=0.005, epochs=epochs, seed=cell.seed
        ).fit(split.train)
        candidates = split.validation_candidates
        reached[epochs] = evaluate(model, split.validation, seen=split.train, candidates=candidates).mean()
    best = max(reached, key=lambda epochs: reached[epochs])
    final = LightGCN(item_vectors=vectors, text="map", learning_rate=0.005, epochs=best, seed=cell.seed)
    return final.fit(split.fit_part)


START: dict[str, Any] = {}
MAP: dict[str, Any] = {"text": "map", "learning_rate": 0.005}
CONTROLS = {"": "MiniLM", ", random vectors": "random", ", shuffled text": "shuffled"}
IDS: dict[str, dict[str, Any]] = {
    "LightGCN": {},
    "LightGCN, 0 layers": {"layers": 0},
    "LightGCN, BPR": {"loss": "bpr", "learning_rate": 0.05},
    "LightGCN, BPR, 0 layers": {"loss": "bpr", "learning_rate": 0.05, "layers": 0},
    "LightGCN, SGL": {"contrast": "sgl"},
    "LightGCN, SimGCL": {"contrast": "simgcl"},
    "LightGCN, XSimGCL": {"contrast": "xsimgcl"},
}
TEXT = {
    f"LightGCN, {name}{control}": {**options, "vectors": vectors}
    for name, options in (("text start", START), ("text map", MAP))
    for control, vectors in CONTROLS.items()
}
STEPS = [5, 10, 20, 40, 80]

ROWS = [
    *[
        Row(name, "leave_one_out", lightgcn, config, how="refit", trained=True)
        for name, config in (IDS | TEXT).items()
    ],
    *[
        Row(name, "random_811", lightgcn, IDS[name], how="refit", trained=True)
        for name in ("LightGCN", "LightGCN, 0 layers", "LightGCN, XSimGCL")
    ],
    *[
        Row(
            f"LightGCN, text map{control}",
            "cold_items",
            cold_map,
            {"vectors": vectors, "epochs": STEPS},
            how="ready",
            trained=True,
        )
        for control, vectors in CONTROLS.items()
    ],
]
