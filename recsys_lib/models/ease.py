"""EASE: the item-to-item weights that best rebuild the interactions, in one matrix inverse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from recsys_lib.models.base import Scores, fitted_users, profile_matrix

if TYPE_CHECKING:
    from recsys_lib.datasets import Interactions


class EASE:
    """Linear autoencoder with a zero diagonal [ease].

    Minimises |X - X B|^2 + regularization |B|^2 subject to diag B = 0, X the binary interactions:
    with P = (X'X + regularization I)^-1, B_ij = -P_ij / P_jj off the diagonal. Memory
    grows with n_items^2, time with n_items^3.

    Parameters
    ----------
    regularization : float, > 0
    decay : float in (0, 1]
        Weight of the user's items when scoring, per step back in the user's history; 1 weighs all alike.
        The weights B are learned from the binary matrix either way.
    """

    def __init__(self, regularization: float = 100.0, decay: float = 1.0) -> None:
        if not regularization > 0:
            raise ValueError(f"regularization must be above 0, got {regularization}")
        self.regularization, self.decay = regularization, decay
        self.n_users: int | None = None

    def fit(self, train: Interactions) -> EASE:
        """Solve for the item-to-item weights."""
        self.profiles = profile_matrix(train, self.decay)
        binary = train.matrix()
        gram = np.asarray((binary.T @ binary).todense(), dtype=np.float64)
        gram[np.diag_indices_from(gram)] += self.regularization
        inverse = np.linalg.inv(gram)
        weights = -inverse / np.diag(inverse)
        np.fill_diagonal(weights, 0.0)
        self.weights = weights.astype(np.float32)
        self.n_users = train.n_users
        return self

    def score(self, users: ArrayLike) -> Scores:
        """Return profiles times weights: (len(users), n_items)."""
        codes = fitted_users(self, users, self.n_users)
        return np.asarray(self.profiles[codes] @ self.weights, dtype=np.float32)
