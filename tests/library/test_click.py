import numpy as np
import pandas as pd
import pytest

from recsys_lib import metrics
from recsys_lib.datasets import Interactions
from recsys_lib.models.click import LikeFeatures, LikeModel, likes


def rated(seed=0, n_users=40, n_items=30, size=700):
    """Ratings that depend on the user, on the item and on a taste that the vectors show."""
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(n_users * n_items)[:size]
    user, item = np.sort(pairs) // n_items, np.sort(pairs) % n_items
    vectors, taste = rng.normal(size=(n_items, 4)), rng.normal(size=(n_users, 4))
    odds = (
        rng.normal(size=n_users)[user] + rng.normal(size=n_items)[item] + (taste[user] * vectors[item]).sum(1)
    )
    like = rng.random(size) < 1 / (1 + np.exp(-odds))
    frame = pd.DataFrame({"user": user, "item": item, "rating": np.where(like, 4.0, 2.0)})
    rows = Interactions(frame, n_users, n_items)
    part = rng.integers(3, size=size)
    return rows.select(part != 2), rows.select(part == 2), vectors


def features_by_loop(train, labels, vectors, user, item, without, smoothing):
    """The first five features of a pair, written out, with one training row left out."""
    share = labels.mean()
    unit = vectors - vectors.mean(axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    rows = [
        (u, i, y)
        for n, (u, i, y) in enumerate(zip(train.users, train.items, labels, strict=True))
        if n != without
    ]
    of_user = [(i, y) for u, i, y in rows if u == user]
    of_item = [y for _, i, y in rows if i == item]
    affinity = sum((y - share) * (unit[i] @ unit[item]) for i, y in of_user)
    return [
        (sum(y for _, y in of_user) + smoothing * share) / (len(of_user) + smoothing),
        np.log1p(len(of_user)),
        (sum(of_item) + smoothing * share) / (len(of_item) + smoothing),
        np.log1p(len(of_item)),
        affinity / (len(of_user) + smoothing),
    ]


def test_features_leave_the_own_row_out():
    train, test, vectors = rated()
    labels = likes(train)
    features = LikeFeatures(vectors, np.eye(40), smoothing=3.0, dimensions=2).fit(train, labels)
    inside = features.matrix(train.users, train.items, labels)
    assert inside.shape == (len(train), 5 + 2 + 40)
    for row in range(0, len(train), 60):
        expected = features_by_loop(train, labels, vectors, train.users[row], train.items[row], row, 3.0)
        assert inside[row, :5] == pytest.approx(expected)
    outside = features.matrix(test.users, test.items)
    for row in range(0, len(test), 40):
        expected = features_by_loop(train, labels, vectors, test.users[row], test.items[row], None, 3.0)
        assert outside[row, :5] == pytest.approx(expected)


def test_the_own_label_is_not_in_the_features():
    train, _, vectors = rated(1)
    labels = likes(train)
    flipped = labels.copy()
    flipped[5] = 1 - flipped[5]
    # the mean share moves with the label, so shrink to nothing and look at the shares alone
    before, after = (
        LikeFeatures(vectors, smoothing=0.0).fit(train, y).matrix(train.users, train.items, y)[5, [0, 2]]
        for y in (labels, flipped)
    )
    assert before == pytest.approx(after)


@pytest.mark.parametrize("kind", ["logistic", "neural"])
def test_the_model_finds_the_taste_and_is_seeded(kind):
    train, test, vectors = rated(2, size=1100)
    model = LikeModel(LikeFeatures(vectors), kind, "none", epochs=30).fit(train)
    probability = model.probability(test.users, test.items)
    assert ((probability >= 0) & (probability <= 1)).all()
    assert metrics.auc(likes(test), probability) > 0.7
    shuffled = np.random.default_rng(0).permutation(likes(test))
    assert metrics.auc(shuffled, probability) < 0.6
    again = LikeModel(LikeFeatures(vectors), kind, "none", epochs=30).fit(train)
    assert (again.probability(test.users, test.items) == probability).all()


@pytest.mark.parametrize("calibration", ["platt", "isotonic"])
def test_calibration_repairs_probabilities_and_keeps_the_order(calibration):
    train, test, vectors = rated(3, 80, 60, 4000)
    half = np.arange(len(test)) % 2 == 0
    validation, rest = test.select(half), test.select(~half)
    # far too long and too wide: too sure of itself
    options = {"kind": "neural", "regularization": 1e-6, "hidden": (128,), "epochs": 100}
    raw = LikeModel(LikeFeatures(vectors, np.eye(80)), calibration="none", **options).fit(train)
    mended = LikeModel(LikeFeatures(vectors, np.eye(80)), calibration=calibration, **options).fit(
        train, validation
    )
    before, after = (model.probability(rest.users, rest.items) for model in (raw, mended))
    labels = likes(rest)
    assert metrics.log_loss(labels, before) > metrics.log_loss(labels, np.clip(after, 0.01, 0.99)) + 0.02
    assert metrics.calibration_error(labels, before) > metrics.calibration_error(labels, after) + 0.02
    order = np.argsort(before, kind="stable")
    assert (np.diff(after[order]) >= -1e-12).all()


def test_wrong_arguments_are_refused():
    train, _, vectors = rated()
    features = LikeFeatures(vectors)
    with pytest.raises(RuntimeError, match="before fit"):
        LikeModel(features).probability([0], [0])
    with pytest.raises(ValueError, match="needs validation rows"):
        LikeModel(features).fit(train)
    with pytest.raises(ValueError, match="likes and others"):
        LikeModel(features, calibration="none", threshold=1).fit(train)
    with pytest.raises(ValueError, match="column rating"):
        likes(Interactions(train.frame[["user", "item"]], 40, 30))
    with pytest.raises(ValueError, match="kind is one of"):
        LikeModel(features, "forest")
    with pytest.raises(ValueError, match="regularization"):
        LikeModel(features, regularization=0)
    with pytest.raises(ValueError, match="smoothing"):
        LikeFeatures(vectors, smoothing=-1)
    with pytest.raises(ValueError, match="one label"):
        features.fit(train, [1, 0])
