"""Item neighbours: people who met these items also met those."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from recsys_lib.models.base import Scores, fitted_users, profile_matrix

if TYPE_CHECKING:
    from recsys_lib.datasets import Interactions


class ItemKNN:
    """Sum of the similarities between an item and the user's items, over the item's nearest neighbours.

    Similarity of items i and j: c_ij / (sqrt(c_i c_j) + shrink), with c_ij the users who met both (cosine of
    the columns of the binary matrix, shrunk where counts are small) [progress].

    Parameters
    ----------
    neighbours : int
        Neighbours kept for each item.
    shrink : float, >= 0
        Larger values trust rare items less.
    decay : float in (0, 1]
        Weight of the user's items when scoring, per step back in the user's history; 1 weighs all alike.
    """

    def __init__(self, neighbours: int = 500, shrink: float = 10.0, decay: float = 1.0) -> None:
        if neighbours < 1 or shrink < 0:
            raise ValueError(f"neighbours >= 1 and shrink >= 0 are needed, got {neighbours} and {shrink}")
        self.neighbours, self.shrink, self.decay = neighbours, shrink, decay
        self.n_users: int | None = None

    def fit(self, train: Interactions) -> ItemKNN:
        """Count co-occurrences and keep each item's nearest neighbours."""
        self.profiles = profile_matrix(train, self.decay)
        binary = train.matrix()
        together = np.asarray((binary.T @ binary).todense(), dtype=np.float64)
        root = np.sqrt(np.diag(together))
        with np.errstate(invalid="ignore"):  # 0 / 0 where two items were never met and nothing shrinks
            similarity = np.nan_to_num(together / (np.outer(root, root) + self.shrink))
        np.fill_diagonal(similarity, 0.0)
        if self.neighbours < len(similarity):
            # a stable sort, so that the same neighbours are kept on every machine where similarities tie
            nearest = np.argsort(-similarity, axis=0, kind="stable")[: self.neighbours]
            kept = np.zeros_like(similarity)
            np.put_along_axis(kept, nearest, np.take_along_axis(similarity, nearest, axis=0), axis=0)
            similarity = kept
        self.similarity = similarity.astype(np.float32)
        self.n_users = train.n_users
        return self

    def score(self, users: ArrayLike) -> Scores:
        """Return profiles times similarities: (len(users), n_items)."""
        codes = fitted_users(self, users, self.n_users)
        return np.asarray(self.profiles[codes] @ self.similarity, dtype=np.float32)
