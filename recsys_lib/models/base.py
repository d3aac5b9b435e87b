"""What the models share: the protocol, user profiles with recency weights, and checks with clear errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from recsys_lib.datasets import Interactions

Scores = NDArray[np.float32]


class Recommender(Protocol):
    """A model: ``fit`` learns from interactions, ``score`` scores every item for the users asked for."""

    def fit(self, train: Interactions) -> Any:
        """Learn from ``train`` and return the model itself."""

    def score(self, users: ArrayLike) -> Scores:
        """Return scores (len(users), n_items), higher is better."""


def profile_matrix(train: Interactions, decay: float = 1.0, last: int | None = None) -> sp.csr_matrix:
    """User profiles: weight decay^s for the item s steps back from the user's newest, 0 elsewhere.

    Parameters
    ----------
    train : Interactions
    decay : float in (0, 1]
        1 gives every item weight 1; an item met twice keeps its newest (largest) weight.
    last : int, optional
        Keep the user's newest items only.

    Returns
    -------
    sparse matrix (n_users, n_items), float32
    """
    if not 0.0 < decay <= 1.0:
        raise ValueError(f"decay must lie in (0, 1], got {decay}")
    if last is not None and last < 1:
        raise ValueError(f"last must be at least 1, got {last}")
    frame = train.frame  # sorted by user, then oldest first
    user = frame["user"].to_numpy(dtype=np.int64)
    item = frame["item"].to_numpy(dtype=np.int64)
    ends = np.cumsum(np.bincount(user, minlength=train.n_users))
    steps_back = ends[user] - 1 - np.arange(len(user))
    if last is not None:
        keep = steps_back < last
        user, item, steps_back = user[keep], item[keep], steps_back[keep]
    newest_first = np.lexsort((steps_back, item, user))
    user, item, steps_back = user[newest_first], item[newest_first], steps_back[newest_first]
    new = np.ones(len(user), dtype=bool)
    new[1:] = (user[1:] != user[:-1]) | (item[1:] != item[:-1])
    weight = np.power(decay, steps_back[new]).astype(np.float32)
    return sp.csr_matrix((weight, (user[new], item[new])), shape=(train.n_users, train.n_items))


def checked_vectors(vectors: ArrayLike, name: str = "item_vectors") -> NDArray[np.float32]:
    """Return row vectors (n, d) as float32; ValueError if the shape is wrong or a value is not finite."""
    matrix = np.asarray(vectors, dtype=np.float32)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(f"{name} must have shape (n_items, d), got {matrix.shape}")
    if not np.isfinite(matrix).all():
        bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))[:5].tolist()
        raise ValueError(f"{name} holds NaN or infinite values in rows {bad}")
    return matrix


def check_rows(vectors: NDArray, train: Interactions) -> None:
    """Raise ValueError unless there is one vector for each item."""
    if len(vectors) != train.n_items:
        raise ValueError(f"item_vectors has {len(vectors)} rows, but the data has {train.n_items} items")


def fitted_users(model: object, users: ArrayLike, n_users: int | None) -> NDArray[np.int64]:
    """Return user codes as an array.

    Raises
    ------
    RuntimeError
        If the model was not fitted (``n_users`` is None).
    ValueError
        If a code is not an integer in 0..n_users-1.
    """
    if n_users is None:
        raise RuntimeError(f"{type(model).__name__} cannot score before fit: call fit(train) first")
    codes = np.atleast_1d(np.asarray(users))
    if codes.size == 0:
        return np.empty(0, dtype=np.int64)
    if codes.ndim != 1 or not np.issubdtype(codes.dtype, np.integer):
        raise ValueError(f"users must be a list of integer codes, got {codes.dtype} of shape {codes.shape}")
    if codes.min() < 0 or codes.max() >= n_users:
        raise ValueError(f"user codes must lie in 0..{n_users - 1}, got {codes.min()}..{codes.max()}")
    return codes.astype(np.int64)
