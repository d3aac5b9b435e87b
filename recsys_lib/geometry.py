"""Geometry of embedding vectors: cosine, centring, whitening and how spread out the vectors are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def _rows(x: ArrayLike, name: str = "x") -> NDArray[np.float64]:
    """Return ``x`` as a float64 matrix of row vectors, or raise ValueError."""
    rows = np.atleast_2d(np.asarray(x, dtype=np.float64))
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ValueError(f"{name} must hold row vectors, shape (n, d); its shape is {rows.shape}")
    if not np.isfinite(rows).all():
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))[:5].tolist()
        raise ValueError(f"{name} holds NaN or infinite values in rows {bad}")
    return rows


def _pairs(rows: NDArray[np.float64]) -> int:
    """Return the number of ordered pairs of different rows; at least two rows are needed."""
    if len(rows) < 2:
        raise ValueError(f"at least 2 vectors are needed to compare pairs, got {len(rows)}")
    return len(rows) * (len(rows) - 1)


def normalize(x: ArrayLike) -> NDArray[np.float64]:
    """Scale each row to length 1; a zero row stays zero.

    Parameters
    ----------
    x : array (n, d)

    Returns
    -------
    array (n, d), float64
    """
    rows = _rows(x)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    rows = rows / np.where(largest > 0, largest, 1.0)  # so that squares neither overflow nor vanish
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1.0)


def side_by_side(blocks: Sequence[ArrayLike], weights: Sequence[float] | None = None) -> NDArray[np.float64]:
    """Several vectors of each item as one: each centred, scaled to length sqrt(weight), one behind the other.

    The inner product of two such rows is the weighted sum of the blocks' centred cosines.

    Parameters
    ----------
    blocks : sequence of arrays (n, d_b)
    weights : sequence of floats, >= 0, optional
        1 for each block by default.

    Returns
    -------
    array (n, sum of d_b), float64
    """
    shares = [1.0] * len(blocks) if weights is None else list(weights)
    if not len(blocks) or len(shares) != len(blocks) or min(shares) < 0:
        raise ValueError(f"one weight >= 0 a block, please: {len(blocks)} blocks, weights {shares}")
    parts = [share**0.5 * normalize(center(block)) for block, share in zip(blocks, shares, strict=True)]
    return np.hstack(parts)


def cosine(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Cosine of the angle between each row of ``a`` and each row of ``b``.

    Parameters
    ----------
    a : array (n, d)
    b : array (m, d)

    Returns
    -------
    array (n, m) in [-1, 1]; a zero vector has cosine 0 with everything.

    Raises
    ------
    ValueError
        If the dimensions differ or a value is NaN or infinite.
    """
    left, right = normalize(_rows(a, "a")), normalize(_rows(b, "b"))
    if left.shape[1] != right.shape[1]:
        raise ValueError(f"a has {left.shape[1]} dimensions and b has {right.shape[1]}")
    return np.clip(left @ right.T, -1.0, 1.0)


def center(x: ArrayLike, reference: ArrayLike | None = None) -> NDArray[np.float64]:
    """Subtract the mean of ``reference`` (of ``x`` itself by default) from each row.

    Parameters
    ----------
    x : array (n, d)
    reference : array (m, d), optional
        The catalogue whose mean is taken.

    Returns
    -------
    array (n, d)
    """
    rows = _rows(x)
    base = rows if reference is None else _rows(reference, "reference")
    if base.shape[1] != rows.shape[1]:
        raise ValueError(f"x has {rows.shape[1]} dimensions and reference has {base.shape[1]}")
    return rows - base.mean(axis=0)


