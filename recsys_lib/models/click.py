"""The probability that a user likes an item: features, a classifier, and calibration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recsys_lib.geometry import center, normalize
from recsys_lib.models.base import check_rows, checked_vectors

if TYPE_CHECKING:
    from recsys_lib.datasets import Interactions

KINDS = ("logistic", "neural")
CALIBRATIONS = ("none", "platt", "isotonic")


def likes(rows: Interactions, threshold: float = 4.0) -> NDArray[np.int64]:
    """Return 1 for each row whose rating reaches the threshold, else 0.

    Raises
    ------
    ValueError
        If the rows have no ratings.
    """
    if "rating" not in rows.frame.columns:
        raise ValueError("likes need a column rating")
    return (rows.frame["rating"].to_numpy(dtype=np.float64) >= threshold).astype(np.int64)


class LikeFeatures:
    """Numbers about a user and an item, from training rows and text, for a classifier.

    The columns: the user's and the item's share of likes, shrunk to the mean share; the logarithms of 1 + their
    counts; the affinity; the item's vector (its first ``dimensions`` principal components); the user's
    features. The affinity is the sum over the user's rows of (like - share) x cosine to the item, divided by
    count + smoothing: is the item's text like what the user liked, and unlike what not?

    For the training rows themselves each row's own like is left out of every sum. Otherwise the features would
    hold the answer, and the classifier would learn to read it there.

    Parameters
    ----------
    item_vectors : array (n_items, d)
    user_features : array (n_users, e), optional
    smoothing : float, >= 0
        Rows at the mean share that are added to each user and item.
    dimensions : int, >= 0
    """

    def __init__(
        self,
        item_vectors: ArrayLike,
        user_features: ArrayLike | None = None,
        smoothing: float = 5.0,
        dimensions: int = 16,
    ) -> None:
        if smoothing < 0 or dimensions < 0:
            raise ValueError(f"smoothing and dimensions must be >= 0, got {smoothing} and {dimensions}")
        self.vectors = normalize(center(checked_vectors(item_vectors)))
        self.about = None if user_features is None else checked_vectors(user_features, "user_features")
        self.smoothing, self.dimensions = smoothing, dimensions

    def fit(self, train: Interactions, labels: ArrayLike) -> LikeFeatures:
        """Sum up the training rows, ``labels`` being 0 or 1 for each."""
        check_rows(self.vectors, train)
        like = np.asarray(labels, dtype=np.float64)
        if like.shape != (len(train),) or not len(like) or not np.isin(like, (0, 1)).all():
            raise ValueError(f"one label 0 or 1 a row is needed, got {like.shape} for {len(train)} rows")
        self.share = like.mean()
        self.sums, self.counts = [], []
        for codes, size in ((train.users, train.n_users), (train.items, train.n_items)):
            self.sums.append(np.bincount(codes, weights=like, minlength=size))
            self.counts.append(np.bincount(codes, minlength=size).astype(np.float64))
        self.profiles = np.zeros((train.n_users, self.vectors.shape[1]))
        np.add.at(self.profiles, train.users, (like - self.share)[:, None] * self.vectors[train.items])
        axes = np.linalg.svd(self.vectors, full_matrices=False)[2][: self.dimensions]
        self.components = self.vectors @ axes.T
        return self

    def matrix(self, users: ArrayLike, items: ArrayLike, own: ArrayLike | None = None) -> NDArray[np.float64]:
        """Features of pairs; ``own`` holds their labels if they are rows of the training data.

        Returns
        -------
        float array (n_pairs, 5 + dimensions + e)
        """
        codes = np.asarray(users, dtype=np.int64), np.asarray(items, dtype=np.int64)
        inside = own is not None
        like = np.asarray(own, dtype=np.float64) if inside else np.zeros(len(codes[0]))
        columns = []
        for code, total, count in zip(codes, self.sums, self.counts, strict=True):
            rows = count[code] - inside
            shrunk = total[code] - like * inside + self.smoothing * self.share
            # with neither rows nor smoothing nothing is known: the mean share
            known = rows + self.smoothing > 0
            share = np.where(known, shrunk / np.where(known, rows + self.smoothing, 1.0), self.share)
            columns += [share, np.log1p(rows)]
        affinity = (self.profiles[codes[0]] * self.vectors[codes[1]]).sum(axis=1)
        if inside:  # the row's own part: its cosine to itself is the squared length of its unit vector
            affinity -= (like - self.share) * (self.vectors[codes[1]] ** 2).sum(axis=1)
        rows = self.counts[0][codes[0]] - inside
        columns.append(affinity / np.maximum(rows + self.smoothing, 1.0))
        parts = [np.stack(columns, axis=1), self.components[codes[1]]]
        if self.about is not None:
            parts.append(self.about[codes[0]].astype(np.float64))
        return np.hstack(parts)


class LikeModel:
    """Probability of a like: a classifier on ``LikeFeatures``, calibrated on rows it was not fitted on.

    Platt's calibration is a logistic regression on the classifier's log-odds, isotonic calibration the best
    non-decreasing step function. Both keep the order (isotonic but for ties), so they repair probabilities and
    not the ranking.

    Parameters
    ----------
    features : LikeFeatures
    kind : "logistic" (scikit-learn's logistic regression) or "neural" (its multi-layer perceptron)
    calibration : "none", "platt" or "isotonic"
    regularization : float, > 0
        Penalty on squared weights: 1 / C of the logistic regression, alpha of the perceptron.
    hidden : tuple of int
        Widths of the perceptron's layers.
    epochs : int
        Passes of the perceptron over the training rows.
    threshold : float
        Ratings from here up are likes.
    seed : int
        Of the perceptron's weights and batches; the logistic regression has no use for it.
    """

    def __init__(
        self,
        features: LikeFeatures,
        kind: str = "logistic",
        calibration: str = "platt",
        *,
        regularization: float = 1.0,
        hidden: tuple[int, ...] = (32,),
        epochs: int = 10,
        threshold: float = 4.0,
        seed: int = 0,
    ) -> None:
        if kind not in KINDS or calibration not in CALIBRATIONS:
            raise ValueError(f"kind is one of {KINDS} and calibration of {CALIBRATIONS}")
        if not regularization > 0 or epochs < 1:
            raise ValueError("regularization must be above 0 and epochs at least 1")
        self.features, self.kind, self.calibration = features, kind, calibration
        self.regularization, self.hidden, self.epochs = regularization, hidden, epochs
        self.threshold, self.seed = threshold, seed
        self.classifier: Any = None
        self.calibrator: Any = None

    def fit(self, train: Interactions, validation: Interactions | None = None) -> LikeModel:
        """Fit features and classifier on ``train`` and the calibration, if any, on ``validation``."""
        import warnings

        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.neural_network import MLPClassifier
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        if self.calibration != "none" and (validation is None or not len(validation)):
            raise ValueError("calibration needs validation rows, which the classifier has not seen")
        labels = likes(train, self.threshold)
        if len(np.unique(labels)) < 2:
            raise ValueError("the training rows need likes and others")
        self.features.fit(train, labels)
        model = (
            LogisticRegression(C=1 / self.regularization, max_iter=1000)
            if self.kind == "logistic"
            else MLPClassifier(
                self.hidden,
                alpha=self.regularization,
                batch_size=min(256, len(labels)),
                learning_rate_init=2e-3,
                max_iter=self.epochs,
                random_state=self.seed,
            )
        )
        self.classifier = make_pipeline(StandardScaler(), model)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the number of passes is chosen
            self.classifier.fit(self.features.matrix(train.users, train.items, labels), labels)
        self.calibrator = None
        if self.calibration != "none" and validation is not None:
            self._calibrate(
                self.probability(validation.users, validation.items), likes(validation, self.threshold)
            )
        return self

    def _calibrate(self, raw: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
        from sklearn.isotonic import IsotonicRegression
        from sklearn.linear_model import LogisticRegression

        if self.calibration == "platt":
            platt = LogisticRegression(C=1e6).fit(_log_odds(raw)[:, None], labels)
            self.calibrator = lambda p: platt.predict_proba(_log_odds(p)[:, None])[:, 1]
        else:
            steps = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(raw, labels)
            self.calibrator = steps.predict

    def probability(self, users: ArrayLike, items: ArrayLike) -> NDArray[np.float64]:
        """Probability of a like for each pair of user and item, in [0, 1]: (n_pairs,).

        Raises
        ------
        RuntimeError
            If the model was not fitted.
        """
        if self.classifier is None:
            raise RuntimeError("LikeModel cannot predict before fit: call fit(train, validation) first")
        raw = self.classifier.predict_proba(self.features.matrix(users, items))[:, 1]
        return raw if self.calibrator is None else np.asarray(self.calibrator(raw), dtype=np.float64)


def _log_odds(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = np.clip(probabilities, 1e-9, 1 - 1e-9)
    return np.log(inside) - np.log1p(-inside)
