"""Ranking metrics with one binary notion of relevance, what else a list is, and how good probabilities are.

``ranks`` are positions in the full ranking, 1 = best. Shape (n_users,): one relevant item a user; shape
(n_users, m): several, short rows filled with ``np.inf``. Every metric returns one value a user, in [0, 1];
their mean is the figure that tables show. Libraries differ in the details [metrics], so they are stated.
``lists`` are item codes (n_users, k), best first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from recsys_lib.geometry import normalize

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


def novelty(lists: ArrayLike, counts: ArrayLike, n_users: int) -> NDArray[np.float64]:
    """Mean self-information of each list: -log2(share of users who met the item), in bits.

    Parameters
    ----------
    lists : int array (n_users, k)
    counts : array (n_items,)
        Users who met each item; an item nobody met counts as met by one.
    n_users : int
        Users behind the counts.
    """
    met = np.maximum(np.asarray(counts, dtype=np.float64), 1.0)
    if met.max(initial=0.0) > n_users:
        raise ValueError(f"an item has {met.max():g} users, but there are {n_users}")
    return np.asarray(-np.log2(met / n_users)[np.asarray(lists)].mean(axis=1))


def intra_list_distance(lists: ArrayLike, item_vectors: ArrayLike) -> NDArray[np.float64]:
    """Mean of 1 - cosine over all pairs of a list, in [0, 2].

    Parameters
    ----------
    lists : int array (n_users, k), k >= 2
    item_vectors : array (n_items, d)
    """
    codes = np.asarray(lists)
    if codes.ndim != 2 or codes.shape[1] < 2:
        raise ValueError(f"lists must have shape (n_users, k) with k >= 2, got {codes.shape}")
    unit = normalize(np.asarray(item_vectors, dtype=np.float64))
    size = codes.shape[1]
    # the sum over pairs from the length of the sum: no (k, k) matrix is needed
    own = (unit[codes] ** 2).sum(axis=(1, 2))
    pairs = (unit[codes].sum(axis=1) ** 2).sum(axis=1) - own
    return np.asarray(1.0 - pairs / (size * (size - 1)))


def gini(counts: ArrayLike) -> float:
    """Gini coefficient of non-negative counts: 0 if all are equal, (n - 1) / n if one has everything."""
    ordered = np.sort(np.asarray(counts, dtype=np.float64))
    if not ordered.size or ordered[0] < 0 or not ordered.sum() > 0:
        raise ValueError("counts must be non-negative with a sum above 0")
    n = len(ordered)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * ordered.sum()))


def _labels(labels: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return 0/1 labels and probabilities, checked."""
    truth = np.asarray(labels, dtype=np.float64)
    values = np.asarray(probabilities, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != values.shape or not truth.size:
        raise ValueError(
            f"labels and probabilities must be equally long lists, got {truth.shape}, {values.shape}"
        )
    if not np.isin(truth, (0.0, 1.0)).all():
        raise ValueError("labels must be 0 or 1")
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("probabilities must lie in [0, 1]")
    return truth, values


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Probability that a positive scores above a negative, ties counted half.

    Raises
    ------
    ValueError
        If one of the two classes is missing.
    """
    from sklearn.metrics import roc_auc_score

    truth = np.asarray(labels)
    if len(np.unique(truth)) != 2:
        raise ValueError("the area under the curve needs positives and negatives")
    return float(roc_auc_score(truth, np.asarray(scores)))


def log_loss(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean of -log(probability of what happened), in nats; probabilities are kept 1e-15 from 0 and 1."""
    truth, values = _labels(labels, probabilities)
    values = np.clip(values, 1e-15, 1 - 1e-15)
    return float(-(truth * np.log(values) + (1 - truth) * np.log1p(-values)).mean())


def brier(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean of (probability - label)^2, in [0, 1]."""
    truth, values = _labels(labels, probabilities)
    return float(((values - truth) ** 2).mean())


def reliability_curve(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> pd.DataFrame:
    """Predicted probability against what happened, in ``bins`` intervals of equal width.

    Returns
    -------
    DataFrame, one row an interval that holds anything
        Columns predicted (mean probability), observed (share of ones), count.
    """
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    truth, values = _labels(labels, probabilities)
    place = np.minimum((values * bins).astype(np.int64), bins - 1)
    grouped = pd.DataFrame({"predicted": values, "observed": truth}).groupby(place)
    return grouped.mean().assign(count=grouped.size()).rename_axis("interval")


def calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error: mean |predicted - observed| of the reliability curve, weighted by count."""
    curve = reliability_curve(labels, probabilities, bins)
    return float(np.average((curve["predicted"] - curve["observed"]).abs(), weights=curve["count"]))
