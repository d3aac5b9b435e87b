"""Content-based recommendation: items whose vectors are close to the mean vector of the user's items."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from recsys_lib.geometry import cosine, normalize
from recsys_lib.models.base import Scores, check_rows, checked_vectors, fitted_users, profile_matrix

if TYPE_CHECKING:
    from recsys_lib.datasets import Interactions


class ContentModel:
    """Cosine between each item vector and the user's profile, the (weighted) mean of the user's items.

    Nothing is learned from other users, and items nobody met are scored like any other. Vectors are scaled to
    length 1 first, so every item of the profile counts alike. A user without history scores 0 everywhere.

    Parameters
    ----------
    item_vectors : array (n_items, d)
        From a text encoder, say; centre or whiten them first if wanted.
    last : int, optional
        Use the user's newest items only.
    decay : float in (0, 1]
        Weight per step back in the user's history; 1 weighs all alike.
    """

    def __init__(self, item_vectors: ArrayLike, last: int | None = None, decay: float = 1.0) -> None:
        self.item_vectors = normalize(checked_vectors(item_vectors))
        self.last, self.decay = last, decay
        self.n_users: int | None = None

    def fit(self, train: Interactions) -> ContentModel:
        """Average the vectors of each user's items."""
        check_rows(self.item_vectors, train)
        self.profiles = profile_matrix(train, self.decay, self.last)
        self.n_users = train.n_users
        return self

    def score(self, users: ArrayLike) -> Scores:
        """Return cosines in [-1, 1]: (len(users), n_items)."""
        codes = fitted_users(self, users, self.n_users)
        if not len(codes):
            return np.empty((0, len(self.item_vectors)), np.float32)
        return cosine(self.profiles[codes] @ self.item_vectors, self.item_vectors).astype(np.float32)
