import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve
from sklearn.metrics import ndcg_score, pairwise_distances

from recsys_lib import metrics

ALL = {
    "hit": metrics.hit_rate,
    "ndcg": metrics.ndcg,
    "mrr": metrics.mrr,
    "recall": metrics.recall,
    "precision": metrics.precision,
}
rank_sets = st.lists(st.sets(st.integers(1, 30), min_size=1, max_size=6), min_size=1, max_size=8)


def padded(sets):
    """Ranks of several items a user, short rows filled with infinity."""
    matrix = np.full((len(sets), max(map(len, sets))), np.inf)
    for row, ranks in enumerate(sets):
        matrix[row, : len(ranks)] = sorted(ranks)
    return matrix


def by_loop(ranks, k):
    """The five metrics of one user, written out."""
    inside = [rank for rank in ranks if rank <= k]
    ideal = sum(1 / math.log2(1 + place) for place in range(1, min(k, len(ranks)) + 1))
    return {
        "hit": 1.0 if inside else 0.0,
        "ndcg": sum(1 / math.log2(1 + rank) for rank in inside) / ideal,
        "mrr": 1 / min(inside) if inside else 0.0,
        "recall": len(inside) / len(ranks),
        "precision": len(inside) / k,
    }


def test_one_item_a_user_by_hand():
    ranks = [1, 2, 3, 10, 11]
    assert metrics.hit_rate(ranks) == pytest.approx([1, 1, 1, 1, 0])
    assert metrics.mrr(ranks) == pytest.approx([1, 1 / 2, 1 / 3, 1 / 10, 0])
    assert metrics.ndcg(ranks) == pytest.approx([1, 1 / math.log2(3), 1 / 2, 1 / math.log2(11), 0])
    assert metrics.recall(ranks) == pytest.approx(metrics.hit_rate(ranks))
    assert metrics.precision(ranks, 5) == pytest.approx([0.2, 0.2, 0.2, 0, 0])


@given(rank_sets, st.integers(1, 12))
def test_against_a_loop(sets, k):
    for name, metric in ALL.items():
        expected = [by_loop(ranks, k)[name] for ranks in sets]
        assert metric(padded(sets), k) == pytest.approx(expected)


@given(rank_sets, st.integers(1, 12))
def test_bounds_and_growth_with_k(sets, k):
    for name, metric in ALL.items():
        values = metric(padded(sets), k)
        assert np.all((values >= 0) & (values <= 1))
        if name in ("hit", "recall", "mrr"):
            assert np.all(metric(padded(sets), k + 1) >= values)


@given(st.integers(1, 8), st.integers(1, 12))
def test_the_ideal_ranking_has_ndcg_one(n_relevant, k):
    assert metrics.ndcg(np.arange(1, n_relevant + 1)[None, :], k) == pytest.approx([1.0])


def test_against_ranx(monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # plain Python: the first compilation takes a minute
    ranx = pytest.importorskip("ranx")  # not where the library is tested with its own requirements alone
    rng = np.random.default_rng(0)
    sets = [
        set(rng.choice(np.arange(1, 41), size=rng.integers(1, 9), replace=False).tolist()) for _ in range(60)
    ]
    qrels = ranx.Qrels({f"u{i}": {f"i{rank}": 1 for rank in ranks} for i, ranks in enumerate(sets)})
    run = ranx.Run({f"u{i}": {f"i{rank}": 100.0 - rank for rank in range(1, 41)} for i in range(len(sets))})
    names = ["hit_rate@10", "ndcg@10", "mrr@10", "recall@10", "precision@10"]
    theirs = ranx.evaluate(qrels, run, names)
    for name, metric in zip(names, ALL.values(), strict=True):
        assert metric(padded(sets), 10).mean() == pytest.approx(theirs[name]), name


def test_ndcg_against_scikit_learn():
    rng = np.random.default_rng(1)
    for k in (3, 10):
        for _ in range(20):
            relevant = rng.choice(30, size=rng.integers(1, 15), replace=False)
            truth = np.zeros(30)
            truth[relevant] = 1
            scores = rng.permutation(30)
            ranks = 30 - scores[relevant]
            expected = ndcg_score(truth[None, :], scores[None, :], k=k)
            assert metrics.ndcg(ranks[None, :], k) == pytest.approx([expected])


def test_ranks_from_lists():
    ranks = metrics.ranks_from_lists([[4, 2, 9], [1, 0, 3]], [{9, 4}, [5]])
    assert ranks.tolist() == [[1, 3], [metrics.ABSENT, np.inf]]
    assert metrics.recall(ranks, 100) == pytest.approx([1, 0])
    assert metrics.ranks_from_lists(np.empty((0, 3)), []).shape == (0, 0)
    with pytest.raises(ValueError, match="2 lists for 1 users"):
        metrics.ranks_from_lists([[1], [2]], [[1]])


def test_coverage_counts_items_once():
    assert metrics.coverage([[0, 1], [1, 2]], 10) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("ranks", "k", "message"),
    [
        ([1, 2], 0, "k must be at least 1"),
        ([0, 1], 10, "start at 1"),
        ([np.nan], 10, "NaN"),
        ([[np.inf, np.inf]], 10, "at least one relevant"),
        (np.ones((1, 1, 1)), 10, "shape"),
    ],
)
def test_errors_say_what_is_wrong(ranks, k, message):
    for metric in ALL.values():
        with pytest.raises(ValueError, match=message):
            metric(ranks, k)


