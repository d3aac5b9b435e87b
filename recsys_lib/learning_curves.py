"""How results grow with data: where two curves cross, what a curve promises beyond its end, and data made worse on purpose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from recsys_lib.datasets.interactions import Interactions

RATES = np.geomspace(0.02, 3.0, 400)


def _curves(sizes: ArrayLike, *curves: ArrayLike) -> list[NDArray[np.float64]]:
    x = np.asarray(sizes, dtype=np.float64)
    if x.ndim != 1 or len(x) < 2 or not (x > 0).all() or not (np.diff(x) > 0).all():
        raise ValueError("sizes must be at least two positive numbers, smallest first")
    arrays = [x, *(np.asarray(curve, dtype=np.float64) for curve in curves)]
    if any(len(curve) != len(x) for curve in arrays):
        raise ValueError(f"every curve needs {len(x)} points, one for each size")
    if not all(np.isfinite(curve).all() for curve in arrays):
        raise ValueError("curves hold NaN or infinite values")
    return arrays


def mean_interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float, float]:
    """Mean of values (draws, users) with an interval for which draws and users are both samples.

    The variances of the two means add up; the t distribution has Welch and Satterthwaite's degrees of freedom, so few
    draws that differ much make a wide interval. NaN, a user without a value in a draw, is left out.

    Returns
    -------
    (mean, low, high)

    Raises
    ------
    ValueError
        If the shape is another, no value is known, or the level is not in (0, 1).
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or not 0 < level < 1 or np.isnan(table).all():
        raise ValueError(
            f"values must have shape (draws, users), the level lie in (0, 1); got {table.shape}, {level}"
        )
    table = table[:, ~np.isnan(table).all(axis=0)]
    means = [each for each in (np.nanmean(table, axis=0), np.nanmean(table, axis=1)) if len(each) > 1]
    parts = np.array([[each.var(ddof=1) / len(each), len(each) - 1] for each in means]).reshape(-1, 2)
    center, total = float(np.nanmean(table)), float(parts[:, 0].sum())
    if total == 0:
        return center, center, center
    freedom = total**2 / (parts[:, 0] ** 2 / parts[:, 1]).sum()
    half = float(student.ppf((1 + level) / 2, freedom)) * math.sqrt(total)
    return center, center - half, center + half


def crossing(sizes: ArrayLike, rising: ArrayLike, rival: ArrayLike) -> float:
    """Size from which the rising curve stays above its rival, between points along a line in log size.

    Parameters
    ----------
    sizes : array (n,), > 0, smallest first
    rising, rival : arrays (n,)

    Returns
    -------
    float
        0 if the rising curve is above at every size, infinity if it is not above at the largest.

    Raises
    ------
    ValueError
        If the sizes do not rise, the lengths differ or a value is not finite; also in `fit_power_law`.
    """
    x, a, b = _curves(sizes, rising, rival)
    gap = a - b
    below = np.flatnonzero(gap <= 0)
    if not len(below):
        return 0.0
    last = below[-1]
    if last == len(x) - 1:
        return math.inf
    share = -gap[last] / (gap[last + 1] - gap[last])
    return float(np.exp(np.log(x[last]) + share * np.log(x[last + 1] / x[last])))


