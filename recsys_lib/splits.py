"""Ways to hold out interactions, so that a model is tested on what it has not seen.

Every function takes a `Dataset` or its `Interactions` and returns a frozen `Split` with train, validation and
test rows and a sentence that names the protocol. The same seed gives the same split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from recsys_lib.datasets import DataError, Dataset, Interactions


class LeakageError(ValueError):
    """A split whose training rows tell something of its test rows."""


@dataclass(frozen=True)
class Split:
    """Train, validation and test rows of a data set.

    ``protocol`` says in a sentence how they were made. ``candidates`` and ``validation_candidates`` are the item
    codes to be ranked (sorted), or None for all items. ``kind`` is the name of the function that made it.
    """

    train: Interactions
    validation: Interactions
    test: Interactions
    protocol: str
    candidates: np.ndarray | None = None
    validation_candidates: np.ndarray | None = None
    kind: str = ""

    @property
    def fit_part(self) -> Interactions:
        """Train and validation rows together: static models are fitted again on these for the test."""
        frame = pd.concat([self.train.frame, self.validation.frame]).sort_index(kind="stable")
        return Interactions(frame, self.train.n_users, self.train.n_items)


def _interactions(data: Dataset | Interactions) -> Interactions:
    """The interactions of ``data``, their rows numbered from 0."""
    rows = data.interactions if isinstance(data, Dataset) else data
    if not len(rows):
        raise DataError("there are no interactions to split.")
    return Interactions(rows.frame.reset_index(drop=True), rows.n_users, rows.n_items)


def _steps_from_end(users: np.ndarray, n_users: int) -> tuple[np.ndarray, np.ndarray]:
    """For rows sorted by user: how many rows of the same user follow each, and how many rows that user has."""
    counts = np.bincount(users, minlength=n_users)
    return np.cumsum(counts)[users] - 1 - np.arange(len(users)), counts[users]


def leave_one_out(data: Dataset | Interactions) -> Split:
    """Hold out each user's last interaction for test and the last but one for validation.

    Ties in time are broken by the order of the file, which is the order in time where there are no timestamps.
    Users with fewer than three interactions stay in train.
    """
    rows = _interactions(data)
    after, total = _steps_from_end(rows.users, rows.n_users)
    test, validation = (after == 0) & (total >= 3), (after == 1) & (total >= 3)
    short = len(np.unique(rows.users[total < 3]))
    order = "time, ties by order of the file" if "timestamp" in rows.frame.columns else "order of the file"
    protocol = (
        f"leave-one-out: each user's last interaction (by {order}) is the test, the last but one the "
        f"validation; {short} users with fewer than 3 interactions stay in train"
    )
    return Split(
        rows.select(~test & ~validation),
        rows.select(validation),
        rows.select(test),
        protocol,
        kind="leave_one_out",
    )


def random_split(data: Dataset | Interactions, seed: int = 0) -> Split:
    """Hold out a random tenth of each user's interactions for test and another for validation.

    A tenth is rounded down, but is at least one row; users with fewer than three interactions stay in train.
    """
    rows = _interactions(data)
    shuffled = np.lexsort((np.random.default_rng(seed).random(len(rows)), rows.users))
    place = np.empty(len(rows), dtype=np.int64)
    after, total = _steps_from_end(rows.users, rows.n_users)
    place[shuffled] = after
    tenth = np.where(total >= 3, np.maximum(1, total // 10), 0)
    test, validation = place < tenth, (place >= tenth) & (place < 2 * tenth)
    protocol = (
        f"random 8:1:1 for each user (at least 1 test and 1 validation row from 3 rows up), seed {seed}"
    )
    return Split(
        rows.select(~test & ~validation),
        rows.select(validation),
        rows.select(test),
        protocol,
        kind="random_split",
    )


def global_time_split(data: Dataset | Interactions) -> Split:
    """Cut all interactions at two points in time: the first 80% train, the next 10% validate, the last 10% test.

    Rows of one timestamp are never cut apart: they all go to the later part, so shares differ a little.

    Raises
    ------
    DataError
        If there are no timestamps, or too few different ones to make three parts.
    """
    rows = _interactions(data)
    times = rows.timestamps
    first, second = np.sort(times)[[len(rows) * 8 // 10, len(rows) * 9 // 10]]
    train, test = times < first, times >= second
    parts = rows.select(train), rows.select(~train & ~test), rows.select(test)
    if min(map(len, parts)) == 0:
        raise DataError("timestamps: too few different times to cut the data into three parts.")
    shares = " / ".join(f"{len(part) / len(rows):.1%}" for part in parts)
    protocol = (
        f"global time: two points in time cut all interactions into train, validation and test ({shares})"
    )
    return Split(*parts, protocol, kind="global_time_split")


def cold_item_split(data: Dataset | Interactions, seed: int = 0, fraction: float = 0.2) -> Split:
    """Hold out items: all rows of a random ``fraction`` of items test, those of half as many others validate.

    Only the held-out items are ranked (``candidates``, ``validation_candidates``). Train has warm items only, so
    choose hyper-parameters on validation, then fit on ``fit_part``: the test items are cold there too.
    """
    rows = _interactions(data)
    if not 0 < fraction <= 0.6:
        raise ValueError(f"fraction must lie in (0, 0.6], not {fraction}.")
    shuffled = np.random.default_rng(seed).permutation(rows.n_items)
    n_test, n_validation = max(1, round(fraction * rows.n_items)), max(1, round(fraction / 2 * rows.n_items))
    if n_test + n_validation >= rows.n_items:
        raise DataError(f"{rows.n_items} items are too few to hold some out.")
    test_items = np.sort(shuffled[:n_test])
    validation_items = np.sort(shuffled[n_test : n_test + n_validation])
    test, validation = np.isin(rows.items, test_items), np.isin(rows.items, validation_items)
    protocol = (
        f"cold items: all interactions of {n_test} random items ({fraction:.0%}) are the test and of "
        f"{n_validation} others the validation; only these items are ranked, seed {seed}"
    )
    return Split(
        rows.select(~test & ~validation),
        rows.select(validation),
        rows.select(test),
        protocol,
        test_items,
        validation_items,
        kind="cold_item_split",
    )


def cold_user_split(
    data: Dataset | Interactions, seed: int = 0, fraction: float = 0.2, known: int = 0, skip: int = 10
) -> Split:
    """Hold out users: of a random ``fraction`` of users only the first ``known`` rows are in train.

    Everything after such a user's first ``skip`` rows is the test, so the test is the same for every ``known`` up
    to ``skip``; the rows between are used nowhere. As many other users are held out in the same way for
    validation.
    """
    rows = _interactions(data)
    if not 0 < fraction < 0.5:
        raise ValueError(f"fraction must lie in (0, 0.5), not {fraction}.")
    if not 0 <= known <= skip:
        raise ValueError(f"known must lie in 0..skip ({skip}), not {known}.")
    shuffled = np.random.default_rng(seed).permutation(rows.n_users)
    size = max(1, round(fraction * rows.n_users))
    if 2 * size >= rows.n_users:
        raise DataError(f"{rows.n_users} users are too few to hold some out.")
    test_user, validation_user = (
        np.isin(rows.users, shuffled[:size]),
        np.isin(rows.users, shuffled[size : 2 * size]),
    )
    after, total = _steps_from_end(rows.users, rows.n_users)
    before = total - 1 - after
    train = ~(test_user | validation_user) | (before < known)
    protocol = (
        f"cold users: of {size} random users ({fraction:.0%}) the first {known} interactions are known and "
        f"those after the {skip}th are the test; likewise {size} others for validation, seed {seed}"
    )
    return Split(
        rows.select(train),
        rows.select(validation_user & (before >= skip)),
        rows.select(test_user & (before >= skip)),
        protocol,
        kind="cold_user_split",
    )


def tie_statistics(interactions: Dataset | Interactions) -> dict[str, float | int]:
    """How much of the "order in time" is order: users often rate many films within the same second.

    Returns
    -------
    dict
        ``tied_share``: share of pairs of consecutive rows of a user that have one timestamp. ``users``: with two
        rows or more; ``users_last_two_tied`` and ``users_last_three_tied``: of these, whose last two (three) rows
        tie, so that leave-one-out rests on the order of the file. ``median_span_minutes``: median over these users
        of the time from first to last row. ``median_times``: median number of different timestamps of a user.
    """
    rows = _interactions(interactions)
    users, times = rows.users, rows.timestamps
    same_user = users[1:] == users[:-1]
    tied = same_user & (times[1:] == times[:-1])
    after, total = _steps_from_end(users, rows.n_users)
    last_two = tied & (after[1:] == 0)
    last_three = last_two[1:] & tied[:-1]
    per_user = pd.DataFrame({"user": users, "time": times})[total >= 2].groupby("user")["time"]
    return {
        "tied_share": float(tied.sum() / same_user.sum()) if same_user.any() else 0.0,
        "users": per_user.ngroups,
        "users_last_two_tied": int(last_two.sum()),
        "users_last_three_tied": int(last_three.sum()),
        "median_span_minutes": float((per_user.max() - per_user.min()).median() / 60)
        if per_user.ngroups
        else 0.0,
        "median_times": float(per_user.nunique().median()) if per_user.ngroups else 0.0,
    }


def check_no_leakage(split: Split) -> None:
    """Assert that the parts share no row and that train tells nothing that its kind of split must hide.

    Raises
    ------
    LeakageError
        If a pair of user and item is in two parts; if train has a row of a cold candidate, or test one of another
        item; if a global time split trains on a row as late as a validation or test row; if, in leave-one-out, a
        user has a train row later than the validation row, or one of these later than the test row; if a cold user
        has train rows later than a test row.
    """
    train, validation, test = split.train, split.validation, split.test
    pairs = pd.concat([part.frame[["user", "item"]] for part in (train, validation, test)])
    if pairs.duplicated().any():
        raise LeakageError("a user and item pair is in two parts of the split.")
    if split.candidates is not None and split.validation_candidates is not None:
        held_out = np.concatenate([split.candidates, split.validation_candidates])
        if np.isin(train.items, held_out).any() or np.isin(validation.items, split.candidates).any():
            raise LeakageError("a held-out item has rows where it must be cold.")
        if not np.isin(test.items, split.candidates).all():
            raise LeakageError("a test row is not among the candidates.")
    if split.kind == "global_time_split":
        latest = train.timestamps.max(), validation.timestamps.max()
        if latest[0] >= validation.timestamps.min() or latest[1] >= test.timestamps.min():
            raise LeakageError("a row of an earlier part is as late as one of a later part.")
    if split.kind in ("leave_one_out", "cold_user_split"):
        for earlier, later in ((train, validation), (train, test), (validation, test)):
            last, first = _times_by_user(earlier).max(), _times_by_user(later).min()
            if (last.reindex(first.index) > first).any():
                raise LeakageError("a user's earlier part has a row later than one of the later part.")


def _times_by_user(rows: Interactions) -> Any:
    """Times of each user's rows; without timestamps, the rows' numbers in the data."""
    frame = rows.frame
    times = frame["timestamp"] if "timestamp" in frame.columns else frame.index.to_series()
    return times.groupby(frame["user"])
