"""Hybrid recommendation: a weighted sum of several models' standardised scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from recsys_lib.models.base import Recommender, Scores, fitted_users

if TYPE_CHECKING:
    from recsys_lib.datasets import Interactions


class WeightedFusion:
    """Sum over the models of weight x z-score, mean and deviation taken per user over the unseen items.

    A model that gives a user the same score everywhere adds nothing for that user.

    Parameters
    ----------
    models : sequence of models
    weights : sequence of floats, one a model
        Choose them on the validation part.
    prefitted : bool
        True: the models are fitted already, ``fit`` only notes which items each user has seen.
    candidates : item codes, optional
        Standardise over these items only: those to be ranked, where that is not the whole catalogue.
    """

    def __init__(
        self,
        models: Sequence[Recommender],
        weights: Sequence[float],
        *,
        prefitted: bool = False,
        candidates: ArrayLike | None = None,
    ) -> None:
        if not models or len(models) != len(weights):
            raise ValueError(f"one weight a model, please: {len(models)} models, {len(weights)} weights")
        if not np.isfinite(np.asarray(weights, dtype=float)).all():
            raise ValueError(f"weights must be finite numbers, got {list(weights)}")
        self.models, self.weights, self.prefitted = list(models), list(weights), prefitted
        self.candidates = None if candidates is None else np.asarray(candidates, dtype=np.int64)
        self.n_users: int | None = None

    def fit(self, train: Interactions) -> WeightedFusion:
        """Fit every model (unless prefitted) and note the items that each user has seen."""
        if not self.prefitted:
            for model in self.models:
                model.fit(train)
        self.seen = train.matrix()
        self.n_users = train.n_users
        return self

    def score(self, users: ArrayLike) -> Scores:
        """Return weighted sums of z-scores: (len(users), n_items)."""
        codes = fitted_users(self, users, self.n_users)
        unseen = self.seen[codes].toarray() == 0
        if self.candidates is not None:
            unseen &= np.isin(np.arange(unseen.shape[1]), self.candidates)
        total = np.zeros(unseen.shape)
        for model, weight in zip(self.models, self.weights, strict=True):
            scores = np.asarray(model.score(codes), dtype=np.float64)
            if scores.shape != total.shape:
                raise ValueError(f"{type(model).__name__} gave shape {scores.shape}, not {total.shape}")
            total += weight * _zscores(scores, unseen)
        return total.astype(np.float32)


def _zscores(scores: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Standardise each row by its mean and deviation over the entries ``among``; constant rows give 0."""
    count = np.maximum(among.sum(axis=1, keepdims=True), 1)
    centred = scores - np.where(among, scores, 0.0).sum(axis=1, keepdims=True) / count
    deviation = np.sqrt(np.where(among, centred**2, 0.0).sum(axis=1, keepdims=True) / count)
    varies = deviation > 1e-9 * np.abs(scores).max(axis=1, keepdims=True, initial=0.0)
    return np.where(varies, centred / np.where(varies, deviation, 1.0), 0.0)
