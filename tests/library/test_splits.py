"""Splits: partitions that leak nothing, against plain loops."""

import dataclasses
import itertools
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lib.datasets import DataError, Dataset, Interactions, load_movielens_100k
from recsys_lib.splits import (
    LeakageError,
    Split,
    check_no_leakage,
    cold_item_split,
    cold_user_split,
    global_time_split,
    leave_one_out,
    random_split,
    tie_statistics,
)

N_USERS, N_ITEMS = 8, 12
SPLITS = [leave_one_out, random_split, global_time_split, cold_item_split, cold_user_split]
SEEDED = [random_split, cold_item_split, cold_user_split]


def make(rows, timed=True):
    frame = pd.DataFrame(rows, columns=["user", "item", "timestamp"], dtype="int64")
    return Interactions(frame if timed else frame.drop(columns="timestamp"), N_USERS, N_ITEMS)


rows_of_data = st.lists(
    st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1), st.integers(0, 30)),
    unique_by=lambda row: row[:2],
    min_size=1,
    max_size=90,
)
quick = settings(max_examples=50, deadline=None)


def parts(split):
    return [part.frame.index.tolist() for part in (split.train, split.validation, split.test)]


def by_user(data):
    """Row numbers of each user, oldest first."""
    rows = {}
    for number, user in enumerate(data.users):
        rows.setdefault(user, []).append(number)
    return rows


def split_or_reject(function, data):
    try:
        return function(data)
    except DataError as error:
        assert function is global_time_split and "too few different times" in str(error)
        return None


@pytest.mark.parametrize("function", SPLITS)
@quick
@given(rows=rows_of_data)
def test_parts_are_disjoint_ordered_and_of_the_data(function, rows):
    data = make(rows)
    split = split_or_reject(function, data)
    if split is None:
        return
    train, validation, test = parts(split)
    assert len({*train, *validation, *test}) == len(train) + len(validation) + len(test)
    for part in (split.train, split.validation, split.test, split.fit_part):
        assert part.frame.index.is_monotonic_increasing
        pd.testing.assert_frame_equal(part.frame, data.frame.reset_index(drop=True).loc[part.frame.index])
        assert (part.n_users, part.n_items) == (N_USERS, N_ITEMS)
    assert split.fit_part.frame.index.tolist() == sorted(train + validation)
    if function is not cold_user_split:  # it leaves rows out between known and skip
        assert len(train) + len(validation) + len(test) == len(data)
    check_no_leakage(split)
    assert split.kind == function.__name__ and split.protocol
    with pytest.raises(dataclasses.FrozenInstanceError):
        split.train = split.test


@pytest.mark.parametrize("timed", [True, False])
@quick
@given(rows=rows_of_data)
def test_leave_one_out_against_a_loop(timed, rows):
    data = make(rows, timed)
    expected_test = [numbers[-1] for numbers in by_user(data).values() if len(numbers) >= 3]
    expected_validation = [numbers[-2] for numbers in by_user(data).values() if len(numbers) >= 3]
    split = leave_one_out(data)
    assert parts(split)[1:] == [expected_validation, expected_test]
    short = sum(len(numbers) < 3 for numbers in by_user(data).values())
    assert f"{short} users with fewer than 3 interactions stay in train" in split.protocol
    assert ("ties by order of the file" in split.protocol) == timed


def test_leave_one_out_breaks_ties_by_the_order_of_the_file():
    data = make([(0, 5, 10), (0, 3, 20), (0, 9, 20), (0, 1, 20), (1, 1, 1), (1, 2, 1)])
    split = leave_one_out(data)
    assert (split.train.items.tolist(), split.validation.items.tolist()) == ([5, 3, 1, 2], [9])
    assert split.test.items.tolist() == [1]


@quick
@given(rows=rows_of_data, seed=st.integers(0, 5))
def test_random_split_sizes(rows, seed):
    data = make(rows)
    split = random_split(data, seed)
    for user, numbers in by_user(data).items():
        tenth = 0 if len(numbers) < 3 else max(1, int(Fraction(len(numbers), 10)))
        sizes = [(part.users == user).sum() for part in (split.train, split.validation, split.test)]
        assert sizes == [len(numbers) - 2 * tenth, tenth, tenth]


def test_a_tenth_is_rounded_down():
    rows = [1, 2, 3, 9, 10, 18, 19, 20, 29, 30]
    frame = pd.DataFrame(
        [(user, item) for user, n in enumerate(rows) for item in range(n)], columns=["user", "item"]
    )
    split = random_split(Interactions(frame, len(rows), 30))
    assert np.bincount(split.test.users, minlength=10).tolist() == [0, 0, 1, 1, 1, 1, 1, 2, 2, 3]
    assert np.bincount(split.validation.users, minlength=10).tolist() == [0, 0, 1, 1, 1, 1, 1, 2, 2, 3]


