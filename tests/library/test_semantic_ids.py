"""Digits against k-means step by step, beams against all ids one by one, tries against sets of prefixes."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from sklearn.cluster import KMeans

from recsys_lib.datasets import Interactions
from recsys_lib.models import semantic_ids
from recsys_lib.models.semantic_ids import (
    ResidualQuantizer,
    SemanticIdModel,
    Trie,
    results_by_seed,
    with_tie_breaker,
)

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(60, 5))
N_USERS, N_ITEMS = 12, 20
IDS = with_tie_breaker(RNG.integers(3, size=(N_ITEMS, 2)))


def interactions():
    rows = [
        (user, item)
        for user in range(N_USERS - 1)
        for item in np.random.default_rng(user).permutation(N_ITEMS)[:8]
    ]
    return Interactions(pd.DataFrame(rows, columns=["user", "item"]), N_USERS, N_ITEMS)


@pytest.fixture(scope="module")
def model():
    return SemanticIdModel(IDS, d=8, length=6, epochs=3, batch_size=4).fit(interactions())


def test_digits_are_those_of_kmeans_step_by_step():
    quantizer = ResidualQuantizer.fit(VECTORS, levels=3, codes=4, seed=7)
    rest, digits = VECTORS, []
    for level in range(3):
        means = KMeans(4, n_init=1, random_state=7 + level).fit(rest)
        digits.append(means.predict(rest))
        rest = rest - means.cluster_centers_[digits[-1]]
    assert (quantizer.encode(VECTORS) == np.stack(digits, axis=1)).all()
    assert np.allclose(quantizer.decode(quantizer.encode(VECTORS)), VECTORS - rest)


def test_each_level_leaves_less():
    quantizer = ResidualQuantizer.fit(VECTORS, levels=4, codes=6)
    digits = quantizer.encode(VECTORS)
    left = [((VECTORS - quantizer.decode(digits[:, :level])) ** 2).sum() for level in (1, 2, 3, 4)]
    assert left == sorted(left, reverse=True) and left[-1] < left[0]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30))
def test_the_last_digit_counts_within_equal_digits(rows):
    seen: dict[tuple[int, int], int] = {}
    expected = []
    for row in rows:
        expected.append((*row, seen.get(row, 0)))
        seen[row] = seen.get(row, 0) + 1
    assert [tuple(row) for row in with_tie_breaker(rows).tolist()] == expected


@given(st.sets(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_the_trie_allows_what_exists_and_nothing_else(ids):
    trie = Trie(sorted(ids))
    walked = [()]
    for level in range(3):
        for prefix in walked:
            assert set(trie.allowed(prefix)) == {row[level] for row in ids if row[:level] == prefix}
        walked = [(*prefix, int(digit)) for prefix in walked for digit in trie.allowed(prefix)]
    assert set(walked) == ids
    assert not len(trie.allowed((9,))) and not len(trie.allowed(walked[0]))


def by_hand(model, user):
    """Log-probability of each id, one digit after another."""
    model.network.eval()
    with torch.no_grad():
        state = model.user_states(np.array([user]))[0]
        total = []
        for row in model.ids:
            parts = [
                model.network.logits(state, torch.tensor(row[:i])).log_softmax(0)[row[i]]
                for i in range(len(row))
            ]
            total.append(float(sum(parts)))
    return np.array(total)


@pytest.mark.parametrize("user", [0, 5, N_USERS - 1])  # the last has no history
def test_scores_are_log_probabilities_of_whole_ids(model, user):
    assert np.allclose(model.score([user])[0], by_hand(model, user), atol=1e-5)


def test_a_full_beam_is_all_ids_in_order(model):
    for user in range(3):
        items, logs = model.beam_search(user, width=1000)
        expected = by_hand(model, user)
        assert sorted(items) == list(range(N_ITEMS))
        assert np.allclose(logs, expected[items], atol=1e-5) and (np.diff(logs) <= 1e-12).all()


@settings(deadline=None, max_examples=20)
@given(st.integers(0, N_USERS - 1), st.integers(1, 6), st.sets(st.integers(0, N_ITEMS - 1), min_size=1))
def test_a_narrow_beam_yields_items_of_its_trie_with_their_scores(model, user, width, sold):
    sold = np.array(sorted(sold))
    items, logs = model.beam_search(user, width, Trie(IDS[sold], sold))
    assert 1 <= len(items) <= width and len(set(items)) == len(items) and np.isin(items, sold).all()
    assert np.allclose(logs, model.score([user])[0, items], atol=1e-5)


def test_probabilities_of_all_digit_sequences_sum_to_one(model):
    sizes = IDS.max(axis=0) + 1
    every = np.stack(np.meshgrid(*(np.arange(size) for size in sizes), indexing="ij"), axis=-1).reshape(-1, 3)
    full = SemanticIdModel(every, d=8)
    full.network, full.observed, full.train = model.network, model.observed, model.train
    _, logs = full.beam_search(0, width=len(every))
    assert np.exp(logs).sum() == pytest.approx(1, abs=1e-5)


def test_a_digit_depends_on_those_before_it(model):
    network, state = model.network.eval(), torch.randn(8)
    x = state + network.before[0].weight[2] + network.before[1].weight[1]
    expected = network.out[2](x + network.nets[2](x))
    assert torch.allclose(network.logits(state, torch.tensor([2, 1])), expected, atol=1e-6)
    assert not torch.allclose(network.logits(state, torch.tensor([1, 1])), expected, atol=1e-6)


def test_training_learns_a_cycle_and_equal_seeds_agree():
    rows = [(user, (user + step) % N_ITEMS) for user in range(N_USERS) for step in range(10)]
    train = Interactions(pd.DataFrame(rows, columns=["user", "item"]), N_USERS, N_ITEMS)
    first, second = (
        SemanticIdModel(IDS, d=16, length=8, epochs=60, batch_size=4, learning_rate=1e-2, seed=1).fit(train)
        for _ in range(2)
    )
    assert (first.score([0, 1]) == second.score([0, 1])).all()
    assert [first.score([user])[0].argmax() for user in range(3)] == [10, 11, 12]


def test_stored_places_become_results(tmp_path, monkeypatch):
    path = tmp_path / "places.csv"
    path.write_text("plain_0,plain_1\n1,0\n3,10\n0,0\n")
    monkeypatch.setattr(semantic_ids, "FILE", path)
    first, second = results_by_seed()["plain"]
    assert first.per_user["ndcg"].tolist() == [1, 0.5, 0] and first.per_user["hit"].tolist() == [1, 1, 0]
    assert first.mean("mrr") == pytest.approx((1 + 1 / 3) / 3)
    assert second.mean() == pytest.approx(1 / np.log2(11) / 3) and second.mean("mrr") == pytest.approx(1 / 30)
    assert first.ranks["user"].tolist() == [0, 1] and second.ranks["rank"].tolist() == [10]


def test_the_file_of_the_benchmark():
    table = pd.read_csv(semantic_ids.FILE)
    assert list(table) == [
        f"{name}_{seed}" for seed in range(3) for name in ("semantic", "shuffled", "plain")
    ]
    assert len(table) == 943 and table.isin(range(11)).all(axis=None)
    assert all((table[a] != table[b]).any() for a in table for b in table if a < b)  # nine models, not copies
    results = results_by_seed()
    assert {name: len(group) for name, group in results.items()} == dict.fromkeys(results, 3)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="codes"):
        ResidualQuantizer.fit(VECTORS, codes=61)
    with pytest.raises(ValueError, match="tie-breaking"):
        Trie([[0, 1], [0, 1]])
    with pytest.raises(ValueError, match="digits"):
        Trie([[-1, 1]])
    with pytest.raises(ValueError):
        SemanticIdModel(IDS[:5]).fit(interactions())
