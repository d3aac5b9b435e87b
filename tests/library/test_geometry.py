import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_similarity

from recsys_lib import geometry

finite = st.floats(-1e3, 1e3, allow_subnormal=False)
matrices = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=8), elements=finite
)


@pytest.fixture
def vectors():
    """40 vectors of 6 dimensions around a common direction: a cone."""
    return np.random.default_rng(0).normal(size=(40, 6)) * [3, 2, 1, 1, 0.5, 0.1] + [5, 0, 0, 0, 0, 1]


def test_cosine_by_hand_and_against_scikit_learn(vectors):
    assert geometry.cosine([[3, 4]], [[4, 3], [-3, -4], [0, 0]]) == pytest.approx(
        np.array([[0.96, -1.0, 0.0]])
    )
    assert geometry.cosine([1, 0], [1, 1]) == pytest.approx(np.array([[np.sqrt(0.5)]]))
    other = vectors[:7] + 1
    assert geometry.cosine(vectors, other) == pytest.approx(cosine_similarity(vectors, other))


@given(matrices)
def test_cosine_bounds_symmetry_and_scale(x):
    similarity = geometry.cosine(x, x)
    assert np.all(np.abs(similarity) <= 1)
    assert similarity == pytest.approx(similarity.T)
    assert geometry.cosine(x * 7.5, x) == pytest.approx(similarity, abs=1e-9)
    diagonal = np.where(np.any(x != 0, axis=1), 1.0, 0.0)
    assert np.diag(similarity) == pytest.approx(diagonal)


@given(matrices)
def test_normalize_gives_length_one_or_zero(x):
    unit = geometry.normalize(x)
    assert np.linalg.norm(unit, axis=1) == pytest.approx(np.any(x != 0, axis=1).astype(float))
    assert unit * np.linalg.norm(x, axis=1, keepdims=True) == pytest.approx(x)  # the direction stays


def test_normalize_survives_very_large_and_very_small_vectors():
    unit = geometry.normalize([[1e200, 1e200], [3e-200, 4e-200]])
    assert unit == pytest.approx(np.array([[np.sqrt(0.5), np.sqrt(0.5)], [0.6, 0.8]]))


def test_center_uses_the_reference(vectors):
    assert geometry.center(vectors).mean(axis=0) == pytest.approx(np.zeros(6))
    assert geometry.center(vectors[:3], vectors) == pytest.approx(vectors[:3] - vectors.mean(axis=0))


def test_whiten_against_scikit_learn(vectors):
    for dimensions in (None, 3):
        ours = geometry.whiten(vectors, dimensions=dimensions)
        theirs = PCA(dimensions, whiten=True, svd_solver="full").fit_transform(vectors)
        assert np.abs(ours) == pytest.approx(np.abs(theirs))
    assert np.cov(geometry.whiten(vectors), rowvar=False) == pytest.approx(np.eye(6), abs=1e-9)
    new = vectors[:5] + 0.5
    expected = PCA(whiten=True, svd_solver="full").fit(vectors).transform(new)
    assert np.abs(geometry.whiten(new, vectors)) == pytest.approx(np.abs(expected))


def test_whiten_shrinks_the_covariance_towards_a_multiple_of_the_identity(vectors):
    covariance = np.cov(vectors, rowvar=False)
    for shrinkage in (0.0, 0.25, 1.0):
        shrunk = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / 6 * np.eye(6)
        white = geometry.whiten(vectors, shrinkage=shrinkage)
        centred = vectors - vectors.mean(axis=0)
        # distances after whitening are Mahalanobis distances under the shrunk covariance
        expected = centred @ np.linalg.inv(shrunk) @ centred.T
        assert white @ white.T == pytest.approx(expected)
    plain = centred @ centred.T / (np.trace(covariance) / 6)
    assert white @ white.T == pytest.approx(plain)  # full shrinkage only centres, rotates and rescales


def test_whiten_leaves_out_axes_without_variance_and_says_so():
    few = np.random.default_rng(1).normal(size=(4, 10))  # 4 vectors span 3 axes
    assert geometry.whiten(few).shape == (4, 3)
    with pytest.raises(ValueError, match=r"dimensions must lie in 1\.\.3"):
        geometry.whiten(few, dimensions=4)
    with pytest.raises(ValueError, match="dimensions"):
        geometry.whiten(np.ones((5, 3)))
    with pytest.raises(ValueError, match="dimensions"):
        geometry.whiten(few, dimensions=-1)


