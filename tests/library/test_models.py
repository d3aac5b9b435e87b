import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import cosine_similarity

from recsys_lib.datasets import Interactions
from recsys_lib.models import (
    EASE,
    ContentModel,
    ItemKNN,
    Popularity,
    RandomModel,
    RidgeFromUsers,
    RidgeToFactors,
    RidgeToScores,
    TextKNN,
    WeightedFusion,
)
from recsys_lib.models.base import profile_matrix


def interactions(histories, n_items):
    """Interactions from each user's items, oldest first."""
    pairs = [(user, item) for user, history in enumerate(histories) for item in history]
    frame = pd.DataFrame(pairs, columns=["user", "item"]).astype("int64")
    return Interactions(frame, len(histories), n_items)


def random_histories(seed, n_users=12, n_items=9):
    rng = np.random.default_rng(seed)
    return [rng.permutation(n_items)[: rng.integers(0, n_items - 1)].tolist() for _ in range(n_users)]


def vectors(seed=0, n_items=9, d=4):
    return np.random.default_rng(seed).normal(size=(n_items, d)) + 1


class Halves:
    """Factors of a matrix factorisation: a singular value decomposition."""

    def fit(self, train):
        u, s, vt = np.linalg.svd(train.matrix().toarray().astype(float), full_matrices=False)
        self.user_factors, self.item_factors = (u * s)[:, :3], vt[:3].T
        return self


MODELS = {
    "random": lambda v: RandomModel(3),
    "popularity": lambda v: Popularity(),
    "knn": lambda v: ItemKNN(4, 2.0),
    "knn with recency": lambda v: ItemKNN(4, 2.0, decay=0.7),
    "ease": lambda v: EASE(5.0),
    "ease with recency": lambda v: EASE(5.0, decay=0.7),
    "content": lambda v: ContentModel(v),
    "content of the last 2": lambda v: ContentModel(v, last=2, decay=0.5),
    "ridge": lambda v: RidgeToScores(v),
    "ridge to ease": lambda v: RidgeToScores(v, EASE(5.0)),
    "kernel ridge to ease": lambda v: RidgeToScores(v, EASE(5.0), 0.5, gamma=1.0),
    "ridge to factors": lambda v: RidgeToFactors(v, Halves()),
    "text knn": lambda v: TextKNN(v, EASE(5.0), 3),
    "fusion": lambda v: WeightedFusion([Popularity(), ContentModel(v)], [1, 2]),
}
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=list(MODELS))


@every_model
def test_shape_type_and_batches(make):
    train = interactions(random_histories(0), 9)
    model = make(vectors())
    assert model.fit(train) is model
    scores = model.score(np.arange(12))
    assert scores.shape == (12, 9) and scores.dtype == np.float32
    assert np.isfinite(scores).all()
    batches = np.concatenate([model.score([user]) for user in range(12)])
    assert batches == pytest.approx(scores, rel=1e-5, abs=1e-6)
    assert model.score([5, 2, 5]) == pytest.approx(scores[[5, 2, 5]], rel=1e-5, abs=1e-6)
    assert model.score([]).shape == (0, 9)


@every_model
def test_scoring_before_fit_and_wrong_users_are_refused(make):
    model = make(vectors())
    with pytest.raises(RuntimeError, match="cannot score before fit"):
        model.score([0])
    model.fit(interactions(random_histories(0), 9))
    for users, message in (([12], r"0\.\.11"), ([-1], r"0\.\.11"), ([0.5], "integer"), ([[0]], "integer")):
        with pytest.raises(ValueError, match=message):
            model.score(users)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), name=st.sampled_from([name for name in MODELS if name != "random"]))
def test_renaming_the_items_renames_the_scores(seed, name):
    histories, v = random_histories(seed), vectors(seed)
    new_code = np.random.default_rng(seed + 1).permutation(9)
    if not any(histories):
        return
    renamed_vectors = np.empty_like(v)
    renamed_vectors[new_code] = v
    if name.startswith("knn"):  # all neighbours: which of two equal neighbours is kept may depend on codes
        make = {"knn": lambda v: ItemKNN(9, 2.0), "knn with recency": lambda v: ItemKNN(9, 2.0, 0.7)}[name]
    else:
        make = MODELS[name]
    before = make(v).fit(interactions(histories, 9)).score(np.arange(12))
    renamed = interactions([[new_code[item] for item in history] for history in histories], 9)
    after = make(renamed_vectors).fit(renamed).score(np.arange(12))
    assert after[:, new_code] == pytest.approx(before, rel=1e-4, abs=1e-4)


