"""LightGCN, its views and its text: against dense arithmetic, matrix factorisation and other oracles."""

import numpy as np
import pandas as pd
import pytest
from two_tastes import share_in_order, two_tastes

torch = pytest.importorskip("torch")

from recsys_lib.datasets import Interactions
from recsys_lib.models.graph import (
    BipartiteGraph,
    LightGCN,
    propagate,
    softmax_over_items,
)
from recsys_lib.objectives import full_softmax, info_nce

VARIANTS = {
    "softmax": {},
    "bpr": {"loss": "bpr"},
    "sgl": {"contrast": "sgl"},
    "simgcl": {"contrast": "simgcl"},
    "xsimgcl": {"contrast": "xsimgcl"},
    "start": {"item_vectors": np.random.default_rng(0).standard_normal((12, 9))},
    "map": {"item_vectors": np.random.default_rng(0).standard_normal((12, 9)), "text": "map"},
}


def model(variant="softmax", **kwargs):
    return LightGCN(**{"dimensions": 8, "epochs": 30, **VARIANTS[variant], **kwargs})


def dense_adjacency(matrix):
    n_users, n_items = matrix.shape
    full = np.block([[np.zeros((n_users, n_users)), matrix], [matrix.T, np.zeros((n_items, n_items))]])
    degree = full.sum(axis=1)
    result = np.zeros_like(full)
    for i, j in zip(*np.nonzero(full), strict=True):
        result[i, j] = 1 / np.sqrt(degree[i] * degree[j])
    return result


def small():
    """3 users, 5 items, the last without any interaction."""
    frame = pd.DataFrame({"user": [0, 0, 1, 1, 2, 2], "item": [0, 1, 1, 2, 2, 3]})
    return Interactions(frame, 3, 5)


def test_adjacency_is_the_dense_one():
    data = small()
    expected = dense_adjacency((data.matrix().toarray() > 0).astype(float))
    np.testing.assert_allclose(BipartiteGraph(data).adjacency().to_dense(), expected, atol=1e-7)


def test_dropped_edges_are_gone_in_both_directions():
    data = small()
    graph = BipartiteGraph(data)
    keep = np.array([True, False, True, True, False, True])
    user, item = graph.taken.nonzero()
    matrix = np.zeros((3, 5))
    matrix[user[keep], item[keep]] = 1
    np.testing.assert_allclose(graph.adjacency(keep).to_dense(), dense_adjacency(matrix), atol=1e-7)


def test_propagation_is_a_dense_product_and_so_is_its_gradient():
    data = small()
    dense = torch.from_numpy(dense_adjacency((data.matrix().toarray() > 0).astype(float))).float()
    start = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    ours, theirs = start.clone().requires_grad_(), start.clone().requires_grad_()
    layers = propagate(BipartiteGraph(data).adjacency(), ours, 3)
    expected = [torch.linalg.matrix_power(dense, k) @ theirs for k in range(4)]
    for layer, other in zip(layers, expected, strict=True):
        torch.testing.assert_close(layer, other, atol=1e-6, rtol=1e-5)
    weights = torch.randn(4, 8, 4, generator=torch.Generator().manual_seed(1))
    (torch.stack(layers).pow(2) * weights).sum().backward()
    (torch.stack(expected).pow(2) * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-5)


def test_noise_has_its_length_and_stays_in_the_orthant():
    data = small()
    start = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    plain = propagate(BipartiteGraph(data).adjacency(), start, 1)[1]
    noisy = propagate(BipartiteGraph(data).adjacency(), start, 1, noise=0.3)[1]
    lengths = (noisy - plain).norm(dim=1)
    torch.testing.assert_close(lengths[:7], torch.full((7,), 0.3), atol=1e-5, rtol=1e-5)
    assert lengths[7] == 0  # an item without neighbours has a zero vector: no orthant
    assert torch.equal(noisy[:7].sign(), plain[:7].sign())


@pytest.mark.parametrize("loss", ["softmax", "bpr"])
def test_no_layers_is_matrix_factorisation(loss):
    data = two_tastes()
    gcn = model(loss, layers=0).fit(data)
    table = gcn.network.table.detach().numpy()
    users, items = table[:20], table[20:]
    if loss == "softmax":
        users, items = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (users, items))
    np.testing.assert_allclose(gcn.score(np.arange(20)), users @ items.T, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        gcn.score(np.arange(20)), gcn.user_factors @ gcn.item_factors.T, rtol=1e-5, atol=1e-6
    )