def test_whiten_is_the_same_for_mirrored_axes(vectors):
    assert geometry.whiten(vectors[::-1])[::-1] == pytest.approx(geometry.whiten(vectors))


def test_mean_cosine_against_all_pairs(vectors):
    similarity = cosine_similarity(vectors)
    pairs = similarity[~np.eye(40, dtype=bool)]
    assert geometry.mean_cosine(vectors) == pytest.approx(pairs.mean())
    assert geometry.mean_cosine(vectors) > 0.5  # the cone
    assert abs(geometry.mean_cosine(geometry.center(vectors))) < 0.1
    assert geometry.mean_cosine(np.eye(3)) == pytest.approx(0.0)
    assert geometry.mean_cosine([[1.0, 2.0], [2.0, 4.0]]) == pytest.approx(1.0)


def test_isotropy_is_the_participation_ratio(vectors):
    assert geometry.isotropy(np.eye(4)) == pytest.approx(1.0)
    assert geometry.isotropy([[1, 2, 0], [-2, -4, 0]]) == pytest.approx(1 / 3)
    assert geometry.isotropy(vectors) == pytest.approx(1 / (6 * np.mean(cosine_similarity(vectors) ** 2)))
    assert geometry.isotropy(vectors) < geometry.isotropy(geometry.whiten(vectors))
    assert np.isnan(geometry.isotropy(np.zeros((3, 2))))


@given(matrices.filter(lambda x: np.any(x)))
def test_isotropy_bounds(x):
    assert 1 / x.shape[1] - 1e-9 <= geometry.isotropy(x) <= min(1.0, len(x) / x.shape[1]) + 1e-9


def test_alignment_and_uniformity_against_loops(vectors):
    x, y = vectors[:20], vectors[20:]
    unit = [v / np.linalg.norm(v) for v in x]
    partner = [v / np.linalg.norm(v) for v in y]
    expected = np.mean([np.sum((a - b) ** 2) for a, b in zip(unit, partner, strict=True)])
    assert geometry.alignment(x, y) == pytest.approx(expected)
    assert geometry.alignment(x, x) == pytest.approx(0.0)
    assert geometry.alignment([[1.0, 0.0]], [[-2.0, 0.0]]) == pytest.approx(4.0)
    for t in (1.0, 2.0):
        energy = [np.exp(-t * np.sum((a - b) ** 2)) for i, a in enumerate(unit) for b in unit[:i]]
        assert geometry.uniformity(x, t) == pytest.approx(np.log(np.mean(energy)))
    assert geometry.uniformity(np.ones((3, 2))) == pytest.approx(0.0)


@settings(deadline=None)
@given(matrices)
def test_uniformity_bounds(x):
    assert -8 - 1e-9 <= geometry.uniformity(x) <= 1e-9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: geometry.cosine([[1, 2]], [[1, 2, 3]]), "dimensions"),
        (lambda: geometry.cosine([[1, np.nan]], [[1, 2]]), r"rows \[0\]"),
        (lambda: geometry.normalize(np.zeros((2, 2, 2))), "row vectors"),
        (lambda: geometry.normalize([[]]), "row vectors"),
        (lambda: geometry.center([[1, 2]], [[1, 2, 3]]), "dimensions"),
        (lambda: geometry.whiten(np.eye(3), shrinkage=1.1), "shrinkage"),
        (lambda: geometry.whiten([[1, 2]]), "at least 2"),
        (lambda: geometry.mean_cosine([[1, 2]]), "at least 2"),
        (lambda: geometry.uniformity([[1, 2]]), "at least 2"),
        (lambda: geometry.alignment([[1, 2]], [[1, 2], [3, 4]]), "same shape"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_side_by_side_adds_the_centred_cosines():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(7, 3)) + 2, rng.normal(size=(7, 5))
    joined = geometry.side_by_side([a, b], [1.0, 0.5])
    expected = geometry.cosine(geometry.center(a), geometry.center(a))
    expected += 0.5 * geometry.cosine(geometry.center(b), geometry.center(b))
    assert joined @ joined.T == pytest.approx(expected)
    for blocks, weights in (([], None), ([a, b], [1.0]), ([a], [-1.0])):
        with pytest.raises(ValueError, match="one weight"):
            geometry.side_by_side(blocks, weights)
