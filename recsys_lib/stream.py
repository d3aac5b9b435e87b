"""A log of interactions as a stream in time: test on what comes next, then learn it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from recsys_lib.datasets import Interactions

DAY = 86400  # seconds


def prequential_pages(interactions: Interactions, size: int = 10) -> pd.DataFrame:
    """Cut a log into pages: what a user takes next on one day, at most ``size`` items.

    To test and then train (prequential evaluation), go through the days in order. On each day rank, for every page,
    with models that know the rows of earlier days and with the user's own rows before the page; the page's rows are
    what should have been ranked high. Then let the models learn the day.

    Parameters
    ----------
    interactions : Interactions
        With timestamps in seconds since 1970, days in UTC.
    size : int, >= 1

    Returns
    -------
    DataFrame
        The rows in order of time, ties in the order of the data. Columns user, item, timestamp; ``day``: whole
        days since the day of the first row; ``place``: how many rows of the same user come before; ``page``:
        number of the row's page from 0, in order of time; ``start``: ``place`` of the page's first row.

    Raises
    ------
    ValueError
        If ``size`` is below 1 or there are no rows.
    """
    if size < 1:
        raise ValueError(f"a page holds at least 1 row, got size = {size}")
    if not len(interactions):
        raise ValueError("there are no interactions to cut into pages")
    rows = pd.DataFrame(
        {"user": interactions.users, "item": interactions.items, "timestamp": interactions.timestamps}
    )
    rows = rows.sort_values("timestamp", kind="stable", ignore_index=True)
    rows["day"] = (rows["timestamp"] // DAY - rows["timestamp"].iloc[0] // DAY).astype(np.int64)
    rows["place"] = rows.groupby("user").cumcount()
    within = rows.groupby(["user", "day"]).cumcount()
    rows["start"] = rows["place"] - within % size
    rows["page"] = rows.groupby(["user", "start"], sort=False).ngroup()
    return rows[["user", "item", "timestamp", "day", "place", "page", "start"]]


class StreamingEASE:
    """EASE kept up to date: new rows change the inverse by Woodbury's identity, nothing is fitted again [ease].

    With P = (X'X + regularization I)^-1, a user's row going from x to y adds yy' - xx' to X'X. For all users of a
    batch together, U their rows after and before and C = diag(1, ..., -1, ...),

        P <- P - P U' (C^-1 + U P U')^-1 U P,

    which costs n_items^2 times the batch's users instead of n_items^3. The weights are those of ``EASE`` fitted on
    all rows so far, but for rounding.

    Parameters
    ----------
    n_users, n_items : int
    regularization : float, > 0
    """

    def __init__(self, n_users: int, n_items: int, regularization: float = 800.0) -> None:
        if not regularization > 0:
            raise ValueError(f"regularization must be above 0, got {regularization}")
        if n_users < 1 or n_items < 1:
            raise ValueError(f"at least one user and one item are needed, got {n_users} and {n_items}")
        self.rows = np.zeros((n_users, n_items), dtype=bool)
        self.inverse = np.eye(n_items) / regularization

    def update(self, users: ArrayLike, items: ArrayLike) -> StreamingEASE:
        """Learn new pairs, codes of equal length (n,); ValueError if a pair is out of range or known already."""
        user, item = np.asarray(users, dtype=np.int64), np.asarray(items, dtype=np.int64)
        if user.ndim != 1 or user.shape != item.shape:
            raise ValueError(f"users and items must be equally long lists, got {user.shape}, {item.shape}")
        if not len(user):
            return self
        n_users, n_items = self.rows.shape
        if user.min() < 0 or user.max() >= n_users or item.min() < 0 or item.max() >= n_items:
            raise ValueError(f"codes must lie below {n_users} (users) and {n_items} (items)")
        if self.rows[user, item].any() or len(np.unique(user * n_items + item)) < len(user):
            raise ValueError("a pair of user and item is known already")
        changed = np.unique(user)
        before = self.rows[changed].astype(np.float64)
        self.rows[user, item] = True
        after = self.rows[changed].astype(np.float64)
        old = before.any(axis=1)
        factors = np.vstack([after, before[old]])
        signs = np.r_[np.ones(len(after)), -np.ones(old.sum())]
        moved = self.inverse @ factors.T
        self.inverse -= moved @ np.linalg.solve(np.diag(signs) + factors @ moved, moved.T)
        return self

    @property
    def weights(self) -> NDArray[np.float32]:
        """Item-to-item weights (n_items, n_items), zero diagonal, as ``EASE.weights``."""
        weights = -self.inverse / np.diag(self.inverse)
        np.fill_diagonal(weights, 0.0)
        return weights.astype(np.float32)
