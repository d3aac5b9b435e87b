"""The two rows that every table of results needs: random and popularity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from recsys_lib.models.base import Scores, fitted_users

if TYPE_CHECKING:
    from recsys_lib.datasets import Interactions


class RandomModel:
    """Scores drawn evenly from [0, 1), the same for a user and seed however the users are batched.

    Parameters
    ----------
    seed : int
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.n_users: int | None = None

    def fit(self, train: Interactions) -> RandomModel:
        """Note the numbers of users and items."""
        self.n_users, self.n_items = train.n_users, train.n_items
        return self

    def score(self, users: ArrayLike) -> Scores:
        """Return random scores (len(users), n_items)."""
        codes = fitted_users(self, users, self.n_users)
        rows = [np.random.default_rng([self.seed, user]).random(self.n_items, np.float32) for user in codes]
        return np.stack(rows) if rows else np.empty((0, self.n_items), np.float32)


class Popularity:
    """The number of training interactions of each item, the same scores for every user [progress]."""

    def __init__(self) -> None:
        self.n_users: int | None = None

    def fit(self, train: Interactions) -> Popularity:
        """Count the interactions of each item."""
        self.n_users = train.n_users
        counts = np.bincount(train.frame["item"].to_numpy(dtype=np.int64), minlength=train.n_items)
        self.counts = counts.astype(np.float32)
        return self

    def score(self, users: ArrayLike) -> Scores:
        """Return the counts, once for each user: (len(users), n_items)."""
        codes = fitted_users(self, users, self.n_users)
        return np.tile(self.counts, (len(codes), 1))
