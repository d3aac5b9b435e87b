"""The leaderboard's files: written from the cells, compared with cells that are measured anew."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.leaderboard.core import (
    LIBRARY,
    METRICS,
    PROTOCOLS,
    ROOT,
    Row,
    all_rows,
    stored,
    write_atomically,
)
from recsys_lib.evaluation import Report, Result, compare

RESULTS = ROOT / "benchmarks" / "results"
TABLE, SEEDS, TESTS = (RESULTS / f"leaderboard{end}.csv" for end in ("", "_seeds", "_tests"))
COPY = LIBRARY / "leaderboard.csv"  # what chapters read where only the library is installed
COLUMNS = [
    "protocol",
    "model",
    "metric",
    "mean",
    "sd",
    "ci_low",
    "ci_high",
    "seeds",
    "users",
    "train_seconds",
    "config",
]
SEED_COLUMNS = ["protocol", "model", "seed", *METRICS.values(), "users", "train_seconds"]
TEST_COLUMNS = ["protocol", "model", "against", "metric", "difference", "ci_low", "ci_high"]
TEST_COLUMNS += ["p_value", "p_holm", "users", "ahead", "of"]
REFERENCES = {"popularity": "popularity", "EASE-recency": "EASE-recency"}
# at one seed, for what is deterministic but for rounding: a few users' lists may change on another processor
TOLERANCE = {"NDCG@10": 0.002, "HR@10": 0.006, "MRR@10": 0.003, "Recall@10": 0.003}


def read(path: Path, columns: list[str]) -> pd.DataFrame:
    """One of the files; empty if it is not there."""
    return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=columns)


def read_seeds() -> pd.DataFrame:
    """Each measured seed by itself."""
    return read(SEEDS, SEED_COLUMNS)


def cells_of(folder: Path) -> dict[Row, list[tuple[int, pd.DataFrame]]]:
    """The cells of every row whose seeds are all measured."""
    found = {}
    for row in all_rows():
        cells = [(seed, stored(row, seed, folder)) for seed in row.seeds]
        complete = [(seed, frame) for seed, frame in cells if frame is not None]
        if len(complete) == len(cells):
            found[row] = complete
    return found


def result(frame: pd.DataFrame, name: str = "") -> Result:
    """A cell as a result of the library."""
    return Result(name, 10, frame[list(METRICS)], pd.DataFrame())


def table_rows(row: Row, cells: list[tuple[int, pd.DataFrame]]) -> list[dict]:
    """The rows of leaderboard.csv for one model under one protocol."""
    users = len(set().union(*(frame.index for _, frame in cells)))
    seconds = round(float(np.mean([frame["seconds"].iloc[0] for _, frame in cells])), 2)
    config = {"how": row.how, **row.config, **({"parts": list(row.parts)} if row.parts else {})}
    rows = []
    for column, metric in METRICS.items():
        results = [
            Result(row.name, 10, frame[[column]].rename(columns={column: "ndcg"}), pd.DataFrame())
            for _, frame in cells
        ]
        report = Report("")
        report.add(
            [Result(r.name, 10, r.per_user.assign(hit=0.0, mrr=0.0, recall=0.0), r.ranks) for r in results]
        )
        values = report.values().iloc[0]
        rows.append(
            {
                "protocol": row.protocol,
                "model": row.name,
                "metric": metric,
                "mean": round(values["ndcg"], 6),
                "sd": "" if math.isnan(values["ndcg_sd"]) else round(values["ndcg_sd"], 6),
                "ci_low": round(values["low"], 6),
                "ci_high": round(values["high"], 6),
                "seeds": len(cells),
                "users": users,
                "train_seconds": seconds,
                "config": json.dumps(config, ensure_ascii=False),
            }
        )
    return rows


def seed_rows(row: Row, cells: list[tuple[int, pd.DataFrame]]) -> list[dict]:
    """The rows of leaderboard_seeds.csv."""
    return [
        {
            "protocol": row.protocol,
            "model": row.name,
            "seed": seed,
            **{metric: round(float(frame[column].mean()), 6) for column, metric in METRICS.items()},
            "users": len(frame),
            "train_seconds": round(float(frame["seconds"].iloc[0]), 2),
        }
        for seed, frame in cells
    ]


def paired(row: Row, cells: list, other: Row, others: list, metric: str = "ndcg") -> dict:
    """Paired test over users. Where the seed draws the split, both are compared within each split.

    A user who is in several splits counts once, with the mean of the splits in which the user is measured.
    ``ahead`` of ``of``: splits (or seeds) in which the first is ahead.
    """
    if PROTOCOLS[row.protocol].splits:
        mine, theirs = dict(cells), dict(others)
        seeds = sorted(mine.keys() & theirs.keys())
        for seed in seeds:
            if not mine[seed].index.equals(theirs[seed].index):
                raise ValueError(f"{row.label} and {other.name}: not the same users in split {seed}")
        a = [result(pd.concat([mine[s] for s in seeds]).groupby(level=0).mean())]
        b = [result(pd.concat([theirs[s] for s in seeds]).groupby(level=0).mean())]
        pairs = [(mine[s][metric].mean(), theirs[s][metric].mean()) for s in seeds]
    else:
        a, b = [result(frame) for _, frame in cells], [result(frame) for _, frame in others]
        level = np.mean([frame[metric].mean() for _, frame in others])
        pairs = [(frame[metric].mean(), level) for _, frame in cells]
    found = compare(a, b, metric)
    return {
        "protocol": row.protocol,
        "model": row.name,
        "against": other.name,
        "metric": METRICS[metric],
        "difference": round(found.difference, 6),
        "ci_low": round(found.low, 6),
        "ci_high": round(found.high, 6),
        "p_value": round(found.p_value, 6),
        "p_holm": math.nan,
        "users": len(a[0].per_user),
        "ahead": sum(one > two for one, two in pairs),
        "of": len(pairs),
    }


def test_rows(cells: dict[Row, list]) -> list[dict]:
    """Every row against popularity, EASE-recency and the protocol's best, where they are measured."""
    rows = []
    for protocol in PROTOCOLS:
        here = {row.name: row for row in cells if row.protocol == protocol}
        if not here:
            continue

        def ndcg(name: str, here: dict[str, Row] = here) -> float:
            return float(np.mean([frame["ndcg"].mean() for _, frame in cells[here[name]]]))

        best = max(here, key=ndcg)
        for against in dict.fromkeys([*REFERENCES, best]):
            if against in here:
                other = here[against]
                rows += [
                    paired(row, cells[row], other, cells[other]) for row in here.values() if row is not other
                ]
    return rows


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down correction: p-values of a family of tests, each at most 1."""
    order = np.argsort(p_values, kind="stable")
    steps = np.maximum.accumulate(p_values[order] * (len(order) - np.arange(len(order))))
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(steps, 1.0)
    return corrected


def merged(path: Path, columns: list[str], new: list[dict], keys: list[str]) -> pd.DataFrame:
    """New rows over the file's; rows that are no longer declared are dropped, the order is that of the matrix."""
    old = read(path, columns)
    table = pd.concat([old.astype(object), pd.DataFrame(new, columns=columns).astype(object)])
    table = table.drop_duplicates(keys, keep="last")
    place = {(row.protocol, row.name): number for number, row in enumerate(all_rows())}
    pairs = list(zip(table["protocol"], table["model"], strict=True))
    declared = [pair in place for pair in pairs]
    table = table[declared]
    order = list(PROTOCOLS)
    places = [(order.index(pair[0]), place[pair]) for pair in pairs if pair in place]
    ranked = sorted(range(len(table)), key=lambda i: places[i])
    return table.iloc[ranked].reset_index(drop=True)


