"""Two towers: pairs, logQ, histories, cold items."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from recsys_lib.datasets import Interactions
from recsys_lib.models.two_tower import TwoTower, _pairs
from recsys_lib.splits import cold_item_split

SMALL = {"hidden": 16, "dimensions": 8, "dropout": 0.0, "steps": 10, "batch_size": 32, "learning_rate": 0.02}
KINDS = [("item", "text"), ("item", "ids"), ("history", "text"), ("history", "ids"), ("history", "both")]


def rows(pairs, n_users, n_items):
    return Interactions(pd.DataFrame(pairs, columns=["user", "item"]), n_users, n_items)


def two_tastes(n_users=20, n_items=12, per_user=5, seed=0):
    """Even users take the first half of the items, odd users the second."""
    rng = np.random.default_rng(seed)
    half = n_items // 2
    pairs = [
        (u, i + half * (u % 2)) for u in range(n_users) for i in rng.choice(half, per_user, replace=False)
    ]
    return rows(pairs, n_users, n_items)


def text(n_items=12, seed=1):
    """Vectors (n_items, 6) that tell the two halves apart, with noise."""
    noise = np.random.default_rng(seed).normal(size=(n_items, 6))
    return noise + 2 * (np.arange(n_items)[:, None] < n_items // 2)


def model(query, kind, vectors=None, **kwargs):
    vectors = text() if vectors is None else vectors
    given = None if kind == "ids" else vectors
    return TwoTower(given, ids=kind != "text", query=query, **(SMALL | {"epochs": 8} | kwargs))


@pytest.mark.parametrize(("query", "kind"), KINDS)
def test_learns_two_tastes(query, kind):
    scores = model(query, kind).fit(two_tastes()).score(np.arange(20))
    own = np.arange(12)[None, :] // 6 == np.arange(20)[:, None] % 2
    pairs = scores[:, :, None] > scores[:, None, :]
    assert pairs[own[:, :, None] & ~own[:, None, :]].mean() > 0.95
    assert np.abs(scores).max() <= 1 + 1e-5


@pytest.mark.parametrize("shared", [True, False])
def test_overfits_the_next_item(shared):
    """Users who came as far as item i took item i + 1 next, in 6 lists of 4."""
    lists = [[(start + 2 * step) % 12 for step in range(4)] for start in range(6)]
    data = rows([(u, i) for u, items in enumerate(lists) for i in items], 6, 12)
    known = data.select(np.arange(len(data)) % 4 < 3)
    fitted = model("history", "ids", epochs=30, decay=0.3, shared=shared).fit(data).observe(known)
    scores = fitted.score(np.arange(6))
    for user, items in enumerate(lists):
        unseen = np.setdiff1d(np.arange(12), items[:3])
        assert unseen[scores[user, unseen].argmax()] == items[3]


def test_pairs_against_a_loop():
    data = rows([(0, 3), (0, 1), (0, 2), (0, 0), (2, 1), (3, 0), (3, 2)], 4, 4)
    for window in (1, 2, 3):
        expected = {
            (a, b)
            for a in range(7)
            for b in range(a + 1, 7)
            if data.users[a] == data.users[b] and b - a <= window
        }
        found = [tuple(pair) for pair in _pairs(data, window)]
        assert set(found) == expected and len(found) == len(expected)


@pytest.mark.parametrize("query", ["item", "history"])
def test_log_q_is_the_frequency_of_an_item_among_the_keys(query):
    data = rows([(0, 3), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)], 3, 5)
    towers = model(query, "ids", window=1, epochs=1).fit(data)
    count = {"history": [0, 1, 2, 0, 0], "item": [0, 3, 2, 1, 0]}[query]  # neighbours: 3-1, 1-2, 1-2
    share = np.array(count) / sum(count)
    np.testing.assert_allclose(np.exp(towers.key_log_q.numpy())[share > 0], share[share > 0], rtol=1e-5)
    keys = towers.train.items[
        towers.pairs[np.random.default_rng(0).integers(len(towers.pairs), size=20000), 1]
    ]
    np.testing.assert_allclose(np.bincount(keys, minlength=5) / 20000, share, atol=0.02)


def test_loss_and_gradient_with_log_q_against_autograd_on_a_written_out_softmax():
    data = two_tastes()
    towers = model("item", "text", log_q=0.5, temperature=0.2, epochs=1).fit(data)
    loss = next(towers.losses(np.random.default_rng(3)))
    weights = list(towers.network.parameters())
    found = torch.autograd.grad(loss, weights)

    chosen = towers.pairs[np.random.default_rng(3).integers(len(towers.pairs), size=32)]
    first, second = data.items[chosen[:, 0]], data.items[chosen[:, 1]]
    vectors = towers.network["item"].items(torch.arange(12))
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    total = 0.0
    for a, b in zip(first, second, strict=True):
        others = [c for c in second if c != b]  # every draw of another item is a negative
        logits = [unit[a] @ unit[c] / 0.2 - 0.5 * towers.key_log_q[c] for c in [b, *others]]
        total = total - torch.log_softmax(torch.stack(logits), 0)[0]
    expected = total / 32
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(found, torch.autograd.grad(expected, weights), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("decay", "last"), [(1.0, None), (0.7, 2), (0.5, None)])
def test_histories_are_decayed_means_of_what_came_before(decay, last):
    data = rows([(0, 3), (0, 1), (0, 2), (0, 0), (2, 1), (2, 3)], 3, 4)
    towers = model("history", "ids", decay=decay, last=last, epochs=1).fit(data)
    ends = np.array([2, 0, 5])
    expected = np.zeros((3, 4))
    for row, end in enumerate(ends):
        before = [data.items[r] for r in range(end, -1, -1) if data.users[r] == data.users[end]][:last]
        for step, item in enumerate(before):
            expected[row, item] += decay**step
        expected[row] /= expected[row].sum()
    np.testing.assert_allclose(towers._histories(ends).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize(("query", "kind"), [("item", "text"), ("history", "both")])
def test_scores_are_cosines_of_profile_and_item(query, kind):
    data = rows([(0, 3), (0, 1), (1, 2), (1, 0)], 3, 4)
    towers = model(query, kind, text(4), decay=0.5, epochs=2).fit(data)
    items = towers.network["item"].items(torch.arange(4)).detach().double()
    unit = items / items.norm(dim=1, keepdim=True)
    if query == "item":
        user = 0.5 * unit[3] + unit[1]
    else:
        weights = torch.tensor([[0.0, 2 / 3, 0.0, 1 / 3]])
        user = towers.network["user"].lists(weights)[0].detach().double()
    expected = unit @ user / user.norm()
    scores = towers.score(np.arange(3))
    np.testing.assert_allclose(scores[0], expected.numpy(), atol=1e-5)
    np.testing.assert_array_equal(scores[2], np.zeros(4))  # a user without history


@pytest.mark.parametrize("query", ["item", "history"])
def test_permuting_codes_with_their_texts_permutes_the_scores(query):
    data, vectors = two_tastes(), text()
    order = np.random.default_rng(5).permutation(12)
    moved = np.empty_like(vectors)
    moved[order] = vectors
    renamed = Interactions(data.frame.assign(item=order[data.items]), 20, 12)
    first = model(query, "text", vectors).fit(data).score(np.arange(20))
    second = model(query, "text", moved).fit(renamed).score(np.arange(20))
    np.testing.assert_allclose(first, second[:, order], atol=1e-3)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["item", "history"]), st.sampled_from(["text", "both"]))
def test_cold_items_are_scored_by_their_text_and_leave_no_trace(seed, query, kind):
    split = cold_item_split(two_tastes(per_user=6, seed=seed), seed=seed)
    cold, vectors = split.candidates, text()
    users = np.arange(20)
    towers = model(query, kind, vectors, epochs=2).fit(split.fit_part)
    scores = towers.score(users)
    assert np.isfinite(scores).all() and scores[:, cold].std() > 0
    assert not np.isin(towers.train.items[towers.pairs], cold).any()
    other = vectors.copy()
    other[cold] = np.random.default_rng(seed).normal(size=(len(cold), 6))  # other texts of the cold items
    warm = np.setdiff1d(np.arange(12), cold)
    again = model(query, kind, other, epochs=2).fit(split.fit_part).score(users)
    np.testing.assert_array_equal(scores[:, warm], again[:, warm])
    assert not np.allclose(scores[:, cold], again[:, cold])


def test_an_item_nobody_met_has_no_vector_of_its_own():
    data = rows([(0, 3), (0, 1), (1, 2), (1, 1)], 2, 6)
    assert (model("item", "ids").fit(data).score([0, 1])[:, [0, 4, 5]] == 0).all()
    same = text(6)
    same[4] = same[5]
    scores = model("history", "both", same).fit(data).score([0, 1])
    np.testing.assert_allclose(scores[:, 4], scores[:, 5], atol=1e-6)


@pytest.mark.parametrize(("query", "kind"), KINDS)
def test_seeds_and_saving(tmp_path, query, kind):
    data, users = two_tastes(), np.arange(20)
    towers = model(query, kind, epochs=2, dropout=0.2, seed=3).fit(data)
    scores = towers.score(users)
    again, other = (model(query, kind, epochs=2, dropout=0.2, seed=s).fit(data).score(users) for s in (3, 4))
    np.testing.assert_array_equal(scores, again)
    assert not np.allclose(scores, other)
    towers.save(tmp_path / "towers")
    loaded = TwoTower.load(tmp_path / "towers")
    np.testing.assert_array_equal(loaded.score(users), scores)
    assert (loaded.query, loaded.log_q) == (query, 1.0)


def test_errors_say_what_is_wrong():
    for wrong, words in (
        ({"query": "user"}, "query must be one of"),
        ({"log_q": 1.5}, "log_q must lie"),
        ({"dropout": 1.0}, "dropout in"),
        ({"window": 0}, "at least 1"),
        ({"ids": False}, "item_vectors, ids or both"),
        ({"item_vectors": np.full((3, 2), np.nan)}, "NaN"),
    ):
        with pytest.raises(ValueError, match=words):
            TwoTower(**wrong)
    data = two_tastes()
    with pytest.raises(ValueError, match="has 5 rows"):
        TwoTower(text(5)).fit(data)
    with pytest.raises(ValueError, match="two interactions"):
        TwoTower().fit(rows([(0, 1), (1, 2)], 2, 3))
    with pytest.raises(ValueError, match="temperature"):
        model("item", "text", temperature=0.0).fit(data)
    with pytest.raises(ValueError, match="decay"):
        model("item", "text", decay=0.0).fit(data).score([0])
