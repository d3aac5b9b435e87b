"""Next-shelf prediction: from a film's vector, on which shelf is the next film of the same user?

A self-supervised task of this book, for cold items: labels are the order of histories, shelves are k-means clusters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.cluster import KMeans

from recsys_lib.datasets import Interactions
from recsys_lib.models.base import Scores, check_rows, checked_vectors, fitted_users


def softmax_regression(x: ArrayLike, counts: ArrayLike, penalty: float = 1.0) -> NDArray[np.float64]:
    """Fit a linear map to the log-probabilities of classes, by L-BFGS.

    Parameters
    ----------
    x : array (n, d)
        A constant column is added; its weights bear no penalty.
    counts : array (n, classes), >= 0
        How often each row of ``x`` met each class.
    penalty : float, >= 0
        Times half the sum of squared weights, added to the sum of cross-entropies.

    Returns
    -------
    array (d + 1, classes)
        The last row is the constant's.
    """
    x, counts = np.asarray(x, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    if len(x) != len(counts) or counts.min() < 0 or penalty < 0:
        raise ValueError("x and counts need as many rows, counts and penalty must be at least 0")
    x = np.column_stack([x, np.ones(len(x))])
    total, shape = counts.sum(axis=1, keepdims=True), (x.shape[1], counts.shape[1])
    ridge = np.full((shape[0], 1), penalty)
    ridge[-1] = 0

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(shape)
        logits = x @ weights
        value = -(counts * log_softmax(logits, axis=1)).sum() + 0.5 * (ridge * weights**2).sum()
        return value, (x.T @ (total * softmax(logits, axis=1) - counts) + ridge * weights).ravel()

    found = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 100})
    return found.x.reshape(shape)


class NextShelf:
    """Scores of items, cold ones too, by the shelves that a history leads to.

    Vectors are centred on the warm items' mean and reduced to their principal components. For each codebook the
    warm items are put on shelves by k-means, and a softmax regression learns from an item's components the shelf
    of the item that the same user took next. With p the decayed mean of these predictions over a history, an item
    scores log(p(its shelf) / warm items on that shelf), averaged over the codebooks.

    Parameters
    ----------
    item_vectors : array (n_items, d)
    shelves, codebooks, components : int
    penalty, decay : float
        See `softmax_regression`; the weight of each step back in the history.
    label : "next" or "any"
        "any" is a control: the shelf of a random other item of the same user.
    seed : int
        Of k-means (plus the codebook's number) and of the control.
    """

    def __init__(
        self,
        item_vectors: ArrayLike,
        shelves: int = 32,
        *,
        codebooks: int = 5,
        components: int = 64,
        penalty: float = 1.0,
        decay: float = 1.0,
        label: str = "next",
        seed: int = 0,
    ) -> None:
        if label not in ("next", "any"):
            raise ValueError(f"label must be 'next' or 'any', got {label!r}")
        if not 0 < decay <= 1:
            raise ValueError(f"decay must lie in (0, 1], got {decay}")
        self.item_vectors = checked_vectors(item_vectors)
        self.shelves, self.codebooks, self.components = shelves, codebooks, components
        self.penalty, self.decay, self.label, self.seed = penalty, decay, label, seed
        self.n_users: int | None = None

    def fit(self, train: Interactions) -> NextShelf:
        """Make the shelves and learn what comes next."""
        check_rows(self.item_vectors, train)
        warm = np.flatnonzero(train.matrix().getnnz(axis=0))
        vectors = self.item_vectors - self.item_vectors[warm].mean(axis=0)
        _, _, axes = np.linalg.svd(vectors[warm], full_matrices=False)
        x = vectors @ axes[: self.components].T
        before, after = self._pairs(train.histories())
        self.histories = train.histories()
        self.logs = np.zeros((train.n_users, train.n_items))
        for book in range(self.codebooks):
            means = KMeans(self.shelves, n_init=1, random_state=self.seed + book).fit(x[warm])
            shelf = means.predict(x)
            counts = np.zeros((train.n_items, self.shelves))
            np.add.at(counts, (before, shelf[after]), 1)
            weights = softmax_regression(x[warm], counts[warm], self.penalty)
            predicted = softmax(x @ weights[:-1] + weights[-1], axis=1)
            rate = self._profiles(predicted) / np.bincount(shelf[warm], minlength=self.shelves)
            self.logs += np.log(rate)[:, shelf] / self.codebooks
        self.n_users = train.n_users
        return self

    def _pairs(self, histories: list[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Items and the items after them; for the control, any other item of the same user."""
        rng = np.random.default_rng(self.seed)
        pairs = []
        for history in histories:
            if len(history) < 2:
                continue
            after = history[1:]
            if self.label == "any":
                shift = rng.integers(1, len(history), size=len(history) - 1)
                after = history[(np.arange(len(history) - 1) + shift) % len(history)]
            pairs.append((history[:-1], after))
        before, after = (np.concatenate(side) for side in zip(*pairs, strict=True))
        return before, after

    def _profiles(self, predicted: NDArray[np.float64]) -> NDArray[np.float64]:
        """Decayed means of the predictions over the histories; the overall mean where there is none."""
        out = np.tile(predicted.mean(axis=0), (len(self.histories), 1))
        for user, history in enumerate(self.histories):
            if len(history):
                weight = self.decay ** np.arange(len(history) - 1, -1, -1)
                out[user] = weight @ predicted[history] / weight.sum()
        return out

    def score(self, users: ArrayLike) -> Scores:
        """Return scores of all items (len(users), n_items)."""
        codes = fitted_users(self, users, self.n_users)
        return self.logs[codes].astype(np.float32)