def write(folder: Path) -> str:
    """Write the three files and the library's copy from the cells; what is not in the cache stays as it was."""
    cells = cells_of(folder)
    table = merged(TABLE, COLUMNS, [line for r, c in cells.items() for line in table_rows(r, c)], COLUMNS[:3])
    seeds = merged(
        SEEDS, SEED_COLUMNS, [line for r, c in cells.items() for line in seed_rows(r, c)], SEED_COLUMNS[:3]
    )
    tests = merged(TESTS, TEST_COLUMNS, test_rows(cells), TEST_COLUMNS[:4])
    known = set(zip(table["protocol"], table["model"], strict=True))
    best = {
        protocol: part.loc[part["mean"].astype(float).idxmax(), "model"]
        for protocol, part in table[table["metric"] == "NDCG@10"].groupby("protocol")
    }
    wanted = [
        (p, against) in known and (against in REFERENCES or best[p] == against)
        for p, against in zip(tests["protocol"], tests["against"], strict=True)
    ]
    tests = tests[wanted].reset_index(drop=True)
    for _, family in tests.groupby(["protocol", "against"]):
        tests.loc[family.index, "p_holm"] = np.round(holm(family["p_value"].to_numpy(float)), 6)
    for path, frame in ((TABLE, table), (COPY, table), (SEEDS, seeds), (TESTS, tests)):
        write_atomically(path, lambda part, frame=frame: frame.to_csv(part, index=False, lineterminator="\n"))
        path.chmod(0o644)
    missing = len(all_rows()) - len(known)
    return f"{len(known)} rows written, {missing} of the declared matrix are not measured yet"


def differences(
    row: Row, seed: int, found: pd.DataFrame, expected: pd.DataFrame, spread: pd.DataFrame | None = None
) -> list[str]:
    """Say where a cell that was measured anew differs from the files.

    What does not train must be the same but for rounding; what trains must lie within 3 sd (at least 0.006) of
    the mean over seeds, for NDCG@10.
    """
    line = expected[
        (expected["protocol"] == row.protocol) & (expected["model"] == row.name) & (expected["seed"] == seed)
    ]
    if len(line) != 1:
        return [f"{row.label}, seed {seed}: not in {SEEDS.name}"]
    if not row.trained:
        pairs = {m: (line[m].iloc[0], TOLERANCE[m]) for m in METRICS.values()}
    else:
        table = read(TABLE, COLUMNS) if spread is None else spread
        own = table[
            (table["protocol"] == row.protocol)
            & (table["model"] == row.name)
            & (table["metric"] == "NDCG@10")
        ].iloc[0]
        pairs = {"NDCG@10": (own["mean"], max(3 * float(own["sd"]), 0.006))}
    means = {metric: float(found[column].mean()) for column, metric in METRICS.items()}
    return [
        f"{row.label}, seed {seed}: {metric} = {means[metric]:.4f}, file {value:.4f} ± {margin:.4f}"
        for metric, (value, margin) in pairs.items()
        if abs(means[metric] - value) > margin
    ]
