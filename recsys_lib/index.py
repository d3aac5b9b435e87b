"""Candidates from many vectors: exact and approximate search with FAISS, and what it finds, holds and visits.

Needs ``faiss-cpu``. All searches are by inner product; normalise the vectors and it is the cosine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

FILE = Path(__file__).with_name("candidate_engines.csv")


def exact_index(vectors: ArrayLike) -> faiss.Index:
    """Index that compares a query with every vector: the yardstick of all others.

    Parameters
    ----------
    vectors : array of float, shape (items, d)

    Raises
    ------
    ValueError
        If there are no vectors, or not one vector a row, or numbers that are not finite.
    """
    found = _checked(vectors)
    index = faiss.IndexFlatIP(found.shape[1])
    index.add(found)
    return index


def hnsw_index(vectors: ArrayLike, links: int = 32, build_effort: int = 40) -> faiss.Index:
    """Graph of near vectors in layers, searched from neighbour to neighbour ([hnsw]).

    Set ``index.hnsw.efSearch`` before a search: more is slower and finds more.

    Parameters
    ----------
    vectors : array of float, shape (items, d)
    links : int
        Neighbours kept per vector and layer (twice as many on the lowest).
    build_effort : int
        Candidates looked at when a vector is put in (efConstruction).
    """
    found = _checked(vectors)
    index = faiss.IndexHNSWFlat(found.shape[1], links, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = build_effort
    index.add(found)
    return index


def ivfpq_index(vectors: ArrayLike, lists: int, code_bytes: int = 48, seed: int = 0) -> faiss.Index:
    """Inverted lists of short codes: k-means cells, and in them product quantisation ([pq]).

    Set ``index.nprobe`` before a search: the number of lists looked into.

    Parameters
    ----------
    vectors : array of float, shape (items, d)
        They are also what the cells and codes are learned from (FAISS draws a sample where there are many).
    lists : int
        Number of cells, at most the number of vectors.
    code_bytes : int
        Length of a vector's code in bytes; d must be a multiple of it.
    seed : int
        Of both k-means.

    Raises
    ------
    ValueError
        If there are fewer than 256 vectors (a byte tells 256 centroids apart), or `lists` or `code_bytes` do not fit.
    """
    found = _checked(vectors)
    items, width = found.shape
    if items < 256:
        raise ValueError(f"256 vectors are the least to learn codes from, not {items}: use exact_index")
    if not 1 <= lists <= items:
        raise ValueError(f"lists must be from 1 to the number of vectors, {items}, not {lists}")
    if code_bytes < 1 or width % code_bytes:
        raise ValueError(f"code_bytes must divide the length of the vectors, {width}; {code_bytes} does not")
    index = faiss.IndexIVFPQ(
        faiss.IndexFlatIP(width), width, lists, code_bytes, 8, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.seed = index.pq.cp.seed = seed
    index.cp.max_points_per_centroid = 64  # a quarter of FAISS's sample
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
    index.train(found)
    index.add(found)
    return index


def nearest(index: Any, queries: ArrayLike, k: int = 10) -> NDArray[np.int64]:
    """Rows of the k vectors that the index finds for each query, best first; −1 where it found fewer.

    Parameters
    ----------
    index : faiss.Index
    queries : array of float, shape (queries, d)
    k : int
        From 1 to the number of vectors in the index.
    """
    if not 1 <= k <= index.ntotal:
        raise ValueError(f"k must be from 1 to the number of vectors, {index.ntotal}, not {k}")
    found = _checked(queries)
    if found.shape[1] != index.d:
        raise ValueError(f"queries have {found.shape[1]} columns, the vectors of the index {index.d}")
    return index.search(found, k)[1]


def rerank(candidates: ArrayLike, vectors: ArrayLike, queries: ArrayLike, k: int = 10) -> NDArray[np.int64]:
    """The best k of each query's candidates by the exact inner product; −1 among the candidates is passed over.

    Parameters
    ----------
    candidates : array of int, shape (queries, c), c >= k
        Rows of `vectors`, as from :func:`nearest`.
    vectors : array of float, shape (items, d)
    queries : array of float, shape (queries, d)
    """
    rows, base = np.asarray(candidates), np.asarray(vectors)
    if not 1 <= k <= rows.shape[1]:
        raise ValueError(f"k must be from 1 to the number of candidates, {rows.shape[1]}, not {k}")
    scores = np.einsum("qcd,qd->qc", base[rows], np.asarray(queries))
    order = np.argsort(-np.where(rows < 0, -np.inf, scores), axis=1, kind="stable")[:, :k]
    return np.take_along_axis(rows, order, axis=1)


def recall(found: ArrayLike, true: ArrayLike) -> float:
    """Mean share of the true neighbours that were found, from 0 to 1; the order does not count.

    Parameters
    ----------
    found, true : arrays of int, shape (queries, k)
    """
    left, right = np.asarray(found), np.asarray(true)
    if left.shape != right.shape or left.ndim != 2 or not left.size:
        raise ValueError(
            f"found and true must be of one shape (queries, k), not {left.shape} and {right.shape}"
        )
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(left, right, strict=True)]))


def bytes_per_item(index: Any) -> float:
    """Bytes the index takes when written out, divided by the number of its vectors."""
    return len(faiss.serialize_index(index)) / index.ntotal


def varied(vectors: ArrayLike, size: int, seed: int = 0) -> NDArray[np.float32]:
    """Make a catalogue of any size from a real one: its vectors first, then variations of them, all of length 1.

    A variation is a real vector plus the difference of two others that are near each other (one of the ten nearest):
    it differs from an item as real neighbours differ. It is no new item; it keeps the crowding and the directions of the
    real ones and says nothing of tastes.

    Parameters
    ----------
    vectors : array of float, shape (items, d)
        At least 11 of them.
    size : int
        Vectors to return; the first ``min(size, items)`` are the real ones, and a larger size starts with a smaller's.
    seed : int

    Returns
    -------
    ndarray of float32, shape (size, d)
    """
    real = _checked(vectors)
    if len(real) < 11 or size < 1:
        raise ValueError(f"at least 11 vectors and a size of 1 are needed, not {len(real)} and {size}")
    real = real / np.maximum(np.linalg.norm(real, axis=1, keepdims=True), 1e-12)
    near = nearest(exact_index(real), real, 11)[:, 1:]
    rng = np.random.default_rng(seed)
    made = np.empty((size, real.shape[1]), dtype=np.float32)
    made[: len(real)] = real[:size]
    for start in range(len(real), size, 10_000):
        origin, left = rng.integers(len(real), size=(2, 10_000))
        right = near[left, rng.integers(10, size=10_000)]
        block = real[origin] + real[left] - real[right]
        block /= np.maximum(np.linalg.norm(block, axis=1, keepdims=True), 1e-12)
        made[start : start + 10_000] = block[: size - start]
    return made


def candidate_engines() -> pd.DataFrame:
    """The recall, memory and cost of the engines that ``python -m benchmarks.bench_index`` measured.

    Returns
    -------
    DataFrame
        A row for each run, size, engine and setting: ``run``, ``items``, ``engine``, ``setting``, ``recall`` (of the
        exact ten), ``bytes`` (per item), ``visited`` (share of the items that a query is compared with), ``cost``
        (CPU time of a query, in times of an exact one at the same size in the same run), ``queries_to_pay`` (how many
        queries save as much as the building took; infinite where a query saves nothing).
    """
    return pd.read_csv(FILE)


def _checked(vectors: ArrayLike) -> NDArray[np.float32]:
    found = np.ascontiguousarray(vectors, dtype=np.float32)
    if found.ndim != 2 or not found.size:
        raise ValueError(f"one vector a row is needed, shape (n, d), not {found.shape}")
    if not np.isfinite(found).all():
        raise ValueError("some numbers are not finite")
    return found