def test_random_split_is_uniform():
    data = make([(0, item, item) for item in range(10)])
    drawn = np.concatenate([random_split(data, seed).test.items for seed in range(300)])
    counts = np.bincount(drawn, minlength=10)
    assert counts.sum() == 300
    assert ((counts - 30) ** 2 / 30).sum() < 27.9  # chi-squared, 9 degrees of freedom: p > .001


@quick
@given(rows=rows_of_data)
def test_global_time_split_against_a_loop(rows):
    data = make(rows)
    times = sorted(data.timestamps)
    first, second = times[len(times) * 8 // 10], times[len(times) * 9 // 10]
    split = split_or_reject(global_time_split, data)
    expected = [
        [n for n, time in enumerate(data.timestamps) if time < first],
        [n for n, time in enumerate(data.timestamps) if first <= time < second],
        [n for n, time in enumerate(data.timestamps) if time >= second],
    ]
    assert all(expected) == (split is not None)
    if split is not None:
        assert parts(split) == expected


@quick
@given(rows=rows_of_data, seed=st.integers(0, 5), fraction=st.sampled_from([0.01, 0.2, 0.5]))
def test_cold_item_split(rows, seed, fraction):
    data = make(rows)
    split = cold_item_split(data, seed, fraction)
    cold, validation = split.candidates, split.validation_candidates
    assert len(cold) == max(1, round(fraction * N_ITEMS))
    assert len(validation) == max(1, round(fraction / 2 * N_ITEMS))
    assert cold.tolist() == sorted(set(cold)) and validation.tolist() == sorted(set(validation))
    assert not set(cold) & set(validation)
    expected = [[], [], []]
    for number, item in enumerate(data.items):
        expected[2 if item in cold else 1 if item in validation else 0].append(number)
    assert parts(split) == expected
    assert not np.isin(split.fit_part.items, cold).any()


@quick
@given(rows=rows_of_data, seed=st.integers(0, 5), known=st.integers(0, 3))
def test_cold_user_split(rows, seed, known):
    data = make(rows)
    split = cold_user_split(data, seed, fraction=0.25, known=known, skip=3)
    test_users, validation_users = set(split.test.users), set(split.validation.users)
    assert len(test_users) <= 2 and len(validation_users) <= 2 and not test_users & validation_users
    for user, numbers in by_user(data).items():
        in_train, in_validation, in_test = ([n for n in numbers if n in part] for part in parts(split))
        if user in test_users or user in validation_users:
            assert in_train == numbers[:known]
            assert (in_test if user in test_users else in_validation) == numbers[3:]
            assert not (in_validation if user in test_users else in_test)
        else:
            assert not in_validation and not in_test
            assert in_train == numbers or (in_train == numbers[:known] and len(numbers) <= 3)


def test_cold_users_are_the_same_for_every_known():
    data = make([(user, item, item) for user in range(N_USERS) for item in range(6)])
    zero, two = (cold_user_split(data, fraction=0.25, known=known, skip=3) for known in (0, 2))
    assert parts(zero)[1:] == parts(two)[1:]
    assert len(set(zero.test.users)) == len(set(zero.validation.users)) == 2
    assert len(set(zero.train.users)) == N_USERS - 4 and len(set(two.train.users)) == N_USERS
    assert len(two.train) - len(zero.train) == 4 * 2


@pytest.mark.parametrize("function", SEEDED)
@quick
@given(rows=rows_of_data)
def test_same_seed_same_split(function, rows):
    data = make(rows)
    assert parts(function(data, seed=3)) == parts(function(data, seed=3))


@pytest.mark.parametrize("function", SEEDED)
def test_another_seed_another_split(function):
    data = make([(user, item, 0) for user in range(N_USERS) for item in range(N_ITEMS)])
    assert len({str(parts(function(data, seed=seed))) for seed in range(5)}) > 1


@pytest.mark.parametrize("function", SPLITS)
def test_dataset_or_interactions(function):
    data = make([(user, item, item) for user in range(N_USERS) for item in range(N_ITEMS)])
    items = pd.DataFrame({"item_id": [str(n) for n in range(N_ITEMS)], "title": "t", "text": "t"})
    users = pd.DataFrame({"user_id": [str(n) for n in range(N_USERS)]})
    assert parts(function(Dataset("d", data, items, users))) == parts(function(data))
    with pytest.raises(DataError, match="no interactions"):
        function(make([]))


def test_arguments_out_of_range():
    data = make([(user, item, item) for user in range(N_USERS) for item in range(N_ITEMS)])
    for fraction in (0.0, -0.1, 0.7):
        with pytest.raises(ValueError, match="fraction"):
            cold_item_split(data, fraction=fraction)
        with pytest.raises(ValueError, match="fraction"):
            cold_user_split(data, fraction=fraction)
    for known in (-1, 4):
        with pytest.raises(ValueError, match="known"):
            cold_user_split(data, known=known, skip=3)
    two = Interactions(pd.DataFrame({"user": [0, 1], "item": [0, 1]}), 2, 2)
    with pytest.raises(DataError, match="2 items are too few"):
        cold_item_split(two)
    with pytest.raises(DataError, match="2 users are too few"):
        cold_user_split(two)
    with pytest.raises(DataError, match="timestamp"):
        global_time_split(two)
    with pytest.raises(DataError, match="too few different times"):
        global_time_split(make([(0, item, 5) for item in range(10)]))


@quick
@given(rows=rows_of_data)
def test_tie_statistics_against_loops(rows):
    data = make(rows)
    statistics = tie_statistics(data)
    times = [[data.timestamps[n] for n in numbers] for numbers in by_user(data).values()]
    steps = [later == earlier for user in times for earlier, later in itertools.pairwise(user)]
    several = [user for user in times if len(user) >= 2]
    assert statistics["tied_share"] == pytest.approx(np.mean(steps) if steps else 0)
    assert statistics["users"] == len(several)
    assert statistics["users_last_two_tied"] == sum(user[-1] == user[-2] for user in several)
    assert statistics["users_last_three_tied"] == sum(user[-3:] == [user[-1]] * 3 for user in several)
    spans = [max(user) - min(user) for user in several]
    assert statistics["median_span_minutes"] == pytest.approx(np.median(spans) / 60 if spans else 0)
    different = [len(set(user)) for user in several]
    assert statistics["median_times"] == (np.median(different) if different else 0)


DATA = make([(user, item, 10 * item + user) for user in range(N_USERS) for item in range(N_ITEMS)])


def moved(split, source, target, row, **fields):
    """The split with one row moved (or copied, with ``keep``) from one part to another."""
    keep = fields.pop("keep", False)
    frames = {name: getattr(split, name).frame for name in ("train", "validation", "test")}
    frames[target] = pd.concat([frames[target], frames[source].loc[[row]]]).sort_index()
    if not keep:
        frames[source] = frames[source].drop(index=row)
    made = {name: Interactions(frame, N_USERS, N_ITEMS) for name, frame in frames.items()}
    return dataclasses.replace(split, **made, **fields)


@pytest.mark.parametrize(
    ("function", "source", "target", "keep", "message"),
    [
        (leave_one_out, "test", "train", True, "in two parts"),
        (random_split, "validation", "train", True, "in two parts"),
        (random_split, "test", "validation", True, "in two parts"),
        (cold_item_split, "test", "train", False, "held-out item"),
        (cold_item_split, "validation", "train", False, "held-out item"),
        (cold_item_split, "test", "validation", False, "held-out item"),
        (cold_item_split, "train", "test", False, "not among the candidates"),
        (global_time_split, "test", "train", False, "as late as"),
        (global_time_split, "validation", "train", False, "as late as"),
        (global_time_split, "test", "validation", False, "as late as"),
    ],
)
def test_leaks_are_found(function, source, target, keep, message):
    split = function(DATA)
    check_no_leakage(split)
    row = getattr(split, source).frame.index[0]
    with pytest.raises(LeakageError, match=message):
        check_no_leakage(moved(split, source, target, row, keep=keep))


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize(
    ("first", "second"), [("train", "validation"), ("train", "test"), ("validation", "test")]
)
@pytest.mark.parametrize("function", [leave_one_out, cold_user_split])
def test_swapped_parts_are_found(function, first, second, timed):
    data = DATA if timed else Interactions(DATA.frame[["user", "item"]], N_USERS, N_ITEMS)
    split = leave_one_out(data)
    swapped = dataclasses.replace(
        split, **{first: getattr(split, second), second: getattr(split, first)}, kind=function.__name__
    )
    with pytest.raises(LeakageError, match="later than"):
        check_no_leakage(swapped)


def test_ties_are_no_leak():
    split = leave_one_out(make([(0, item, 7) for item in range(5)]))
    check_no_leakage(split)


def test_fit_part_of_a_split_made_by_hand():
    """Rows with numbers of their own are sorted by user and time."""
    train, validation = make([(0, 1, 5), (1, 1, 5)]), make([(0, 2, 3)])
    split = Split(train, validation, make([(1, 3, 9)]), "by hand")
    assert split.fit_part.frame.to_numpy().tolist() == [[0, 2, 3], [0, 1, 5], [1, 1, 5]]
    check_no_leakage(split)


def test_movielens_splits():
    data = load_movielens_100k("title")
    sizes = {function: parts(function(data)) for function in SPLITS}
    for function, (train, validation, test) in sizes.items():
        check_no_leakage(function(data))
        if function is not cold_user_split:
            assert len(train) + len(validation) + len(test) == 100_000
    assert [len(part) for part in sizes[leave_one_out]] == [98_114, 943, 943]
    # rows of one timestamp stay together, so the shares are not exactly 80/10/10
    assert [len(part) for part in sizes[global_time_split]] == [79_999, 10_001, 10_000]
    assert len(cold_item_split(data).candidates) == 336
    assert len(cold_item_split(data).validation_candidates) == 168
    assert len(set(cold_user_split(data).test.users)) == 189
    unseen = np.setdiff1d(leave_one_out(data).test.items, leave_one_out(data).fit_part.items)
    assert len(unseen) == 3