def test_profile_weights_by_hand():
    train = interactions([[4, 1, 3], [], [2]], 5)
    assert profile_matrix(train).toarray().tolist() == [[0, 1, 0, 1, 1], [0] * 5, [0, 0, 1, 0, 0]]
    assert profile_matrix(train, 0.5).toarray()[0].tolist() == [0, 0.5, 0, 1, 0.25]
    assert profile_matrix(train, 0.5, last=2).toarray()[0].tolist() == [0, 0.5, 0, 1, 0]
    for wrong in ({"decay": 0.0}, {"decay": 1.1}, {"last": 0}):
        with pytest.raises(ValueError, match=r"decay|last"):
            profile_matrix(train, **wrong)


def test_an_item_met_twice_keeps_its_newest_weight():
    class Repeated:  # what a log with repeats looks like before it is cleaned
        frame = pd.DataFrame({"user": [0, 0, 0], "item": [1, 0, 1]})
        n_users, n_items = 1, 2

    assert profile_matrix(Repeated(), 0.5).toarray().tolist() == [[0.5, 1.0]]


def test_random_is_seeded_and_even():
    train = interactions([[0]] * 2000, 20)
    scores = RandomModel(1).fit(train).score(np.arange(2000))
    assert (RandomModel(1).fit(train).score(np.arange(2000)) == scores).all()
    assert (RandomModel(2).fit(train).score(np.arange(2000)) != scores).any()
    best = np.bincount(scores.argmax(axis=1), minlength=20) / 2000
    assert best == pytest.approx(np.full(20, 0.05), abs=0.02)  # 4 standard errors
    assert (scores[0] != scores[1]).any()


def test_popularity_counts():
    model = Popularity().fit(interactions([[0, 2], [2], [2, 1]], 4))
    assert model.score([1]).tolist() == [[1, 1, 3, 0]]


def test_itemknn_by_hand_and_by_loop():
    histories = random_histories(4, n_users=30)
    train = interactions(histories, 9)
    binary = train.matrix().toarray()
    for neighbours, shrink, decay in ((9, 0.0, 1.0), (3, 5.0, 1.0), (3, 5.0, 0.6)):
        similarity = np.zeros((9, 9))
        for i in range(9):
            for j in range(9):
                if i != j:
                    together = np.sum(binary[:, i] * binary[:, j])
                    root = np.sqrt(binary[:, i].sum() * binary[:, j].sum())
                    similarity[i, j] = together / (root + shrink) if together else 0.0
        for j in range(9):  # each item keeps its own nearest neighbours
            similarity[np.argsort(-similarity[:, j], kind="stable")[neighbours:], j] = 0.0
        expected = np.zeros((30, 9))
        for user, history in enumerate(histories):
            for back, item in enumerate(reversed(history)):
                expected[user] += decay**back * similarity[item]
        scores = ItemKNN(neighbours, shrink, decay).fit(train).score(np.arange(30))
        assert scores == pytest.approx(expected, rel=1e-5, abs=1e-6)
    unshrunk = ItemKNN(9, 0.0).fit(train).similarity
    assert unshrunk + np.eye(9) == pytest.approx(cosine_similarity(binary.T), abs=1e-6)


def test_ease_solves_its_constrained_problem():
    train = interactions(random_histories(5, n_users=40), 9)
    x = train.matrix().toarray().astype(float)
    model = EASE(3.0).fit(train)
    weights = model.weights.astype(float)
    assert np.diag(weights).tolist() == [0.0] * 9
    # without the constraint each column is a ridge regression of an item on the other items
    for j in range(9):
        others = [i for i in range(9) if i != j]
        ridge = Ridge(alpha=3.0, fit_intercept=False).fit(x[:, others], x[:, j])
        assert weights[others, j] == pytest.approx(ridge.coef_, abs=1e-5)
    assert model.score(np.arange(40)) == pytest.approx(x @ weights, abs=1e-5)


