"""Ranking metrics with one binary notion of relevance, vectorised over users.

``ranks`` are positions in the full ranking, 1 = best. Shape (n_users,): one relevant item a user; shape
(n_users, m): several, short rows filled with ``np.inf``. Every metric returns one value a user, in [0, 1];
their mean is the figure that tables show. Libraries differ in the details [metrics], so they are stated.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

ABSENT = 2**31 - 1  # the rank of a relevant item that a top-k list does not hold


def _rank_matrix(ranks: ArrayLike, k: int) -> NDArray[np.float64]:
    """Return ranks as a float64 (n_users, m) matrix, checked."""
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    matrix = np.asarray(ranks, dtype=np.float64)
    matrix = matrix[:, None] if matrix.ndim == 1 else matrix
    if matrix.ndim != 2:
        raise ValueError(f"ranks must have shape (n_users,) or (n_users, m), got {matrix.shape}")
    if np.isnan(matrix).any() or (matrix < 1).any():
        raise ValueError("ranks start at 1 and may not be NaN; fill short rows with numpy.inf")
    if not np.isfinite(matrix).any(axis=1).all():
        raise ValueError("every user needs at least one relevant item")
    return matrix


def ranks_from_lists(lists: ArrayLike, relevant: Sequence[Iterable[int]]) -> NDArray[np.float64]:
    """Ranks of the relevant items in top-k lists.

    Parameters
    ----------
    lists : int array (n_users, k)
        Item codes, best first.
    relevant : sequence of n_users sets of item codes

    Returns
    -------
    float array (n_users, m) for the metrics below; an item outside the list has rank ``ABSENT``.
    """
    recommended = np.asarray(lists)
    if len(recommended) != len(relevant):
        raise ValueError(f"{len(recommended)} lists for {len(relevant)} users")
    wanted = [sorted(set(items)) for items in relevant]
    ranks = np.full((len(wanted), max(map(len, wanted), default=0)), np.inf)
    for row, items in enumerate(wanted):
        place = {int(item): position for position, item in enumerate(recommended[row], start=1)}
        ranks[row, : len(items)] = [place.get(int(item), ABSENT) for item in items]
    return ranks


def hit_rate(ranks: ArrayLike, k: int = 10) -> NDArray[np.float64]:
    """1 if any relevant item is among the first ``k``, else 0."""
    hit = (_rank_matrix(ranks, k) <= k).any(axis=1)
    return np.asarray(hit, dtype=np.float64)


def recall(ranks: ArrayLike, k: int = 10) -> NDArray[np.float64]:
    """Share of the user's relevant items among the first ``k`` (over all of them, not over min(k, all))."""
    matrix = _rank_matrix(ranks, k)
    return (matrix <= k).sum(axis=1) / np.isfinite(matrix).sum(axis=1)


def precision(ranks: ArrayLike, k: int = 10) -> NDArray[np.float64]:
    """Share of the first ``k`` places that hold a relevant item."""
    return (_rank_matrix(ranks, k) <= k).sum(axis=1) / k


def mrr(ranks: ArrayLike, k: int = 10) -> NDArray[np.float64]:
    """1 / rank of the first relevant item, 0 if it is beyond ``k``."""
    first = _rank_matrix(ranks, k).min(axis=1)
    return np.where(first <= k, 1.0 / first, 0.0)


def ndcg(ranks: ArrayLike, k: int = 10) -> NDArray[np.float64]:
    """Sum of 1 / log2(1 + rank) over relevant items in the first ``k``, over its largest possible value.

    The largest value has min(k, number of relevant items) relevant items in the first places.
    """
    matrix = _rank_matrix(ranks, k)
    gain = np.where(matrix <= k, 1.0 / np.log2(1.0 + matrix), 0.0).sum(axis=1)
    ideal = np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))
    relevant = np.minimum(np.isfinite(matrix).sum(axis=1), k)
    return gain / ideal[relevant - 1]


def coverage(lists: ArrayLike, n_items: int) -> float:
    """Share of the catalogue that appears in at least one list.

    Parameters
    ----------
    lists : int array (n_users, k)
    n_items : int
    """
    return len(np.unique(np.asarray(lists))) / n_items
