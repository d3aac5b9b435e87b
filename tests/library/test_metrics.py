import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

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