def test_recency_weighs_the_profile_and_not_the_training():
    train = interactions(random_histories(6, n_users=40), 9)
    plain, recent = EASE(3.0).fit(train), EASE(3.0, decay=0.8).fit(train)
    assert (plain.weights == recent.weights).all()
    expected = profile_matrix(train, 0.8).toarray() @ plain.weights
    assert recent.score(np.arange(40)) == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_content_is_the_cosine_to_the_mean_of_unit_vectors():
    v = np.array([[1.0, 0.0], [0.0, 5.0], [1.0, 1.0]])
    train = interactions([[0, 1], [1], []], 3)
    scores = ContentModel(v).fit(train).score([0, 1, 2])
    root = np.sqrt(0.5)
    assert scores == pytest.approx(np.array([[root, root, 1], [0, 1, root], [0, 0, 0]]), abs=1e-6)
    last = ContentModel(v, last=1).fit(train).score([0])
    assert last == pytest.approx(np.array([[0, 1, root]]), abs=1e-6)
    # decay 1/2: profile (1/2, 1)
    recent = ContentModel(v, decay=0.5).fit(train).score([0])
    assert recent == pytest.approx(cosine_similarity([[0.5, 1.0]], v), abs=1e-6)
    assert (
        np.abs(ContentModel(vectors()).fit(interactions(random_histories(1), 9)).score(range(12))).max() <= 1
    )


