"""Item cold start: a map from text to what a collaborative model would say, for items nobody met."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from recsys_lib.geometry import center, normalize
from recsys_lib.models.base import Recommender, Scores, check_rows, checked_vectors, fitted_users

if TYPE_CHECKING:
    from recsys_lib.datasets import Interactions

BLOCK = 1024  # users at a time, so that memory stays bounded


class RidgeToScores:
    """Ridge regression from item vectors to the scores that a collaborative model gives warm items.

    Warm items are those with an interaction in the training data. Vectors are centred on the warm items' mean
    and scaled to length 1. Every user has a weight vector: with V the warm items' vectors and s the user's
    scores of them minus their mean, w = (V'V + regularization I)^-1 V's. Any item, cold or warm, then scores
    its vector times w.

    Parameters
    ----------
    item_vectors : array (n_items, d)
    base : model or None
        Fitted on the same data by ``fit``; None takes the binary interactions as scores.
    regularization : float, > 0
        Added to the diagonal of V'V; choose it on validation, often between 1 and 30.
    """

    def __init__(
        self, item_vectors: ArrayLike, base: Recommender | None = None, regularization: float = 10.0
    ) -> None:
        if not regularization > 0:
            raise ValueError(f"regularization must be above 0, got {regularization}")
        self.item_vectors = checked_vectors(item_vectors)
        self.base, self.regularization = base, regularization
        self.n_users: int | None = None

    def fit(self, train: Interactions) -> RidgeToScores:
        """Fit the base model, then each user's weights over the dimensions of the vectors."""
        check_rows(self.item_vectors, train)
        binary = train.matrix()
        self.warm = np.flatnonzero(binary.getnnz(axis=0))
        if not len(self.warm):
            raise ValueError("RidgeToScores needs interactions to learn from; the training data has none")
        if self.base is not None:
            self.base.fit(train)
        self.vectors = normalize(center(self.item_vectors, self.item_vectors[self.warm]))
        warm = self.vectors[self.warm]
        penalty = self.regularization * np.eye(warm.shape[1])
        solve = np.linalg.solve(warm.T @ warm + penalty, warm.T)  # (d, n_warm)
        parts = []
        for start in range(0, train.n_users, BLOCK):
            users = np.arange(start, min(start + BLOCK, train.n_users))
            scores = binary[users].toarray() if self.base is None else self.base.score(users)
            scores = scores[:, self.warm].astype(np.float64)
            parts.append((scores - scores.mean(axis=1, keepdims=True)) @ solve.T)
        self.weights = np.concatenate(parts)  # (n_users, d)
        self.n_users = train.n_users
        return self

    def score(self, users: ArrayLike) -> Scores:
        """Return predicted scores of all items, cold ones included: (len(users), n_items)."""
        codes = fitted_users(self, users, self.n_users)
        return (self.weights[codes] @ self.vectors.T).astype(np.float32)
