"""Cold start: a map from text to what a collaborative model would say, for items or users nobody met."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_lib.geometry import center, cosine, normalize
from recsys_lib.models.base import Recommender, Scores, check_rows, checked_vectors, fitted_users

if TYPE_CHECKING:
    from recsys_lib.datasets import Interactions

BLOCK = 1024  # users at a time, so that memory stays bounded


def _positive(regularization: float) -> float:
    if not regularization > 0:
        raise ValueError(f"regularization must be above 0, got {regularization}")
    return regularization


def _warm(train: Interactions, name: str) -> NDArray[np.int64]:
    """Return the items that have an interaction."""
    warm = np.flatnonzero(train.matrix().getnnz(axis=0))
    if not len(warm):
        raise ValueError(f"{name} needs interactions to learn from; the training data has none")
    return warm


class RidgeToScores:
    """Ridge regression from item vectors to the scores that a collaborative model gives warm items.

    Warm items are those with an interaction in the training data. Vectors are centred on the warm items' mean
    and scaled to length 1. Every user has a weight vector: with V the warm items' vectors and s the user's
    scores of them minus their mean, w = (V'V + regularization I)^-1 V's. Any item, cold or warm, then scores
    its vector times w.

    With ``gamma`` the ridge is a kernel ridge: k(a, b) = exp(-gamma |a - b|^2) between items stands in for
    their inner product, so that the score may bend. On MovieLens' cold films gamma = 1 with a regularization
    between .1 and 1 is above the straight line; see ``movielens.film_features`` for the vectors to use.

    Parameters
    ----------
    item_vectors : array (n_items, d)
    base : model or None
        Fitted on the same data by ``fit``; None takes the binary interactions as scores.
    regularization : float, > 0
        Added to the diagonal; choose it on validation, often between 1 and 30 (below 1 with ``gamma``).
    gamma : float, > 0, optional
        Width of the kernel; None is the plain ridge.
    prefitted : bool
        True: the base was fitted on the same data already.
    """

    def __init__(
        self,
        item_vectors: ArrayLike,
        base: Recommender | None = None,
        regularization: float = 10.0,
        *,
        gamma: float | None = None,
        prefitted: bool = False,
    ) -> None:
        if gamma is not None and not gamma > 0:
            raise ValueError(f"gamma must be above 0, got {gamma}")
        self.item_vectors = checked_vectors(item_vectors)
        self.base, self.regularization = base, _positive(regularization)
        self.gamma, self.prefitted = gamma, prefitted
        self.n_users: int | None = None

    def fit(self, train: Interactions) -> RidgeToScores:
        """Fit the base model, then each user's weights over dimensions (with ``gamma``: over warm items)."""
        check_rows(self.item_vectors, train)
        binary = train.matrix()
        self.warm = _warm(train, "RidgeToScores")
        if self.base is not None and not self.prefitted:
            self.base.fit(train)
        self.vectors = normalize(center(self.item_vectors, self.item_vectors[self.warm]))
        warm = self.vectors[self.warm]
        if self.gamma is None:
            self.features = self.vectors
            penalty = self.regularization * np.eye(warm.shape[1])
            solve = np.linalg.solve(warm.T @ warm + penalty, warm.T)  # (d, n_warm)
        else:
            self.features = _gaussian(self.vectors, warm, self.gamma)
            solve = np.linalg.inv(self.features[self.warm] + self.regularization * np.eye(len(warm)))
        parts = []
        for start in range(0, train.n_users, BLOCK):
            users = np.arange(start, min(start + BLOCK, train.n_users))
            scores = binary[users].toarray() if self.base is None else self.base.score(users)
            scores = scores[:, self.warm].astype(np.float64)
            parts.append((scores - scores.mean(axis=1, keepdims=True)) @ solve.T)
        self.weights = np.concatenate(parts)  # (n_users, d or n_warm)
        self.n_users = train.n_users
        return self

    def score(self, users: ArrayLike) -> Scores:
        """Return predicted scores of all items, cold ones included: (len(users), n_items)."""
        codes = fitted_users(self, users, self.n_users)
        return (self.weights[codes] @ self.features.T).astype(np.float32)


def _gaussian(a: NDArray[np.float64], b: NDArray[np.float64], gamma: float) -> NDArray[np.float64]:
    """Return exp(-gamma |a - b|^2) for all pairs of rows."""
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    return np.exp(-gamma * np.maximum(squared, 0.0))


class RidgeToFactors:
    """Ridge regression from item vectors to the item factors of a matrix factorisation.

    With V the warm items' vectors (centred on their mean, scaled to length 1) and F their factors minus the
    mean factor f: W = (V'V + regularization I)^-1 V'F. An item has the factors f + vW, and the score is the
    inner product with the user's. One small system for all users, where ``RidgeToScores`` has one weight
    vector a user.

    Parameters
    ----------
    item_vectors : array (n_items, d)
    base : model with ``user_factors`` (n_users, f) and ``item_factors`` (n_items, f) once fitted
    regularization : float, > 0
    prefitted : bool
    """

    def __init__(
        self, item_vectors: ArrayLike, base: Any, regularization: float = 10.0, *, prefitted: bool = False
    ) -> None:
        self.item_vectors = checked_vectors(item_vectors)
        self.base, self.regularization, self.prefitted = base, _positive(regularization), prefitted
        self.n_users: int | None = None

    def fit(self, train: Interactions) -> RidgeToFactors:
        """Fit the base model, then the map from vectors to its item factors."""
        check_rows(self.item_vectors, train)
        warm = _warm(train, "RidgeToFactors")
        if not self.prefitted:
            self.base.fit(train)
        vectors = normalize(center(self.item_vectors, self.item_vectors[warm]))
        factors = np.asarray(self.base.item_factors, dtype=np.float64)[warm]
        known = vectors[warm]
        penalty = self.regularization * np.eye(known.shape[1])
        weights = np.linalg.solve(known.T @ known + penalty, known.T @ (factors - factors.mean(axis=0)))
        self.item_factors = factors.mean(axis=0) + vectors @ weights
        self.user_factors = np.asarray(self.base.user_factors, dtype=np.float64)
        self.n_users = train.n_users
        return self

    def score(self, users: ArrayLike) -> Scores:
        """Return inner products with predicted factors: (len(users), n_items)."""
        codes = fitted_users(self, users, self.n_users)
        return (self.user_factors[codes] @ self.item_factors.T).astype(np.float32)


class TextKNN:
    """Weighted mean of the base model's scores over the warm items nearest in text.

    Nearness is the cosine of vectors centred on the warm items' mean, and the weight of a neighbour, negative
    cosines as 0. An item is no neighbour of itself; one without a near neighbour scores 0.

    Parameters
    ----------
    item_vectors : array (n_items, d)
    base : model or None
        None takes the binary interactions as scores.
    neighbours : int
    prefitted : bool
    """

    def __init__(
        self,
        item_vectors: ArrayLike,
        base: Recommender | None = None,
        neighbours: int = 20,
        *,
        prefitted: bool = False,
    ) -> None:
        if neighbours < 1:
            raise ValueError(f"neighbours must be at least 1, got {neighbours}")
        self.item_vectors = checked_vectors(item_vectors)
        self.base, self.neighbours, self.prefitted = base, neighbours, prefitted
        self.n_users: int | None = None

    def fit(self, train: Interactions) -> TextKNN:
        """Fit the base model and find each item's neighbours among the warm items."""
        check_rows(self.item_vectors, train)
        self.warm = _warm(train, "TextKNN")
        if self.base is not None and not self.prefitted:
            self.base.fit(train)
        vectors = center(self.item_vectors, self.item_vectors[self.warm])
        near = np.maximum(cosine(vectors, vectors[self.warm]), 0.0)
        near[self.warm, np.arange(len(self.warm))] = 0.0
        if self.neighbours < near.shape[1]:
            far = np.argsort(-near, axis=1, kind="stable")[:, self.neighbours :]
            np.put_along_axis(near, far, 0.0, axis=1)
        total = near.sum(axis=1, keepdims=True)
        self.near = near / np.where(total > 0, total, 1.0)  # (n_items, n_warm)
        self.matrix, self.n_users = train.matrix(), train.n_users
        return self

    def score(self, users: ArrayLike) -> Scores:
        """Return mean scores of neighbours: (len(users), n_items)."""
        codes = fitted_users(self, users, self.n_users)
        scores = self.matrix[codes].toarray() if self.base is None else self.base.score(codes)
        return (scores[:, self.warm] @ self.near.T).astype(np.float32)


class RidgeFromUsers:
    """Ridge regression from what is said of a user to the items: for users without any history.

    Warm users are those with an interaction in the training data. With U their features, centred on their
    mean, and S their item scores minus the mean s over them: W = (U'U + regularization I)^-1 U'S, and a user of
    features u scores s + uW. Of a user who is like everybody nothing but popularity remains.

    Parameters
    ----------
    user_features : array (n_users, d)
        One-hot demographics, or the vectors of a sentence about each user.
    base : model or None
        None takes the binary interactions as scores.
    regularization : float, > 0
    prefitted : bool
    """

    def __init__(
        self,
        user_features: ArrayLike,
        base: Recommender | None = None,
        regularization: float = 100.0,
        *,
        prefitted: bool = False,
    ) -> None:
        self.user_features = checked_vectors(user_features, "user_features")
        self.base, self.regularization = base, _positive(regularization)
        self.prefitted = prefitted
        self.n_users: int | None = None

    def fit(self, train: Interactions) -> RidgeFromUsers:
        """Fit the base model, then the map from features to scores, on the warm users."""
        if len(self.user_features) != train.n_users:
            raise ValueError(f"user_features has {len(self.user_features)} rows for {train.n_users} users")
        _warm(train, "RidgeFromUsers")
        binary = train.matrix()
        warm = np.flatnonzero(binary.getnnz(axis=1))
        if self.base is not None and not self.prefitted:
            self.base.fit(train)
        scores = binary[warm].toarray() if self.base is None else self.base.score(warm)
        self.mean = scores.astype(np.float64).mean(axis=0)
        self.features = center(self.user_features, self.user_features[warm])
        known = self.features[warm]
        penalty = self.regularization * np.eye(known.shape[1])
        self.weights = np.linalg.solve(known.T @ known + penalty, known.T @ (scores - self.mean))
        self.n_users = train.n_users
        return self

    def score(self, users: ArrayLike) -> Scores:
        """Return predicted scores, for users with and without history: (len(users), n_items)."""
        codes = fitted_users(self, users, self.n_users)
        return (self.mean + self.features[codes] @ self.weights).astype(np.float32)
