"""What would another system have earned? Estimates from a log of what was shown, with which probability.

Each logged row is weighted by how much likelier the new system would have shown it (inverse propensity
weighting). With true probabilities, none of them zero where the new system's is not, the plain estimate is right on
average [openbandit]; the effective sample size says how many rows carry it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]


def _vector(values: ArrayLike, name: str) -> Vector:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or len(vector) == 0:
        raise ValueError(f"{name} must be one number a row, not of shape {vector.shape}")
    _refuse(~np.isfinite(vector), f"{name} must be finite")
    return vector


def _refuse(bad: NDArray[np.bool_], message: str) -> None:
    if bad.any():
        rows = np.flatnonzero(bad)
        more = " …" if len(rows) > 5 else ""
        raise ValueError(f"{message}; {len(rows)} rows are not: {', '.join(map(str, rows[:5]))}{more}")


def _rewards_and_weights(rewards: ArrayLike, weights: ArrayLike) -> tuple[Vector, Vector]:
    reward, weight = _vector(rewards, "rewards"), _vector(weights, "weights")
    if len(reward) != len(weight):
        raise ValueError(f"{len(reward)} rewards but {len(weight)} weights")
    _refuse(weight < 0, "weights must not be negative")
    return reward, weight


def importance_weights(target: ArrayLike, logged: ArrayLike) -> Vector:
    """Probability of what was shown under the new system over that under the old one.

    Parameters
    ----------
    target, logged
        (n,) probabilities of the n rows' items: in [0, 1] and in (0, 1]. ``target`` may be one number for all.

    Returns
    -------
    (n,) weights. Their mean is about 1 if both are true and the old system shows all that the new one does.

    Raises
    ------
    ValueError
        Naming the rows whose probabilities are out of range.
    """
    old = _vector(logged, "logged probabilities")
    new = _vector(np.full(len(old), target) if np.ndim(target) == 0 else target, "target probabilities")
    if len(new) != len(old):
        raise ValueError(f"{len(new)} target probabilities but {len(old)} logged ones")
    _refuse((old <= 0) | (old > 1), "logged probabilities must lie above 0, up to 1")
    _refuse((new < 0) | (new > 1), "target probabilities must lie between 0 and 1")
    return new / old


def ips(rewards: ArrayLike, weights: ArrayLike) -> float:
    """Mean of weight times reward over the n rows, in units of the reward: unbiased, at times far off.

    Raises ValueError, naming the rows, for weights that are negative or numbers that are not finite.
    """
    reward, weight = _rewards_and_weights(rewards, weights)
    return float(weight @ reward / len(reward))


def self_normalised(rewards: ArrayLike, weights: ArrayLike) -> float:
    """Weighted mean of the rewards: never outside their range, biased by a little that falls with n.

    Raises ValueError as `ips` does, and if no weight is above zero.
    """
    reward, weight = _rewards_and_weights(rewards, weights)
    if weight.sum() == 0:
        raise ValueError("no weight is above zero: the log shows nothing that the new system would show")
    return float(weight @ reward / weight.sum())


def clipped(rewards: ArrayLike, weights: ArrayLike, at: float) -> float:
    """`ips` with every weight above ``at`` (> 0) replaced by it: steadier, and too low for rewards that are >= 0."""
    reward, weight = _rewards_and_weights(rewards, weights)
    if not at > 0:
        raise ValueError(f"weights are clipped at a number above 0, not {at}")
    return float(np.minimum(weight, at) @ reward / len(reward))


def effective_sample_size(weights: ArrayLike) -> float:
    """(sum of weights)² / sum of squares, from 1 to n: as many equal weights would vary as much.

    Raises ValueError for weights that are negative (naming the rows) or all zero.
    """
    weight = _rewards_and_weights(weights, weights)[1]
    if weight.sum() == 0:
        raise ValueError("no weight is above zero")
    weight = weight / weight.max()
    return float(weight.sum() ** 2 / (weight @ weight))


def bootstrap(
    estimate: Callable[[Vector, Vector], float],
    rewards: ArrayLike,
    weights: ArrayLike,
    *,
    draws: int = 1000,
    seed: int = 0,
) -> Vector:
    """Estimate anew from ``draws`` logs, each of n rows drawn with replacement: (draws,) estimates.

    Their quantiles give an interval, of the rows that are there: it cannot know of a weight that the log missed.
    """
    reward, weight = _rewards_and_weights(rewards, weights)
    if draws < 1:
        raise ValueError(f"at least one draw is needed, not {draws}")
    rng = np.random.default_rng(seed)
    n = len(reward)
    picks = (rng.integers(n, size=n) for _ in range(draws))
    return np.array([estimate(reward[pick], weight[pick]) for pick in picks])
