"""Losses against torch's own, loops and finite differences; corruption by its shares."""

import math

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as F

from recsys_lib.objectives import (
    IGNORED,
    bpr,
    full_softmax,
    info_nce,
    mask_tokens,
    nt_xent,
    sampled_softmax,
)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_bpr_by_hand():
    positive, negative = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 1.0])
    by_hand = (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(1))) / 2
    assert float(bpr(positive, negative)) == pytest.approx(by_hand, abs=1e-6)


def test_softmax_with_one_negative_is_bpr():
    positive, negative = random(7), random(7, seed=1)
    assert torch.allclose(sampled_softmax(positive, negative[:, None]), bpr(positive, negative))


def test_sampled_softmax_against_cross_entropy():
    positive, negatives = random(5), random(5, 4, seed=1)
    expected = F.cross_entropy(torch.cat([positive[:, None], negatives], 1), torch.zeros(5, dtype=torch.long))
    assert torch.allclose(sampled_softmax(positive, negatives), expected)


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_info_nce_against_a_loop(temperature):
    queries, keys = random(6, 3), random(6, 3, seed=1)
    log_q, ids = random(6, seed=2), torch.tensor([0, 1, 2, 1, 3, 4])
    total = 0.0
    for i in range(6):
        terms = []
        for j in range(6):
            s = float(F.cosine_similarity(queries[i], keys[j], dim=0)) / temperature - float(log_q[j])
            if i == j or ids[i] != ids[j]:
                terms.append(math.exp(s))
            if i == j:
                own = math.exp(s)
        total -= math.log(own / sum(terms)) / 6
    assert float(info_nce(queries, keys, temperature, log_q=log_q, key_ids=ids)) == pytest.approx(total)


def test_info_nce_without_normalising_takes_inner_products():
    queries, keys = random(4, 3), random(4, 3, seed=1)
    expected = F.cross_entropy(queries @ keys.T / 0.7, torch.arange(4))
    assert torch.allclose(info_nce(queries, keys, 0.7, normalize=False), expected)


def test_log_q_of_equal_chances_changes_nothing():
    queries, keys = random(4, 3), random(4, 3, seed=1)
    assert torch.allclose(info_nce(queries, keys), info_nce(queries, keys, log_q=torch.full((4,), -2.0)))


def test_nt_xent_against_a_loop():
    first, second = random(4, 3), random(4, 3, seed=1)
    views = F.normalize(torch.cat([first, second]), dim=1)
    total = 0.0
    for i in range(8):
        others = [math.exp(float(views[i] @ views[j]) / 0.2) for j in range(8) if j != i]
        total -= math.log(math.exp(float(views[i] @ views[(i + 4) % 8]) / 0.2) / sum(others)) / 8
    assert float(nt_xent(first, second, 0.2)) == pytest.approx(total)


@pytest.mark.parametrize("with_q", [False, True])
def test_full_softmax_and_its_gradients_equal_torch(with_q):
    # 600 rows: more than two chunks
    queries, items = random(600, 5).requires_grad_(), random(9, 5, seed=1).requires_grad_()
    targets = torch.arange(600) % 9
    log_q = random(9, seed=2) if with_q else None
    logits = queries @ items.T - (0 if log_q is None else log_q)
    expected = F.cross_entropy(logits, targets)
    wanted = torch.autograd.grad(2 * expected, (queries, items))
    loss = full_softmax(queries, items, targets, log_q)
    got = torch.autograd.grad(2 * loss, (queries, items))
    assert torch.allclose(loss, expected)
    assert all(torch.allclose(a, b) for a, b in zip(got, wanted, strict=True))


LOSSES = [
    (lambda a, b: bpr(a, b), 2),
    (lambda a, b: sampled_softmax(a[:, 0], b), 2),
    (lambda a, b: info_nce(a, b, 0.3, log_q=torch.arange(3.0)), 2),
    (lambda a, b: nt_xent(a, b, 0.3), 2),
    (lambda a, b: full_softmax(a, b, torch.tensor([0, 2, 1])), 2),
]


@pytest.mark.parametrize("loss", [loss for loss, _ in LOSSES])
def test_gradients_against_finite_differences(loss):
    first, second = random(3, 4).requires_grad_(), random(3, 4, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(loss, (first, second))


@pytest.mark.parametrize("loss", [loss for loss, _ in LOSSES])
@pytest.mark.parametrize("bad", ["nan", "empty"])
def test_nan_and_empty_batches_raise(loss, bad):
    first, second = random(3, 4), random(3, 4, seed=1)
    if bad == "nan":
        first[0, 0] = float("nan")
    else:
        first, second = first[:0], second[:0]
    with pytest.raises(ValueError):
        loss(first, second)


def test_wrong_shapes_and_temperatures_raise():
    a = random(3, 4)
    for call in (
        lambda: bpr(a, a[:2]),
        lambda: sampled_softmax(a, a),
        lambda: info_nce(a, a[:2]),
        lambda: info_nce(a, a, 0.0),
        lambda: nt_xent(a[:1], a[:1]),
        lambda: nt_xent(a, a, -1.0),
        lambda: full_softmax(a, a[:, :2], torch.zeros(3, dtype=torch.long)),
        lambda: full_softmax(a, a, torch.zeros(2, dtype=torch.long)),
        lambda: full_softmax(a, a, torch.tensor([0, 1, 3])),
        lambda: mask_tokens(torch.zeros(3, dtype=torch.long), 1, 5, 0.0),
        lambda: mask_tokens(torch.zeros(3, dtype=torch.long), 1, 5, 0.5, replace=(0.8, 0.4)),
    ):
        with pytest.raises(ValueError):
            call()


def test_masking_shares_and_labels():
    ids = torch.randint(5, 1000, (200, 100), generator=torch.Generator().manual_seed(0))
    special = torch.zeros_like(ids, dtype=torch.bool)
    special[:, 0] = True
    generator = torch.Generator().manual_seed(1)
    inputs, labels = mask_tokens(ids, 4, 1000, 0.15, special=special, generator=generator)
    chosen = labels != IGNORED
    assert not chosen[:, 0].any()
    assert chosen[:, 1:].float().mean() == pytest.approx(0.15, abs=0.01)
    assert (labels[chosen] == ids[chosen]).all()
    assert (inputs[~chosen] == ids[~chosen]).all()
    masked = (inputs == 4) & chosen
    assert masked.sum() / chosen.sum() == pytest.approx(0.8, abs=0.03)
    kept = (inputs == ids) & chosen
    assert kept.sum() / chosen.sum() == pytest.approx(0.1, abs=0.03)


def test_masking_is_repeatable():
    ids = torch.arange(50)
    runs = [mask_tokens(ids, 0, 50, generator=torch.Generator().manual_seed(s)) for s in (3, 3, 4)]
    assert torch.equal(runs[0][0], runs[1][0])
    assert not torch.equal(runs[0][1], runs[2][1])
