"""Candidate engines from thousands to a million vectors, on one thread: ``python -m benchmarks.bench_index [items]``.

Writes recsys_lib/candidate_engines.csv, which section 8.3 reads. The vectors are those of the films' texts (title, year,
genres, facts; all-MiniLM-L6-v2, centred) and variations of them (``recsys_lib.index.varied``); the queries are profiles
of real users. Costs are CPU times of single queries, engine and exact search in alternating rounds, as ratios.

It goes over the sizes twice: with an HNSW graph of 16 links up to a million, with one of 32 links up to 300,000 (see RUNS).
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median
from typing import Any

import faiss
import numpy as np
import pandas as pd

from benchmarks.timing import rounds
from recsys_lib.datasets import load_movielens_100k
from recsys_lib.encoders import TextEncoder
from recsys_lib.geometry import center, normalize
from recsys_lib.index import (
    FILE,
    bytes_per_item,
    exact_index,
    hnsw_index,
    ivfpq_index,
    nearest,
    recall,
    varied,
)
from recsys_lib.models.neighbours import profile_matrix
from recsys_lib.splits import leave_one_out

SIZES = (1_682, 5_000, 20_000, 100_000, 300_000, 1_000_000)
EFFORT, RUNS = 40, ((16, (16, 32, 64, 128, 256), 1_000_000), (32, (16, 64, 256, 1024), 300_000))  # of HNSW
CODE, PROBES, CANDIDATES = 48, (4, 16, 64, 256), 200  # of IVF-PQ
Search = Callable[[np.ndarray], np.ndarray]
RERANKED = f"IVF-PQ + exact {CANDIDATES}"


def catalogue_and_queries(queries: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Centred vectors of the films, length 1, and profiles of `queries` users drawn at random."""
    data = load_movielens_100k("rich")
    vectors = TextEncoder.from_pretrained("all-MiniLM-L6-v2").encode(data.texts, show_progress=False)
    items = normalize(center(vectors)).astype(np.float32)
    profiles = normalize(profile_matrix(leave_one_out(data).fit_part, 0.85) @ items).astype(np.float32)
    return items, profiles[np.random.default_rng(seed).permutation(data.n_users)[:queries]]


def setups(
    graph: Any, efforts: Sequence[int], codes: Any, base: np.ndarray
) -> Iterator[tuple[str, str, Any, Search]]:
    """Engine, setting, index and search function (one query → at most ten rows) of all engines, one by one."""
    for value in efforts:
        graph.hnsw.efSearch = value
        yield "HNSW", f"efSearch={value}", graph, lambda query: graph.search(query, 10)[1][0]

    def ranked(query: np.ndarray) -> np.ndarray:
        rows = codes.search(query, CANDIDATES)[1][0]
        rows = rows[rows >= 0]
        return rows[np.argsort(-(base[rows] @ query[0]), kind="stable")[:10]]

    for value in PROBES:
        if value < codes.nlist:
            codes.nprobe = value
            yield "IVF-PQ", f"nprobe={value}", codes, lambda query: codes.search(query, 10)[1][0]
            yield RERANKED, f"nprobe={value}", codes, ranked


def repeat(search: Search, queries: np.ndarray, times: int) -> None:
    """Search for one query after the other."""
    for _ in range(times):
        for query in queries:
            search(query[None])


def measure(links: int, efforts: Sequence[int], largest: int) -> Iterator[dict[str, Any]]:
    """Measure all sizes up to `largest` with one HNSW graph that grows; yield a row for each engine and setting."""
    films, queries = catalogue_and_queries()
    everything = varied(films, largest)
    graph = hnsw_index(films[:1], links, EFFORT)
    graph.reset()
    graph_seconds = 0.0
    for size in [size for size in SIZES if size <= largest]:
        base = everything[:size]
        exact = exact_index(base)
        true = nearest(exact, queries)
        start = time.process_time()
        graph.add(base[graph.ntotal :])
        graph_seconds += time.process_time() - start
        start = time.process_time()
        codes = ivfpq_index(base, int(2 * np.sqrt(size)), CODE)
        codes_seconds = time.process_time() - start
        memory = {"HNSW": bytes_per_item(graph), "IVF-PQ": bytes_per_item(codes)}
        memory[RERANKED] = memory["IVF-PQ"] + 4 * films.shape[1]
        few = queries[: 8 if size > 200_000 else 40]
        row: dict[str, Any] = {"items": size, "engine": "exact", "setting": "all", "recall": 1.0}
        yield row | {"bytes": 4.0 * films.shape[1], "visited": 1.0, "cost": 1.0, "queries_to_pay": 0.0}
        for engine, setting, index, search in setups(graph, efforts, codes, base):
            stats = faiss.cvar.hnsw_stats if index is graph else faiss.cvar.indexIVF_stats
            stats.reset()
            found = np.full((len(queries), 10), -1)
            for place, query in enumerate(queries):
                best = search(query[None])
                found[place, : len(best)] = best
            visited = stats.ndis / len(queries) / size
            rivals = {"exact": partial(repeat, partial(exact.search, k=10), few, 1)}
            seconds = rounds(rivals | {"engine": partial(repeat, search, few, 5)}, 3)
            slow, fast = median(seconds["exact"]) / len(few), median(seconds["engine"]) / len(few) / 5
            cost = median(e / 5 / x for x, e in zip(seconds["exact"], seconds["engine"], strict=True))
            built = graph_seconds if index is graph else codes_seconds
            name = f"HNSW, {links} links" if index is graph else engine
            row = {"items": size, "engine": name, "setting": setting, "recall": round(recall(found, true), 4)}
            row |= {
                "bytes": round(memory[engine], 1),
                "visited": round(visited, 6),
                "cost": float(f"{cost:.3g}"),
            }
            yield row | {"queries_to_pay": float(f"{built / (slow - fast):.3g}") if fast < slow else np.inf}


def main(largest: int = SIZES[-1]) -> pd.DataFrame:
    """Measure all sizes up to `largest`; a full run writes the file."""
    faiss.omp_set_num_threads(1)
    rows = []
    for run, (links, efforts, most) in enumerate(RUNS, 1):
        for row in measure(links, efforts, min(most, largest)):
            rows.append({"run": run} | row)
            print(*rows[-1].values(), flush=True)
    table = pd.DataFrame(rows)
    if largest == SIZES[-1]:
        table.to_csv(FILE, index=False)
    return table


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else SIZES[-1])