def test_novelty_and_distance_by_hand():
    lists = [[0, 1], [2, 3]]
    # 8 users: met by all, by half, by a quarter, by nobody (as if by one)
    assert metrics.novelty(lists, [8, 4, 2, 0], 8) == pytest.approx([0.5, 2.5])
    vectors = [[1, 0], [0, 3], [1, 1], [-2, -2]]
    assert metrics.intra_list_distance(lists, vectors) == pytest.approx([1.0, 2.0])
    with pytest.raises(ValueError, match="8 users, but there are 4"):
        metrics.novelty(lists, [8, 4, 2, 0], 4)
    with pytest.raises(ValueError, match="k >= 2"):
        metrics.intra_list_distance([[0], [1]], vectors)


@given(st.integers(2, 7), st.integers(0, 2**31))
def test_distance_against_all_pairs(k, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(12, 3))
    lists = np.stack([rng.permutation(12)[:k] for _ in range(4)])
    for row, value in zip(lists, metrics.intra_list_distance(lists, vectors), strict=True):
        distance = pairwise_distances(vectors[row], metric="cosine")
        assert value == pytest.approx(distance[np.triu_indices(k, 1)].mean())


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20).filter(any))
def test_gini_against_all_pairs(counts):
    x = np.asarray(counts, dtype=float)
    assert metrics.gini(x) == pytest.approx(np.abs(x[:, None] - x).mean() / (2 * x.mean()))


def test_gini_by_hand_and_errors():
    assert metrics.gini([3, 3, 3]) == pytest.approx(0)
    assert metrics.gini([0, 0, 0, 7]) == pytest.approx(3 / 4)
    for bad in ([], [0, 0], [1, -1]):
        with pytest.raises(ValueError, match="non-negative"):
            metrics.gini(bad)


@settings(deadline=None)  # scikit-learn is slow at its first call
@given(st.integers(0, 2**31), st.integers(1, 15))
def test_probabilities_against_scikit_learn(seed, bins):
    rng = np.random.default_rng(seed)
    probabilities = np.round(rng.random(60), 2)
    labels = (rng.random(60) < probabilities).astype(int)
    labels[:2] = [0, 1]
    assert metrics.auc(labels, probabilities) == pytest.approx(
        sklearn_metrics.roc_auc_score(labels, probabilities)
    )
    assert metrics.brier(labels, probabilities) == pytest.approx(
        sklearn_metrics.brier_score_loss(labels, probabilities)
    )
    inside = np.clip(probabilities, 1e-6, 1 - 1e-6)
    assert metrics.log_loss(labels, inside) == pytest.approx(sklearn_metrics.log_loss(labels, inside))
    smooth = rng.random(60)  # never on the border of two intervals, where conventions differ
    observed, predicted = calibration_curve(labels, smooth, n_bins=bins)
    curve = metrics.reliability_curve(labels, smooth, bins)
    assert curve["observed"].to_numpy() == pytest.approx(observed)
    assert curve["predicted"].to_numpy() == pytest.approx(predicted)
    assert curve["count"].sum() == 60
    by_loop = sum(
        abs(labels[inside].mean() - smooth[inside].mean()) * inside.mean()
        for low in range(bins)
        if (inside := (smooth >= low / bins) & (smooth < (low + 1) / bins)).any()
    )
    assert metrics.calibration_error(labels, smooth, bins) == pytest.approx(by_loop)


def test_certain_probabilities_and_errors():
    assert metrics.log_loss([1, 0], [1.0, 0.0]) == pytest.approx(0, abs=1e-9)
    assert np.isfinite(metrics.log_loss([0], [1.0]))
    assert metrics.calibration_error([1, 0, 1, 0], [1.0, 0.0, 1.0, 0.0]) == 0
    assert metrics.calibration_error([1, 0], [0.0, 1.0]) == 1
    for labels, probabilities, message in (
        ([0, 2], [0.1, 0.2], "0 or 1"),
        ([0, 1], [0.1, 1.2], r"\[0, 1\]"),
        ([0, 1], [0.1, math.nan], r"\[0, 1\]"),
        ([0, 1], [0.1], "equally long"),
        ([], [], "equally long"),
    ):
        with pytest.raises(ValueError, match=message):
            metrics.brier(labels, probabilities)
    with pytest.raises(ValueError, match="positives and negatives"):
        metrics.auc([1, 1], [0.2, 0.4])
    with pytest.raises(ValueError, match="bins"):
        metrics.reliability_curve([0, 1], [0.1, 0.9], 0)
