"""The softmax regression against scikit-learn's, the shelves' scores against a loop."""

import itertools

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression

from recsys_lib.datasets import Interactions
from recsys_lib.models.next_shelf import NextShelf, softmax_regression

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(15, 4))
HISTORIES = [RNG.permutation(12)[: RNG.integers(3, 9)] for _ in range(8)]  # items 12, 13, 14 are cold
ROWS = [(user, item) for user, history in enumerate(HISTORIES) for item in history]
TRAIN = Interactions(pd.DataFrame(ROWS, columns=["user", "item"]), 9, 15)  # user 8 has no history


@pytest.mark.parametrize("penalty", [0.5, 5.0])
def test_softmax_regression_is_logistic_regression_on_repeated_rows(penalty):
    counts = RNG.integers(0, 4, size=(15, 3))
    weights = softmax_regression(VECTORS, counts, penalty)
    rows, classes = np.nonzero(counts)
    oracle = LogisticRegression(C=1 / penalty, tol=1e-8, max_iter=10000)
    oracle.fit(VECTORS[rows], classes, sample_weight=counts[rows, classes])
    assert np.allclose(weights[:-1].T, oracle.coef_, atol=2e-3)
    logits = VECTORS @ weights[:-1] + weights[-1]
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.allclose(p, oracle.predict_proba(VECTORS), atol=2e-3)


def test_scores_are_those_of_a_loop():
    model = NextShelf(VECTORS, 3, codebooks=2, components=4, penalty=1.0, decay=0.5, seed=3).fit(TRAIN)
    warm = sorted({item for _, item in ROWS})
    x = VECTORS - VECTORS[warm].mean(axis=0)
    _, _, axes = np.linalg.svd(x[warm], full_matrices=False)
    x = x @ axes.T
    expected = np.zeros((9, 15))
    for book in (0, 1):
        means = KMeans(3, n_init=1, random_state=3 + book).fit(x[warm])
        shelf = means.predict(x)
        counts = np.zeros((15, 3))
        for history in HISTORIES:
            for a, b in itertools.pairwise(history):
                counts[a, shelf[b]] += 1
        weights = softmax_regression(x[warm], counts[warm], 1.0)
        logits = np.column_stack([x, np.ones(15)]) @ weights
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        for user in range(9):
            history = HISTORIES[user] if user < 8 else np.arange(15)
            weight = [0.5 ** (len(history) - 1 - i) if user < 8 else 1.0 for i in range(len(history))]
            mean = sum(w * p[item] for w, item in zip(weight, history, strict=True)) / sum(weight)
            for item in range(15):
                s = shelf[item]
                expected[user, item] += np.log(mean[s] / (shelf[warm] == s).sum()) / 2
    assert np.allclose(model.score(range(9)), expected, atol=1e-4)


def test_the_control_takes_another_item_of_the_same_user():
    before, after = NextShelf(VECTORS, label="any", seed=1)._pairs(HISTORIES)
    assert (before != after).all()
    start = 0
    for history in HISTORIES:
        end = start + len(history) - 1
        assert (before[start:end] == history[:-1]).all() and np.isin(after[start:end], history).all()
        start = end
    assert not (after == NextShelf(VECTORS)._pairs(HISTORIES)[1]).all()


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="label"):
        NextShelf(VECTORS, label="last")
    with pytest.raises(ValueError, match="decay"):
        NextShelf(VECTORS, decay=0.0)
    with pytest.raises(ValueError, match="rows"):
        softmax_regression(VECTORS, np.ones((3, 2)))