def test_scores_average_the_layers():
    data = two_tastes()
    gcn = model("bpr", layers=3).fit(data)
    dense = dense_adjacency(data.matrix().toarray())
    start = gcn.network.table.detach().numpy().astype(float)
    final = sum(np.linalg.matrix_power(dense, k) @ start for k in range(4)) / 4
    np.testing.assert_allclose(gcn.score([3, 0]), final[[3, 0]] @ final[20:].T, rtol=1e-4, atol=1e-5)


def test_softmax_over_items_is_the_full_softmax_over_interactions():
    data = two_tastes()
    generator = torch.Generator().manual_seed(0)
    users, items = (torch.randn(n, 6, generator=generator, requires_grad=True) for n in (20, 12))
    at = torch.tensor(data.users), torch.tensor(data.items)
    ours = softmax_over_items(users, items, torch.from_numpy(data.matrix().toarray()).float())
    theirs = full_softmax(users[at[0]], items, at[1])
    torch.testing.assert_close(ours, theirs)
    for one, other in zip(
        torch.autograd.grad(ours, [users, items]), torch.autograd.grad(theirs, [users, items]), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_simgcl_without_noise_has_equal_views():
    gcn = model("simgcl", noise=0.0)
    gcn.fit(two_tastes())
    first, second = gcn.views(np.random.default_rng(0))
    assert torch.equal(first, second)
    noisy = model("simgcl")
    noisy.fit(two_tastes())
    first, second = noisy.views(np.random.default_rng(0))
    assert not torch.allclose(first, second)


def test_sgl_without_dropping_has_equal_views_and_with_it_has_not():
    gcn = model("sgl", drop=0.0).fit(two_tastes())
    assert torch.equal(*gcn.views(np.random.default_rng(0)))
    gcn.drop = 0.3
    assert not torch.allclose(*gcn.views(np.random.default_rng(0)))


def test_contrast_is_info_nce_among_users_and_among_items():
    gcn = model("sgl").fit(two_tastes())
    first, second = gcn.views(np.random.default_rng(0))
    expected = info_nce(first[:20], second[:20], 0.2) + info_nce(first[20:], second[20:], 0.2)
    torch.testing.assert_close(gcn.contrastive_loss(first, second), expected)


@pytest.mark.parametrize("variant", ["simgcl", "xsimgcl", "sgl"])
def test_contrast_without_weight_is_no_contrast(variant):
    data = two_tastes()
    noiseless = {"contrast_weight": 0.0, "noise": 0.0}
    plain, other = model().fit(data), model(variant, **noiseless).fit(data)
    np.testing.assert_array_equal(plain.score(np.arange(20)), other.score(np.arange(20)))
    weighed = model(variant, contrast_weight=1.0).fit(data)
    assert not np.allclose(plain.score(np.arange(20)), weighed.score(np.arange(20)), atol=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_overfits_twenty_interactions(variant):
    cells = np.random.default_rng(1).choice(40, 20, replace=False)  # 5 users, 8 items
    data = Interactions(pd.DataFrame({"user": cells // 8, "item": cells % 8}), 5, 8)
    kwargs = {"layers": 1, "epochs": 300, "dimensions": 8}
    if "item_vectors" in VARIANTS[variant]:
        kwargs["item_vectors"] = VARIANTS[variant]["item_vectors"][:8]
    scores = model(variant, **kwargs).fit(data).score(np.arange(5))
    taken = data.matrix().toarray() > 0
    pairs = scores[:, :, None] > scores[:, None, :]
    assert pairs[taken[:, :, None] & ~taken[:, None, :]].all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_learns_two_tastes(variant):
    scores = model(variant).fit(two_tastes()).score(np.arange(20))
    assert share_in_order(scores) > 0.95


@pytest.mark.parametrize("variant", VARIANTS)
def test_equal_seeds_give_equal_scores_and_saving_keeps_them(variant, tmp_path):
    data, users = two_tastes(), np.arange(20)
    fitted = model(variant, seed=3).fit(data)
    first, other = fitted.score(users), model(variant, seed=4).fit(data).score(users)
    np.testing.assert_array_equal(first, model(variant, seed=3).fit(data).score(users))
    assert not np.allclose(first, other)
    fitted.save(tmp_path / "model")
    again = LightGCN.load(tmp_path / "model")
    np.testing.assert_array_equal(first, again.score(users))
    assert again.contrast == fitted.contrast and again.text == fitted.text


@pytest.mark.parametrize("variant", ["start", "map"])
def test_permuting_item_ids_with_their_vectors_permutes_the_scores(variant):
    """Layer 0 of the items comes from their vectors, so nothing else depends on the codes."""
    data = two_tastes()
    order = np.random.default_rng(5).permutation(12)
    renamed = Interactions(data.frame.assign(item=order[data.items]), 20, 12)
    vectors = VARIANTS[variant]["item_vectors"]
    moved = np.empty_like(vectors)
    moved[order] = vectors
    first = model(variant, epochs=5).fit(data).score(np.arange(20))
    second = model(variant, epochs=5, item_vectors=moved).fit(renamed).score(np.arange(20))
    np.testing.assert_allclose(first, second[:, order], atol=1e-4)


def test_text_map_ranks_a_cold_item_and_ids_cannot():
    data = two_tastes(40, 20)
    cold = np.isin(data.items, [0, 10])
    warm = data.select(~cold)
    sides = np.repeat([[1.0], [-1.0]], 10, axis=0)
    vectors = np.hstack([sides, np.random.default_rng(0).standard_normal((20, 8)) * 0.1])
    users, even = np.arange(40), np.arange(40) % 2 == 0
    scores = model("map", item_vectors=vectors, learning_rate=0.005, epochs=10).fit(warm).score(users)
    assert ((scores[:, 0] > scores[:, 10]) == even).mean() == 1.0
    random = model(epochs=10).fit(warm).score(users)
    assert ((random[:, 0] > random[:, 10]) == even).mean() < 0.9


def test_text_starts_at_the_principal_components():
    vectors = np.random.default_rng(0).standard_normal((12, 9))
    gcn = model("start", item_vectors=vectors, epochs=1, learning_rate=1e-9).fit(two_tastes())
    rows = vectors - vectors.mean(axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    u, s, _ = np.linalg.svd(rows)
    expected = u[:, :8] * s[:8]
    ours = gcn.network.table.detach().numpy()[20:]
    assert np.sqrt((ours**2).mean()) == pytest.approx(0.1, rel=1e-4)
    scale = 0.1 / np.sqrt((expected**2).mean())
    np.testing.assert_allclose(np.abs(ours), np.abs(expected) * scale, atol=1e-5)


def test_observing_more_changes_the_graph_but_not_the_weights():
    data = two_tastes()
    fewer = data.select(np.arange(len(data)) % 4 > 0)
    gcn = model(layers=2).fit(data)
    before, table = gcn.score(np.arange(20)), gcn.network.table.detach().clone()
    after = gcn.observe(fewer).score(np.arange(20))
    assert torch.equal(table, gcn.network.table) and not np.allclose(before, after)
    np.testing.assert_array_equal(gcn.observe(data).score(np.arange(20)), before)


def test_clear_errors():
    data = two_tastes()
    for wrong in (
        {"loss": "hinge"},
        {"contrast": "moco"},
        {"text": "both"},
        {"layers": -1},
        {"dimensions": 0},
        {"temperature": 0.0},
        {"drop": 1.0},
        {"noise": -0.1},
        {"contrast": "xsimgcl", "layers": 0},
    ):
        with pytest.raises(ValueError, match=r"must (be|lie)"):
            LightGCN(**wrong)
    with pytest.raises(ValueError, match="rows, but the data has"):
        LightGCN(item_vectors=np.ones((3, 80))).fit(data)
    with pytest.raises(ValueError, match="cannot start 64 dimensions"):
        LightGCN(item_vectors=np.ones((12, 9))).fit(data)
    with pytest.raises(ValueError, match="NaN"):
        LightGCN(item_vectors=np.full((12, 80), np.nan))
    with pytest.raises(ValueError, match="interactions to learn from"):
        LightGCN().fit(Interactions(data.frame.iloc[:0], 20, 12))
    with pytest.raises(RuntimeError, match="call fit"):
        LightGCN().score([0])
