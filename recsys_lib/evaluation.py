"""Full-ranking evaluation, with intervals and paired tests over users.

Every item is ranked (or every candidate), never a sample of negatives, which can reorder models [sampled].
Items that the user has already met are left out of the ranking. Ties: items with equal scores are put in a
random order, drawn for each user from a seed, so that a constant score ranks like a random model and neither
item codes nor the held-out item gain from a tie.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from recsys_lib import metrics
from recsys_lib.geometry import normalize

if TYPE_CHECKING:
    from recsys_lib.datasets import Interactions
    from recsys_lib.models.base import Recommender

METRICS = ("hit", "ndcg", "mrr", "recall")
CHUNK = 2**22  # entries of a temporary array, so that memory stays bounded


@dataclass(frozen=True)
class Result:
    """What one model reached: one row of metrics a user.

    Attributes
    ----------
    name : str
    k : int
        Length of the list.
    per_user : DataFrame
        Index: user codes. Columns hit, ndcg, mrr, recall, all at ``k`` and in [0, 1].
    ranks : DataFrame
        Columns user, item, rank: the place of every held-out item, 1 = best.
    """

    name: str
    k: int
    per_user: pd.DataFrame = field(repr=False)
    ranks: pd.DataFrame = field(repr=False)

    @property
    def users(self) -> NDArray[np.int64]:
        """Codes of the users who were evaluated."""
        return self.per_user.index.to_numpy()

    def mean(self, metric: str = "ndcg") -> float:
        """Mean of a metric over users."""
        return float(_column(self, metric).mean())

    def interval(self, metric: str = "ndcg", level: float = 0.95, seed: int = 0) -> tuple[float, float]:
        """Percentile bootstrap interval of the mean over users (2,000 resamples)."""
        return _interval(_bootstrap(_column(self, metric).to_numpy()[:, None], 2000, seed), level)

    def __repr__(self) -> str:
        low, high = self.interval()
        ndcg = f"NDCG@{self.k} = {self.mean():.4f} [{low:.4f}, {high:.4f}]"
        return f"{self.name}: {ndcg}, HR@{self.k} = {self.mean('hit'):.4f}, {len(self.per_user)} users"


@dataclass(frozen=True)
class Comparison:
    """Difference of two models over the same users: mean of a - b, its 95% interval, two-sided p-value."""

    difference: float
    low: float
    high: float
    p_value: float

    def __str__(self) -> str:
        p = "p < 0.001" if self.p_value < 0.001 else f"p = {self.p_value:.3f}"
        return f"{self.difference:+.4f} [{self.low:+.4f}, {self.high:+.4f}], {p}"


def evaluate(
    model: Recommender,
    test: Interactions,
    *,
    seen: Interactions | None,
    candidates: ArrayLike | None = None,
    k: int = 10,
    name: str = "",
    block: int = 1024,
    tie_seed: int = 0,
) -> Result:
    """Rank all items for each user with held-out items, and measure where those items stand.

    Parameters
    ----------
    model : object with ``score(users) -> (len(users), n_items)``
    test : Interactions
        Held-out interactions; users without any are skipped.
    seen : Interactions or None
        Left out of each user's ranking: usually what the model was fitted on.
    candidates : item codes, optional
        Rank these items only, all items by default.
    k : int
        Length of the list.
    name : str
        Name of the row in a report; the model's class by default.
    block : int
        Users scored at a time.
    tie_seed : int
        Seed of the order of items with equal scores.

    Returns
    -------
    Result

    Raises
    ------
    ValueError
        If ``test`` is empty, a held-out item was seen before or is no candidate, or scores are NaN or of the
        wrong shape.
    """
    if len(test) == 0:
        raise ValueError("the test part is empty: there is nothing to evaluate")
    if k < 1 or block < 1:
        raise ValueError(f"k and block must be at least 1, got {k} and {block}")
    name = name or type(model).__name__
    held_out = test.matrix()
    known = None if seen is None else seen.matrix()
    if known is not None and known.shape != held_out.shape:
        raise ValueError(f"seen covers (users, items) = {known.shape}, but test covers {held_out.shape}")
    allowed = _allowed(candidates, test.n_items)
    users = np.flatnonzero(held_out.getnnz(axis=1))
    parts = []
    for start in range(0, len(users), block):
        some = users[start : start + block]
        scores = _scores(model, some, test.n_items, name)
        ranked = np.tile(allowed, (len(some), 1))
        if known is not None:
            row, item = known[some].nonzero()
            ranked[row, item] = False
        row, item = held_out[some].nonzero()
        _check_targets(ranked, some, row, item)
        rank = _ranks(scores, ranked, some, row, item, tie_seed)
        parts.append(pd.DataFrame({"user": some[row], "item": item.astype(np.int64), "rank": rank}))
    ranks = pd.concat(parts, ignore_index=True)
    return Result(name, k, _per_user(ranks, k), ranks)


def recommend(
    model: Recommender,
    users: ArrayLike,
    *,
    seen: Interactions | None,
    candidates: ArrayLike | None = None,
    k: int = 10,
    tie_seed: int = 0,
) -> NDArray[np.int64]:
    """Item codes of each user's list, best first, by the same rules as ``evaluate``.

    Returns
    -------
    int array (len(users), k)

    Raises
    ------
    ValueError
        If fewer than ``k`` items are left for a user.
    """
    codes = np.atleast_1d(np.asarray(users, dtype=np.int64))
    scores = np.asarray(model.score(codes))
    scores = _scores(model, codes, scores.shape[1], type(model).__name__, scores)
    ranked = np.tile(_allowed(candidates, scores.shape[1]), (len(codes), 1))
    if seen is not None:
        row, item = seen.matrix()[codes].nonzero()
        ranked[row, item] = False
    short = codes[ranked.sum(axis=1) < k]
    if len(short):
        raise ValueError(f"fewer than k = {k} items are left to recommend to users {short[:5].tolist()}")
    lists = np.empty((len(codes), k), dtype=np.int64)
    for place, user in enumerate(codes):
        items = np.flatnonzero(ranked[place])
        keys = _tie_keys(tie_seed, user, scores.shape[1])[items]
        lists[place] = items[np.lexsort((keys, -scores[place, items]))[:k]]
    return lists


def mmr(scores: ArrayLike, item_vectors: ArrayLike, k: int = 10, balance: float = 0.7) -> NDArray[np.int64]:
    """Maximal marginal relevance: choose items one by one, good ones that are unlike those chosen [mmr].

    The next item has the largest balance x score - (1 - balance) x (its largest cosine to an item chosen
    before); the first is the one of the largest score.

    Parameters
    ----------
    scores : array (n_users, m)
        On a scale comparable with cosines, such as [0, 1]; -inf marks items that may not be chosen.
    item_vectors : array (m, d), or (n_users, m, d) where users choose among different items
    k : int
        Length of the list.
    balance : float in [0, 1]
        1 keeps the order of the scores.

    Returns
    -------
    int array (n_users, k) of columns of ``scores``, in the order of choice; ties go to the first column.

    Raises
    ------
    ValueError
        If shapes do not fit, scores hold NaN or +inf, or a user has fewer than ``k`` items.
    """
    gain = np.asarray(scores, dtype=np.float64)
    unit = np.asarray(item_vectors, dtype=np.float64)
    if gain.ndim != 2 or unit.ndim not in (2, 3) or unit.shape[:-1] != gain.shape[3 - unit.ndim :]:
        raise ValueError(f"scores {gain.shape} and item_vectors {unit.shape} do not fit together")
    if np.isnan(gain).any() or np.isposinf(gain).any():
        raise ValueError("scores may not be NaN or +inf")
    if not 0.0 <= balance <= 1.0:
        raise ValueError(f"balance must lie in [0, 1], got {balance}")
    if k < 1 or (np.isfinite(gain).sum(axis=1) < k).any():
        raise ValueError(f"every user needs at least k = {k} >= 1 items")
    unit = normalize(unit.reshape(-1, unit.shape[-1])).reshape(unit.shape)
    rows = np.arange(len(gain))
    allowed = np.isfinite(gain)
    value = np.where(allowed, gain, 0.0)
    nearest = np.full(gain.shape, -np.inf)  # largest cosine to an item chosen before
    chosen = np.empty((len(gain), k), dtype=np.int64)
    for step in range(k):
        marginal = balance * value - (1 - balance) * nearest if step else value
        chosen[:, step] = best = np.where(allowed, marginal, -np.inf).argmax(axis=1)
        allowed[rows, best] = False
        own = unit.ndim == 3
        cosines = np.einsum("nmd,nd->nm", unit, unit[rows, best]) if own else unit[best] @ unit.T
        nearest = np.maximum(nearest, cosines)
    return chosen


def recommend_diverse(
    model: Recommender,
    users: ArrayLike,
    item_vectors: ArrayLike,
    *,
    seen: Interactions | None,
    candidates: ArrayLike | None = None,
    k: int = 10,
    pool: int = 50,
    balance: float = 0.7,
    tie_seed: int = 0,
) -> NDArray[np.int64]:
    """Diversified lists: the ``pool`` best items of each user, reranked by ``mmr``.

    Scores are scaled so that the best of the pool has 1 and the last 0. ``balance`` = 1 gives what
    ``recommend`` gives.

    Returns
    -------
    int array (len(users), k) of item codes, in the order of choice
    """
    if pool < k:
        raise ValueError(f"the pool must hold at least k = {k} items, got {pool}")
    codes = np.atleast_1d(np.asarray(users, dtype=np.int64))
    best = recommend(model, codes, seen=seen, candidates=candidates, k=pool, tie_seed=tie_seed)
    scores = np.take_along_axis(np.asarray(model.score(codes), dtype=np.float64), best, axis=1)
    span = scores[:, :1] - scores[:, -1:]
    scaled = (scores - scores[:, -1:]) / np.where(span > 0, span, 1.0)
    order = mmr(scaled, np.asarray(item_vectors)[best], k, balance)
    return np.take_along_axis(best, order, axis=1)


def compare(
    a: Result | Sequence[Result], b: Result | Sequence[Result], metric: str = "ndcg", seed: int = 0
) -> Comparison:
    """Paired bootstrap over users of the mean of a - b (4,000 resamples).

    Parameters
    ----------
    a, b : Result, or list of Results over seeds (each user's mean over the seeds is compared)
        Over the same users.
    metric : str
    seed : int

    Returns
    -------
    Comparison
        The p-value is twice the share of resampled differences on the smaller side of 0.

    Raises
    ------
    ValueError
        If the two were not measured on the same users at the same k.
    """
    first, second = _as_list(a), _as_list(b)
    if len({result.k for result in first + second}) > 1:
        raise ValueError("the results must have the same k")
    left = pd.concat([_column(result, metric) for result in first], axis=1)
    right = pd.concat([_column(result, metric) for result in second], axis=1)
    if not left.index.sort_values().equals(right.index.sort_values()) or left.isna().any(axis=None):
        raise ValueError("a paired comparison needs results over the same users")
    if right.isna().any(axis=None):
        raise ValueError("a paired comparison needs results over the same users")
    difference = (left.mean(axis=1) - right.mean(axis=1)).to_numpy()
    means = _bootstrap(difference[:, None], 4000, seed)
    low, high = _interval(means, 0.95)
    tail = 1 + min(np.sum(means <= 0), np.sum(means >= 0))
    return Comparison(float(difference.mean()), low, high, float(min(1.0, 2 * tail / (len(means) + 1))))


def smallest_detectable(
    result: Result, metric: str = "ndcg", *, other: Result | None = None, power: float = 0.8
) -> float:
    """Smallest true difference that a two-sided 5% paired test finds with probability ``power``.

    (z_.975 + z_power) sd / sqrt(n users), with sd that of the per-user differences to ``other``. Without
    ``other`` the sd of the metric itself stands in: the sd of the difference of two models of like spread
    whose per-user values correlate at one half. ``power`` = .5 is the difference that just reaches p = .05.

    Returns
    -------
    float, in units of the metric
    """
    values = _column(result, metric)
    if other is not None:
        rest = _column(other, metric)
        if not values.index.sort_values().equals(rest.index.sort_values()):
            raise ValueError("a paired comparison needs results over the same users")
        values = values - rest
    if len(values) < 2 or not 0 < power < 1:
        raise ValueError("at least 2 users and a power between 0 and 1 are needed")
    normal = NormalDist()
    return float((normal.inv_cdf(0.975) + normal.inv_cdf(power)) * values.std() / math.sqrt(len(values)))


class Report:
    """A table of results under one protocol; notebooks show it as HTML, terminals as text.

    Parameters
    ----------
    protocol : str
        One sentence: split, masking, candidates, seeds. Shown as the caption.
    """

    def __init__(self, protocol: str) -> None:
        self.protocol = protocol
        self.rows: dict[str, list[Result]] = {}

    def add(self, result: Result | Sequence[Result], name: str | None = None) -> None:
        """Add a row: one result, or a list of results over seeds or splits (shown as mean ± sd).

        A row of the same name is replaced, so a notebook cell may run twice.
        """
        results = _as_list(result)
        if len({r.k for rows in [*self.rows.values(), results] for r in rows}) > 1:
            raise ValueError("all rows of a report must have the same k")
        self.rows[name or results[0].name] = results

    def __getitem__(self, name: str) -> Result | list[Result]:
        """Return the result (or the list of results over seeds) of a row."""
        results = self.rows[name]
        return results[0] if len(results) == 1 else results

    def values(self) -> pd.DataFrame:
        """Numbers of the table, unrounded.

        Columns: for each metric its mean over seeds and ``<metric>_sd``; ``low`` and ``high``, the 95%
        bootstrap interval of NDCG over users; ``seeds``. Index: names of the rows.
        """
        rows = {}
        for name, results in self.rows.items():
            row: dict[str, float] = {}
            for metric in METRICS:
                means = [result.mean(metric) for result in results]
                row[metric] = float(np.mean(means))
                row[f"{metric}_sd"] = float(np.std(means, ddof=1)) if len(means) > 1 else math.nan
            columns = pd.concat([_column(result, "ndcg") for result in results], axis=1)
            row["low"], row["high"] = _interval(_bootstrap(columns.to_numpy(), 2000, 0), 0.95)
            row["seeds"] = len(results)
            rows[name] = row
        table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("method 方法")
        return table.astype({"seeds": int}) if rows else table

    def table(self) -> pd.DataFrame:
        """The table as it is shown: text cells, mean ± sd where there are several seeds."""
        if not self.rows:
            return pd.DataFrame(index=pd.Index([], name="method 方法"))
        k = next(iter(self.rows.values()))[0].k
        cells = {}
        for name, row in self.values().iterrows():
            shown = {}
            for metric, title in (("hit", f"HR@{k}"), ("ndcg", f"NDCG@{k}"), ("mrr", f"MRR@{k}")):
                spread = "" if math.isnan(row[f"{metric}_sd"]) else f" ± {row[f'{metric}_sd']:.4f}"
                shown[title] = f"{row[metric]:.4f}{spread}"
                if metric == "ndcg":
                    shown["95% CI 区间"] = f"[{row['low']:.4f}, {row['high']:.4f}]"
            shown["seeds 种子"] = str(int(row["seeds"]))
            cells[name] = shown
        return pd.DataFrame.from_dict(cells, orient="index").rename_axis("method 方法")

    def __repr__(self) -> str:
        table = self.table()
        rows = [[str(table.index.name), *table.columns]]
        rows += [[str(name), *row] for name, row in zip(table.index, table.to_numpy(), strict=True)]
        return "\n".join([self.protocol, *(" | ".join(row) for row in rows)])

    def _repr_html_(self) -> str:
        table = self.table()
        titles = [str(table.index.name), *table.columns]
        heads = "".join(f'<th scope="col">{html.escape(title)}</th>' for title in titles)
        body = ""
        for name, row in zip(table.index, table.to_numpy(), strict=True):
            cells = "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
            body += f'<tr><th scope="row">{html.escape(str(name))}</th>{cells}</tr>\n'
        caption = f"<caption>{html.escape(self.protocol)}</caption>"
        return (
            f'<table class="dataframe report">\n{caption}\n<thead><tr>{heads}</tr></thead>\n'
            f"<tbody>\n{body}</tbody>\n</table>"
        )


def _as_list(result: Result | Sequence[Result]) -> list[Result]:
    results = [result] if isinstance(result, Result) else list(result)
    if not results:
        raise ValueError("an empty list of results was given")
    return results


def _column(result: Result, metric: str) -> pd.Series:
    """Return one metric of each user."""
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    return result.per_user[metric]


def _allowed(candidates: ArrayLike | None, n_items: int) -> NDArray[np.bool_]:
    """Return a mask of the items that may be ranked."""
    if candidates is None:
        return np.ones(n_items, dtype=bool)
    items = np.asarray(candidates)
    if items.size == 0 or not np.issubdtype(items.dtype, np.integer):
        raise ValueError("candidates must be a non-empty list of integer item codes")
    if items.min() < 0 or items.max() >= n_items:
        raise ValueError(f"candidates must lie in 0..{n_items - 1}, got {items.min()}..{items.max()}")
    allowed = np.zeros(n_items, dtype=bool)
    allowed[items] = True
    return allowed


def _scores(
    model: Recommender, users: NDArray[np.int64], n_items: int, name: str, scores: NDArray | None = None
) -> NDArray:
    """Return a model's scores after checking their shape and values."""
    scores = np.asarray(model.score(users) if scores is None else scores)
    if scores.shape != (len(users), n_items):
        raise ValueError(f"{name} gave scores of shape {scores.shape}, not {(len(users), n_items)}")
    if np.isnan(scores).any():
        bad = users[np.isnan(scores).any(axis=1)][:5].tolist()
        raise ValueError(f"{name} gave NaN scores, among others to users {bad}")
    return scores


def _check_targets(ranked: NDArray[np.bool_], users: NDArray, row: NDArray, item: NDArray) -> None:
    """Raise ValueError if a held-out item is not among the items to rank."""
    missing = np.flatnonzero(~ranked[row, item])
    if len(missing):
        shown = [(int(users[row[m]]), int(item[m])) for m in missing[:5]]
        raise ValueError(
            f"{len(missing)} held-out items cannot be ranked, because the user has seen them already (a "
            f"leak) or because they are no candidates; first (user, item) pairs: {shown}"
        )


def _tie_keys(seed: int, user: int, n_items: int) -> NDArray[np.float64]:
    """Return the random numbers that order a user's items of equal score."""
    return np.random.default_rng([seed, int(user)]).random(n_items)


def _ranks(
    scores: NDArray, ranked: NDArray[np.bool_], users: NDArray, row: NDArray, item: NDArray, tie_seed: int
) -> NDArray[np.int64]:
    """Return the rank of each (row, item) among the items of its row that are to be ranked."""
    step = max(1, CHUNK // scores.shape[1])
    better = np.empty(len(row), dtype=np.int64)
    tied = np.empty(len(row), dtype=np.int64)
    for start in range(0, len(row), step):
        part = slice(start, start + step)
        target = scores[row[part], item[part]][:, None]
        better[part] = ((scores[row[part]] > target) & ranked[row[part]]).sum(axis=1)
        tied[part] = ((scores[row[part]] == target) & ranked[row[part]]).sum(axis=1)
    for pair in np.flatnonzero(tied > 1):  # the item ties with itself at least
        here = row[pair]
        same = (scores[here] == scores[here, item[pair]]) & ranked[here]
        keys = _tie_keys(tie_seed, users[here], scores.shape[1])
        better[pair] += (keys[same] < keys[item[pair]]).sum()
    return better + 1


def _per_user(ranks: pd.DataFrame, k: int) -> pd.DataFrame:
    """Return the metrics of each user from the ranks of the held-out items."""
    user, row, count = np.unique(ranks["user"].to_numpy(), return_inverse=True, return_counts=True)
    place = np.arange(len(ranks)) - (np.cumsum(count) - count)[row]
    matrix = np.full((len(user), count.max()), np.inf)
    matrix[row, place] = ranks["rank"].to_numpy()
    columns = {
        "hit": metrics.hit_rate(matrix, k),
        "ndcg": metrics.ndcg(matrix, k),
        "mrr": metrics.mrr(matrix, k),
        "recall": metrics.recall(matrix, k),
    }
    return pd.DataFrame(columns, index=pd.Index(user, name="user"))


def _resamples(shape: tuple[int, ...], resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield blocks of bootstrap indices (some, n)."""
    rng = np.random.default_rng(seed)
    step = max(1, CHUNK // math.prod(shape))
    for start in range(0, resamples, step):
        yield rng.integers(shape[0], size=(min(step, resamples - start), shape[0]))


def _bootstrap(values: NDArray[np.float64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Return bootstrap means: rows (users) resampled, columns (seeds) averaged; NaN: not in that split."""
    present = ~np.isnan(values)
    filled = np.where(present, values, 0.0)
    means = []
    for index in _resamples(values.shape, resamples, seed):
        count = np.maximum(present[index].sum(axis=1), 1)
        means.append((filled[index].sum(axis=1) / count).mean(axis=1))
    return np.concatenate(means)


def _interval(means: NDArray[np.float64], level: float) -> tuple[float, float]:
    """Return the central interval of bootstrap means."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