def whiten(
    x: ArrayLike,
    reference: ArrayLike | None = None,
    *,
    shrinkage: float = 0.0,
    dimensions: int | None = None,
) -> NDArray[np.float64]:
    """Centre, rotate to the principal axes and scale each axis to variance 1 [bertwhitening].

    The covariance C of ``reference`` (m - 1 in the denominator) is first shrunk towards a multiple of the
    identity, (1 - shrinkage) C + shrinkage (trace C / d) I, so that directions seen in few vectors are not
    blown up. Axes come by falling variance; those without variance are left out.

    Parameters
    ----------
    x : array (n, d)
    reference : array (m, d), optional
        The vectors whose mean and covariance are used (``x`` by default), m >= 2.
    shrinkage : float in [0, 1]
        0 is plain whitening, 1 only centres, rotates and rescales.
    dimensions : int, optional
        Keep the first axes only.

    Returns
    -------
    array (n, k), k = ``dimensions`` or the number of axes that vary.

    Raises
    ------
    ValueError
        If ``shrinkage`` is outside [0, 1] or more axes are asked for than vary.
    """
    if not 0.0 <= shrinkage <= 1.0:
        raise ValueError(f"shrinkage must lie in [0, 1], got {shrinkage}")
    rows = _rows(x)
    base = rows if reference is None else _rows(reference, "reference")
    centred = center(rows, base)
    _pairs(base)
    covariance = np.atleast_2d(np.cov(base, rowvar=False))
    d = len(covariance)
    covariance = (1 - shrinkage) * covariance + shrinkage * np.trace(covariance) / d * np.eye(d)
    variance, axes = np.linalg.eigh(covariance)
    variance, axes = variance[::-1], axes[:, ::-1]
    varying = int((variance > variance[0] * d * np.finfo(float).eps).sum())
    if varying == 0 or not 1 <= (dimensions or varying) <= varying:
        raise ValueError(f"dimensions must lie in 1..{varying}, the axes that vary; got {dimensions}")
    keep = slice(dimensions or varying)
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(d)])  # one sign, whatever LAPACK chose
    return centred @ axes[:, keep] / np.sqrt(variance[keep])


def mean_cosine(x: ArrayLike) -> float:
    """Mean cosine over all pairs of different rows: anisotropy, the width of the cone [ethayarajh].

    Parameters
    ----------
    x : array (n, d), n >= 2

    Returns
    -------
    float in [-1/(n-1), 1]; 0 for directions spread evenly, 1 if all point the same way.
    """
    unit = normalize(x)
    pairs = _pairs(unit)
    return float((np.sum(unit.sum(axis=0) ** 2) - np.sum(unit**2)) / pairs)


def isotropy(x: ArrayLike) -> float:
    """Share of the dimensions that the directions fill: participation ratio / d.

    With M the second moment matrix of the normalised rows (not centred, so a common direction counts),
    (trace M)^2 / (d trace M^2), which is 1 / (d x mean squared cosine over all ordered pairs, a row with
    itself included).

    Parameters
    ----------
    x : array (n, d)

    Returns
    -------
    float in (0, 1]; 1 if all directions are used alike, 1/d if all vectors lie on one line; NaN if all are
    zero. With n < d vectors it cannot exceed n/d.
    """
    unit = normalize(x)
    moment = unit.T @ unit
    total = np.trace(moment)
    return float(total**2 / (len(moment) * np.sum(moment**2))) if total > 0 else float("nan")


def alignment(x: ArrayLike, y: ArrayLike) -> float:
    """Mean squared distance between matching rows, both normalised [alignuniform]; lower is closer.

    Parameters
    ----------
    x, y : arrays (n, d)
        Row i of ``x`` and row i of ``y`` are a positive pair.

    Returns
    -------
    float in [0, 4]
    """
    a, b = normalize(_rows(x, "x")), normalize(_rows(y, "y"))
    if a.shape != b.shape:
        raise ValueError(f"x and y must have the same shape, got {a.shape} and {b.shape}")
    return float(np.mean(np.sum((a - b) ** 2, axis=1)))


def uniformity(x: ArrayLike, t: float = 2.0) -> float:
    """Log of the mean of exp(-t |x_i - x_j|^2) over pairs of different normalised rows [alignuniform].

    Parameters
    ----------
    x : array (n, d), n >= 2
    t : float, > 0

    Returns
    -------
    float in [-4t, 0]; lower means more evenly spread over the sphere, 0 means one point.
    """
    unit = normalize(x)
    _pairs(unit)
    i, j = np.triu_indices(len(unit), k=1)
    length = np.sum(unit**2, axis=1)
    squared = np.maximum(length[i] + length[j] - 2 * (unit @ unit.T)[i, j], 0.0)
    return float(np.log(np.mean(np.exp(-t * squared))))