def test_ridge_against_scikit_learn():
    histories = [[item for item in history if item != 8] for history in random_histories(7, n_users=25)]
    train = interactions(histories, 9)  # item 8 is cold
    warm = np.flatnonzero(np.bincount(train.frame["item"], minlength=9))
    assert 8 not in warm
    v = vectors(7)
    unit = v - v[warm].mean(axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    ease = EASE(4.0).fit(train)
    for base, target in ((None, train.matrix().toarray()), (EASE(4.0), ease.score(np.arange(25)))):
        scores = RidgeToScores(v, base, 2.0).fit(train).score(np.arange(25))
        for user in range(25):
            centred = target[user, warm] - target[user, warm].mean()
            oracle = Ridge(alpha=2.0, fit_intercept=False).fit(unit[warm], centred)
            assert scores[user] == pytest.approx(unit @ oracle.coef_, abs=1e-5)


def test_ridge_recovers_scores_that_are_linear_in_the_vectors():
    rng = np.random.default_rng(8)
    v = rng.normal(size=(60, 5))
    train = interactions([rng.permutation(50).tolist() for _ in range(10)], 60)  # items 50..59 are cold
    unit = v - v[:50].mean(axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    truth = rng.normal(size=(10, 5)) @ unit.T

    class Linear:
        def fit(self, train):
            return self

        def score(self, users):
            return (truth[users] - truth[users][:, :50].mean(axis=1, keepdims=True)).astype(np.float32)

    # the warm mean of the scores is not in the vectors' span: remove it from the vectors' mean, too
    scores = RidgeToScores(v, Linear(), 1e-6).fit(train).score(np.arange(10))
    for user in range(10):
        assert np.corrcoef(scores[user, 50:], truth[user, 50:])[0, 1] > 0.99


def test_ridge_in_blocks_of_users(monkeypatch):
    train = interactions(random_histories(0), 9)
    whole = RidgeToScores(vectors(), EASE(5.0)).fit(train).score(np.arange(12))
    monkeypatch.setattr("recsys_lib.models.cold_start.BLOCK", 5)
    assert RidgeToScores(vectors(), EASE(5.0)).fit(train).score(np.arange(12)) == pytest.approx(
        whole, abs=1e-6
    )


def warm_and_unit(train, v):
    warm = np.flatnonzero(np.bincount(train.frame["item"], minlength=9))
    assert 8 not in warm
    unit = v - v[warm].mean(axis=0)
    return warm, unit / np.linalg.norm(unit, axis=1, keepdims=True)


def cold_example():
    histories = [[item for item in history if item != 8] for history in random_histories(7, n_users=25)]
    return interactions(histories, 9), vectors(7)  # item 8 is cold


def test_kernel_ridge_against_scikit_learn():
    train, v = cold_example()
    warm, unit = warm_and_unit(train, v)
    target = EASE(4.0).fit(train).score(np.arange(25))[:, warm].astype(float)
    oracle = KernelRidge(alpha=0.5, kernel="rbf", gamma=0.8)
    expected = oracle.fit(unit[warm], (target - target.mean(axis=1, keepdims=True)).T).predict(unit).T
    model = RidgeToScores(v, EASE(4.0), 0.5, gamma=0.8).fit(train)
    assert model.score(np.arange(25)) == pytest.approx(expected, abs=1e-5)
    ready = RidgeToScores(v, EASE(4.0).fit(train), 0.5, gamma=0.8, prefitted=True).fit(train)
    assert (ready.score(np.arange(25)) == model.score(np.arange(25))).all()


def test_ridge_to_factors_against_scikit_learn():
    train, v = cold_example()
    warm, unit = warm_and_unit(train, v)
    base = Halves().fit(train)
    mean = base.item_factors[warm].mean(axis=0)
    oracle = Ridge(alpha=2.0, fit_intercept=False).fit(unit[warm], base.item_factors[warm] - mean)
    expected = base.user_factors @ (unit @ oracle.coef_.T + mean).T
    scores = RidgeToFactors(v, Halves(), 2.0).fit(train).score(np.arange(25))
    assert scores == pytest.approx(expected, abs=1e-5)


def test_text_neighbours_by_loop():
    train, v = cold_example()
    warm, unit = warm_and_unit(train, v)
    for base, target in (
        (None, train.matrix().toarray()),
        (EASE(4.0), EASE(4.0).fit(train).score(np.arange(25))),
    ):
        scores = TextKNN(v, base, 3).fit(train).score(np.arange(25))
        for item in range(9):
            near = sorted((max(unit[item] @ unit[j], 0.0), j) for j in warm if j != item)[-3:]
            total = sum(weight for weight, _ in near) or 1.0
            mean = sum(weight * target[:, j] for weight, j in near) / total
            assert scores[:, item] == pytest.approx(mean, abs=1e-5)


def test_ridge_from_users_against_scikit_learn():
    histories = random_histories(3, n_users=20)
    histories = [history or [0] for history in histories[:-2]] + [[], []]  # two new users
    train, features = interactions(histories, 9), vectors(3, n_items=20)
    for base, target in (
        (None, train.matrix().toarray()),
        (EASE(4.0), EASE(4.0).fit(train).score(np.arange(20))),
    ):
        oracle = Ridge(alpha=3.0).fit(features[:18], target[:18])
        scores = RidgeFromUsers(features, base, 3.0).fit(train).score(np.arange(20))
        assert scores == pytest.approx(oracle.predict(features), abs=1e-4)
    same = RidgeFromUsers(np.ones((20, 2))).fit(train).score([18, 19])
    share = np.bincount(train.frame["item"], minlength=9) / 18
    assert same == pytest.approx(np.tile(share, (2, 1)), abs=1e-6)  # nothing is said: popularity


@settings(deadline=None)
@given(st.integers(0, 2**31))
def test_cold_items_never_leak(seed):
    """Whatever is known of a new user's or item's rows elsewhere, only the training rows and the text count."""
    histories, v = random_histories(seed, 12, 8), vectors(seed % 1000)
    if not any(histories):
        return
    train = interactions(histories, 9)  # item 8 is cold
    for make in (
        MODELS["ridge to ease"],
        MODELS["kernel ridge to ease"],
        MODELS["ridge to factors"],
        MODELS["text knn"],
    ):
        other = v.copy()
        other[8] += 5.0
        warm = np.flatnonzero(train.matrix().getnnz(axis=0))
        before, after = make(v).fit(train).score(range(12)), make(other).fit(train).score(range(12))
        assert before[:, warm] == pytest.approx(after[:, warm], abs=1e-5)  # a cold item's text moves no other


def test_fusion_standardises_over_the_candidates():
    a = Fixed([[9, 1, 2, 3, 7]])
    scores = WeightedFusion([a], [1.0], candidates=[1, 2, 3, 0]).fit(interactions([[0]], 5)).score([0])
    assert scores[0, 1:4] == pytest.approx([-np.sqrt(1.5), 0, np.sqrt(1.5)], abs=1e-6)


class Fixed:
    def __init__(self, scores):
        self.scores, self.fits = np.asarray(scores, dtype=np.float32), 0

    def fit(self, train):
        self.fits += 1
        return self

    def score(self, users):
        return self.scores[users]


def test_fusion_standardises_over_unseen_items():
    train = interactions([[0], []], 4)
    a, b = Fixed([[99, 1, 2, 3], [0, 0, 4, 4]]), Fixed([[5, 5, 5, 5], [1, 2, 3, 4]])
    scores = WeightedFusion([a, b], [2.0, -1.0]).fit(train).score([0, 1])
    assert (a.fits, b.fits) == (1, 1)
    root = np.sqrt(1.5)
    assert scores[0, 1:] == pytest.approx([-2 * root, 0, 2 * root], abs=1e-6)  # b is constant: adds nothing
    z = (np.array([1, 2, 3, 4]) - 2.5) / np.sqrt(1.25)
    assert scores[1] == pytest.approx(2 * np.array([-1, -1, 1, 1]) - z, abs=1e-6)
    # units do not matter
    scaled = WeightedFusion([Fixed(a.scores * 1000 + 7), b], [2.0, -1.0], prefitted=True).fit(train)
    assert scaled.score([0, 1]) == pytest.approx(scores, rel=1e-4, abs=1e-4)
    assert scaled.models[0].fits == 0 and b.fits == 1


def test_fusion_of_users_who_have_seen_everything_is_finite():
    train = interactions([[0, 1]], 2)
    assert np.isfinite(WeightedFusion([Popularity(), Fixed([[1, 2]])], [1, 1]).fit(train).score([0])).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: ItemKNN(0), "neighbours"),
        (lambda t: ItemKNN(5, -1.0), "shrink"),
        (lambda t: ItemKNN(decay=0).fit(t), "decay"),
        (lambda t: EASE(0), "regularization"),
        (lambda t: EASE(float("nan")), "regularization"),
        (lambda t: EASE(1.0, decay=2).fit(t), "decay"),
        (lambda t: ContentModel(np.ones(9)), "shape"),
        (lambda t: ContentModel(np.ones((9, 0))), "shape"),
        (lambda t: ContentModel([[1.0, np.nan]] * 9), r"rows \[0, 1, 2, 3, 4\]"),
        (lambda t: ContentModel(np.ones((8, 2))).fit(t), "8 rows, but the data has 9 items"),
        (lambda t: ContentModel(np.ones((9, 2)), last=0).fit(t), "last"),
        (lambda t: RidgeToScores(np.ones((8, 2))).fit(t), "8 rows"),
        (lambda t: RidgeToScores(np.ones((9, 2)), regularization=0), "regularization"),
        (lambda t: RidgeToScores(vectors()).fit(interactions([[], []], 9)), "has none"),
        (lambda t: RidgeToScores(np.ones((9, 2)), gamma=0), "gamma"),
        (lambda t: RidgeToFactors(np.ones((9, 2)), Halves(), -1), "regularization"),
        (lambda t: RidgeToFactors(vectors(), Halves()).fit(interactions([[], []], 9)), "has none"),
        (lambda t: TextKNN(np.ones((9, 2)), neighbours=0), "neighbours"),
        (lambda t: TextKNN(np.ones((8, 2))).fit(t), "8 rows"),
        (lambda t: RidgeFromUsers(np.ones((3, 2))).fit(t), "3 rows for 12 users"),
        (lambda t: RidgeFromUsers([[np.nan]] * 12), "user_features holds NaN"),
        (lambda t: WeightedFusion([], []), "one weight a model"),
        (lambda t: WeightedFusion([Popularity()], [1, 2]), "one weight a model"),
        (lambda t: WeightedFusion([Popularity()], [np.nan]), "finite"),
        (lambda t: WeightedFusion([Fixed(np.ones((12, 3)))], [1]).fit(t).score([0]), r"shape \(1, 3\)"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(interactions(random_histories(0), 9))


def test_reference_figures_on_movielens():
    """Leave-one-out on MovieLens-100K: two figures that every change of the library must keep."""
    from recsys_lib.datasets import load_movielens_100k
    from recsys_lib.evaluation import compare, evaluate
    from recsys_lib.splits import leave_one_out

    split = leave_one_out(load_movielens_100k("title"))
    popularity, ease = (
        evaluate(model.fit(split.fit_part), split.test, seen=split.fit_part)
        for model in (Popularity(), EASE(800.0, decay=0.85))
    )
    assert len(popularity.users) == 943
    assert popularity.mean() == pytest.approx(0.0440, abs=0.0005)  # the margin is for the order of ties
    assert popularity.mean("hit") == pytest.approx(0.0859, abs=0.0012)
    assert ease.mean() == pytest.approx(0.1038, abs=0.0003)
    assert ease.mean("hit") == pytest.approx(0.1972, abs=0.0012)
    assert compare(ease, popularity).p_value < 0.001
