"""A pair of encoders for pictures and text: the loss, training, ranks, fusion of what is there."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from recsys_lib.multimodal import (
    Pair,
    PictureEncoder,
    augment,
    fuse,
    own_ranks,
    symmetric_info_nce,
    to_tensor,
)


def test_symmetric_loss_is_the_mean_of_two_cross_entropies():
    a, b = (torch.randn(7, 5, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    scores = torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=2) / 0.2
    there = torch.nn.functional.cross_entropy(scores, torch.arange(7))
    back = torch.nn.functional.cross_entropy(scores.T, torch.arange(7))
    assert torch.allclose(symmetric_info_nce(a, b, 0.2), (there + back) / 2, atol=1e-6)
    assert not torch.allclose(there, back, atol=1e-3)
    assert torch.allclose(symmetric_info_nce(a, b, 0.2), symmetric_info_nce(b, a, 0.2))


def test_ranks_agree_with_sorting_and_share_ties():
    rng = np.random.default_rng(0)
    queries, keys = rng.normal(size=(2, 20, 4))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (queries, keys)]
    order = np.argsort(-(unit[0] @ unit[1].T), axis=1)
    expected = [1 + list(row).index(i) for i, row in enumerate(order)]
    assert own_ranks(queries, keys).tolist() == expected
    assert own_ranks(np.ones((3, 2)), np.ones((3, 2))).tolist() == [2, 2, 2]
    assert own_ranks(np.eye(3), np.eye(3)).tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="one key a query"):
        own_ranks(np.ones((3, 2)), np.ones((2, 2)))


def test_fuse_takes_the_views_an_item_has():
    a, b = np.array([[2.0, 0], [0, 3], [np.nan, np.nan]]), np.array([[0.0, 5], [np.nan, np.nan], [1, 0]])
    assert np.allclose(fuse(a, b), [[0.5**0.5, 0.5**0.5], [0, 1], [1, 0]])
    assert np.allclose(fuse(a[:2]), [[1, 0], [0, 1]])
    for views, message in (((), "one shape"), ((a, b[:2]), "one shape"), ((a,), "without any view")):
        with pytest.raises(ValueError, match=message):
            fuse(*views)


def test_pictures_become_numbers_between_0_and_1():
    pictures = np.zeros((2, 4, 6, 3), np.uint8)
    pictures[0, 1, 2] = (255, 51, 0)
    tensor = to_tensor(pictures)
    assert tensor.shape == (2, 3, 4, 6)
    assert tensor[0, :, 1, 2].tolist() == pytest.approx([1, 0.2, 0])
    with pytest.raises(ValueError, match="pictures must be"):
        to_tensor(np.zeros((2, 3, 4, 6)))


def test_augmentation_keeps_the_ground_white_and_follows_its_generator():
    pictures = torch.ones(4, 3, 16, 16)
    assert torch.allclose(augment(pictures, torch.Generator().manual_seed(0)), pictures)
    pictures[:, :, 4:12, 4:12] = 0.3
    once, again, other = (augment(pictures, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(once, again) and not torch.allclose(once, other)
    assert once.min() >= 0 and once.max() <= 1 and not torch.allclose(once, pictures)


def toy_pairs(n=48, seed=0):
    """Pictures of one colour, texts that are a linear map of it: easy to pair."""
    rng = np.random.default_rng(seed)
    colors = rng.integers(0, 256, size=(n, 3))
    pictures = np.broadcast_to(colors[:, None, None], (n, 16, 16, 3)).astype(np.uint8)
    return pictures, (colors / 255 - 0.5) @ rng.normal(size=(3, 10))


def test_training_pairs_what_belongs_together_and_not_what_was_shuffled():
    pictures, texts = toy_pairs()
    train, test = slice(0, 32), slice(32, 48)
    reached = {}
    for name, given in (
        ("right", texts[train]),
        ("shuffled", np.random.default_rng(1).permutation(texts[train])),
    ):
        pair = Pair(10, dimension=16, width=4).fit(
            pictures[train], [given], epochs=60, batch_size=16, lr=1e-2
        )
        reached[name] = (1 / own_ranks(pair.pictures(pictures[test]), pair.texts(texts[test]))).mean()
    assert reached["right"] > 0.35 > reached["shuffled"]


def test_equal_seeds_give_equal_vectors_and_leave_the_global_generator_alone():
    pictures, texts = toy_pairs(20)
    state = torch.get_rng_state()
    made = [Pair(10, 8, 4, seed=s).fit(pictures, [texts, texts], epochs=2, batch_size=8) for s in (0, 0, 1)]
    assert torch.equal(state, torch.get_rng_state())
    vectors = [pair.pictures(pictures) for pair in made]
    assert np.array_equal(vectors[0], vectors[1]) and not np.allclose(vectors[0], vectors[2])
    assert np.allclose(np.linalg.norm(vectors[0], axis=1), 1)
    assert np.allclose(np.linalg.norm(made[0].texts(texts), axis=1), 1)


def test_encoder_takes_any_size_and_fit_wants_one_text_a_picture():
    encoder = PictureEncoder(12, width=4).eval()
    assert encoder(torch.rand(2, 3, 33, 20)).shape == (2, 12)
    pictures, texts = toy_pairs(8)
    for given in ((pictures, [texts[:5]]), (pictures[:1], [texts[:1]])):
        with pytest.raises(ValueError, match="one text a picture"):
            Pair(10).fit(*given)
