"""Matrix factorisation: BPR-MF and iALS; and what fusing them with others gives. Settings chosen on validation."""

from __future__ import annotations

from typing import Any

from benchmarks.leaderboard.core import Cell, Row


def bpr_mf(cell: Cell) -> Any:
    from recsys_lib.models.factorization import BPRMF

    return BPRMF(seed=cell.seed, **cell.config)


def ials(cell: Cell) -> Any:
    from recsys_lib.models.factorization import IALS

    return IALS(seed=cell.seed, **cell.config)


IALS_SETTINGS = {
    "leave_one_out": {"dimensions": 64, "regularization": 10.0},
    "random_811": {"dimensions": 32, "regularization": 10.0},
}

BPR = {"learning_rate": 0.003, "regularization": 0.01, "patience": 8}

ROWS = [
    *[
        Row("iALS", name, ials, config, trained=True, quick=True, parts_of_fusion=True)
        for name, config in IALS_SETTINGS.items()
    ],
    *[
        Row("BPR-MF", name, bpr_mf, BPR, how="refit", trained=True, parts_of_fusion=name == "random_811")
        for name in IALS_SETTINGS
    ],
    Row(
        "fusion, EASE + iALS + BPR-MF",
        "random_811",
        how="fuse",
        trained=True,
        parts=("EASE", "iALS", "BPR-MF"),
    ),
    *[
        Row(f"fusion, {' + '.join(parts)}", "leave_one_out", how="fuse", trained=True, parts=parts)
        for parts in (("SASRec", "EASE-recency"), ("SASRec", "EASE-recency", "iALS"))
    ],
]