def crossing_interval(
    sizes: ArrayLike,
    rising: ArrayLike,
    rival: ArrayLike,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Bootstrap interval of the crossing: draws of the data and users are both drawn again, each on its own.

    Parameters
    ----------
    sizes : array (n,)
    rising, rival : arrays (n, draws, users)
        Each user's value at each size; NaN where a user has none in a draw.

    Returns
    -------
    (low, high), where 0 and infinity mean beyond the first and the last size

    Raises
    ------
    ValueError
        If the shapes do not fit, there are no resamples, or the level is not in (0, 1).
    """
    x = np.asarray(sizes, dtype=np.float64)
    a, b = np.asarray(rising, dtype=np.float64), np.asarray(rival, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 3 or len(a) != len(x):
        raise ValueError(f"curves must have one shape (sizes, draws, users), got {a.shape} and {b.shape}")
    if resamples < 1 or not 0 < level < 1:
        raise ValueError("resamples >= 1 and a level between 0 and 1 are needed")
    rng = np.random.default_rng(seed)
    draws, users = a.shape[1:]
    known = np.isfinite(a[0]) & np.isfinite(b[0])
    gap = np.where(known, a - b, 0.0)
    found = np.empty(resamples)
    for n in range(resamples):
        weight = np.outer(
            rng.multinomial(draws, np.full(draws, 1 / draws)),
            rng.multinomial(users, np.full(users, 1 / users)),
        )
        mean = np.tensordot(gap, weight, 2) / max((weight * known).sum(), 1)
        found[n] = crossing(x, mean, np.zeros(len(x)))
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2], method="nearest")
    return float(low), float(high)


@dataclass(frozen=True)
class PowerLaw:
    """A curve that saturates: top - gap * size ** -rate."""

    top: float
    gap: float
    rate: float

    def predict(self, sizes: ArrayLike) -> NDArray[np.float64]:
        """Values at the sizes."""
        return np.asarray(self.top - self.gap * np.asarray(sizes, dtype=np.float64) ** -self.rate)


def fit_power_law(sizes: ArrayLike, values: ArrayLike) -> PowerLaw:
    """Least-squares power law: for each rate of a grid from 0.02 to 3, top and gap are a straight line's.

    Three numbers fitted to a handful of points promise little: hold the largest size out and look at what the law
    says of it. A rate at the grid's low end means that no saturation shows in the data.
    """
    x, y = _curves(sizes, values)
    if len(x) < 4:
        raise ValueError(f"three numbers cannot be fitted to {len(x)} points: at least 4 are needed")
    best, law = math.inf, PowerLaw(0.0, 0.0, 1.0)
    for rate in RATES:
        columns = np.column_stack([np.ones(len(x)), -(x**-rate)])
        solution = np.linalg.lstsq(columns, y, rcond=None)[0]
        error = float(((columns @ solution - y) ** 2).sum())
        if error < best:
            best, law = error, PowerLaw(float(solution[0]), float(solution[1]), float(rate))
    return law


def keep_interactions(rows: Interactions, share: float, seed: int = 0) -> Interactions:
    """A random ``share`` of the rows, in [0, 1]: the missing clicks. With one seed, smaller shares lie inside larger ones."""
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], got {share}")
    mask = np.zeros(len(rows), dtype=bool)
    mask[np.random.default_rng(seed).permutation(len(rows))[: round(share * len(rows))]] = True
    return rows.select(mask)


def add_interactions(rows: Interactions, share: float, seed: int = 0) -> Interactions:
    """Add ``share`` times as many random rows as there are: clicks that mean nothing.

    Every pair of a user who has rows and an item that the user has not met is as likely as any other. An added row
    bears the time of one of the user's own, where there are times; ratings and other columns are dropped. ValueError if
    ``share`` is negative or there are not so many free pairs.
    """
    if share < 0:
        raise ValueError(f"share must not be negative, got {share}")
    rng = np.random.default_rng(seed)
    users = np.unique(rows.users)
    taken = rows.users * rows.n_items + rows.items
    free = np.setdiff1d((users[:, None] * rows.n_items + np.arange(rows.n_items)).ravel(), taken)
    count = round(share * len(rows))
    if count > len(free):
        raise ValueError(f"{count} random rows asked for, but only {len(free)} pairs are free")
    pairs = rng.choice(free, count, replace=False)
    columns = [column for column in ("user", "item", "timestamp") if column in rows.frame.columns]
    old = rows.frame[columns]
    new = pd.DataFrame({"user": pairs // rows.n_items, "item": pairs % rows.n_items})
    if "timestamp" in columns:
        starts = np.searchsorted(rows.users, new["user"])
        counts = np.bincount(rows.users, minlength=rows.n_users)[new["user"]]
        new["timestamp"] = rows.timestamps[starts + rng.integers(0, counts)] if count else rows.timestamps[:0]
    return Interactions(pd.concat([old, new], ignore_index=True), rows.n_users, rows.n_items)


def drop_words(texts: Sequence[str], share: float, seed: int = 0) -> list[str]:
    """Texts without a random ``share`` of their words, in [0, 1); at least one word is left, the order stays."""
    if not 0 <= share < 1:
        raise ValueError(f"share must lie in [0, 1), got {share}")
    rng = np.random.default_rng(seed)
    left = []
    for text in texts:
        words = text.split()
        keep = rng.permutation(len(words))[: max(1, round((1 - share) * len(words)))]
        left.append(" ".join(words[place] for place in np.sort(keep)))
    return left


def shuffle_words(texts: Sequence[str], seed: int = 0) -> list[str]:
    """Texts with their words in a random order."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.permutation(np.array(text.split(), dtype=object))) for text in texts]


def mixed_rows(n: int, share: float, seed: int = 0) -> NDArray[np.int64]:
    """Where each of n rows is read from when a random ``share`` of them, in [0, 1], pass their place on in a ring.

    ``vectors[mixed_rows(n, share)]`` gives that share of the items another's vector, none its own.
    """
    if n < 1 or not 0 <= share <= 1:
        raise ValueError(f"n >= 1 and a share in [0, 1] are needed, got {n} and {share}")
    places = np.arange(n)
    wrong = np.random.default_rng(seed).permutation(n)[: round(share * n)]
    if len(wrong) > 1:
        places[wrong] = np.roll(wrong, 1)
    return places
