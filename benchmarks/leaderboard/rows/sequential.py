"""Models of the order of a user's items: SASRec with and without text and contrast, GRU4Rec, BERT4Rec.

SASRec and its variants have the library's defaults, which were fixed before. "batch of 16" is what validation of
leave-one-out would prefer among a dozen settings tried: .118 at seeds 1 and 2 against .114 for the defaults.
"""

from __future__ import annotations

from typing import Any

from benchmarks.leaderboard.core import Cell, Row


def options(cell: Cell) -> dict[str, Any]:
    """Options of the model; ``vectors`` names the vectors of the items' texts."""
    config = dict(cell.config)
    if "vectors" in config:
        config["item_vectors"] = cell.data.vectors(config.pop("vectors"), cell.seed)
    return config | {"seed": cell.seed}


def sasrec(cell: Cell) -> Any:
    from recsys_lib.models.sequential import SASRec

    return SASRec(**options(cell))


def gru4rec(cell: Cell) -> Any:
    from recsys_lib.models.sequential import GRU4Rec

    return GRU4Rec(**options(cell))


def bert4rec(cell: Cell) -> Any:
    from recsys_lib.models.sequential import BERT4Rec

    return BERT4Rec(**options(cell))


ADAPTOR = {"mode": "adaptor"}
SASRECS: dict[str, dict[str, Any]] = {
    "SASRec, batch of 16": {"dropout": 0.2, "batch_size": 16},
    "SASRec, text start": {"vectors": "MiniLM", "mode": "start"},
    "SASRec, text start, shuffled text": {"vectors": "shuffled", "mode": "start"},
    "SASRec, text adaptor": ADAPTOR | {"vectors": "MiniLM"},
    "SASRec, text adaptor, random vectors": ADAPTOR | {"vectors": "random"},
    "SASRec, text adaptor, shuffled text": ADAPTOR | {"vectors": "shuffled"},
    "SASRec, ids + text": {"vectors": "MiniLM", "mode": "both"},
    "SASRec, CL4SRec": {"contrast": "cl4srec", "contrast_weight": 0.1, "epochs": 40},
    "SASRec, dropout views": {"contrast": "dropout", "contrast_weight": 0.1, "epochs": 40},
    "SASRec, DuoRec": {"contrast": "duorec", "contrast_weight": 0.1, "epochs": 40},
    "SASRec, masked-item pre-training": {"pretrain_epochs": 15, "epochs": 45},
}

ROWS = [
    Row("SASRec", "leave_one_out", sasrec, how="observe", trained=True, parts_of_fusion=True),
    Row("SASRec", "global_time", sasrec, how="observe", trained=True),
    *[
        Row(
            name,
            "leave_one_out",
            sasrec,
            config,
            how="observe",
            trained=True,
            parts_of_fusion=name == "SASRec, text start",
        )
        for name, config in SASRECS.items()
    ],
    Row("GRU4Rec", "leave_one_out", gru4rec, how="observe", trained=True),
    Row("BERT4Rec", "leave_one_out", bert4rec, {"masked": 0.3}, how="observe", trained=True),
]
