"""The stream against loops and fresh fits; release dates against the source's table."""

import sqlite3

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lib import resources
from recsys_lib.datasets import Interactions, load_movielens_100k
from recsys_lib.datasets.releases import release_dates
from recsys_lib.models import EASE
from recsys_lib.stream import DAY, StreamingEASE, prequential_pages


def some_log(seed: int, n_users: int = 6, n_items: int = 30, rows: int = 90) -> Interactions:
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(n_users * n_items)[:rows]
    times = 20 * DAY + rng.integers(0, 8, rows) * (DAY // 2) + 5
    frame = pd.DataFrame({"user": pairs // n_items, "item": pairs % n_items, "timestamp": times})
    return Interactions(frame, n_users, n_items)


@given(seed=st.integers(0, 10_000), size=st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_pages_are_those_of_a_loop(seed, size):
    log = some_log(seed)
    pages = prequential_pages(log, size)
    rows = sorted(
        zip(log.timestamps, range(len(log)), log.users, log.items, strict=True), key=lambda row: row[:2]
    )
    met, today, open_page, number = {}, {}, {}, -1
    for (time, _, user, item), got in zip(rows, pages.to_dict("records"), strict=True):
        day = time // DAY - rows[0][0] // DAY
        today[user, day] = today.get((user, day), 0) + 1
        if today[user, day] % size == 1 or size == 1:
            number += 1
            open_page[user] = number, met.get(user, 0)
        expected = (user, item, time, day, met.get(user, 0), *open_page[user])
        assert (
            tuple(got[name] for name in ("user", "item", "timestamp", "day", "place", "page", "start"))
            == expected
        )
        met[user] = met.get(user, 0) + 1


def test_a_page_is_one_users_and_one_days_and_no_longer_than_asked():
    pages = prequential_pages(some_log(3), 4)
    assert (pages.groupby("page")[["user", "day", "start"]].nunique() == 1).all(axis=None)
    assert pages.groupby("page").size().max() == 4
    assert (pages["place"] - pages["start"]).between(0, 3).all()


def test_pages_need_a_size_and_rows():
    with pytest.raises(ValueError, match="at least 1 row"):
        prequential_pages(some_log(0), 0)
    empty = Interactions(some_log(0).frame.iloc[:0], 6, 30)
    with pytest.raises(ValueError, match="no interactions"):
        prequential_pages(empty)


@given(seed=st.integers(0, 10_000), regularization=st.sampled_from([1.0, 50.0]))
@settings(max_examples=15, deadline=None)
def test_streaming_ease_is_ease_fitted_on_all_rows_so_far(seed, regularization):
    log = some_log(seed)
    pages = prequential_pages(log)
    streaming = StreamingEASE(log.n_users, log.n_items, regularization)
    for day, rows in pages.groupby("day"):
        streaming.update(rows["user"], rows["item"])
        so_far = pages.loc[pages["day"] <= day, ["user", "item", "timestamp"]]
        fitted = EASE(regularization).fit(Interactions(so_far, log.n_users, log.n_items))
        np.testing.assert_allclose(streaming.weights, fitted.weights, atol=1e-6)


def test_an_empty_day_changes_nothing():
    streaming = StreamingEASE(3, 4, 2.0)
    before = streaming.update([0, 0], [1, 2]).weights
    np.testing.assert_array_equal(streaming.update([], []).weights, before)


@pytest.mark.parametrize(
    ("users", "items", "message"),
    [([0], [1], "known already"), ([1, 1], [2, 2], "known already"), ([3], [0], "must lie below"),
     ([0], [-1], "must lie below"), ([0, 1], [2], "equally long")],
)  # fmt: skip
def test_wrong_pairs_are_refused_and_change_nothing(users, items, message):
    streaming = StreamingEASE(3, 4, 2.0).update([0], [1])
    before = streaming.weights
    with pytest.raises(ValueError, match=message):
        streaming.update(users, items)
    np.testing.assert_array_equal(streaming.weights, before)


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="regularization"):
        StreamingEASE(3, 4, 0.0)
    with pytest.raises(ValueError, match="at least one"):
        StreamingEASE(0, 4)


def test_release_dates_are_those_of_the_films_source():
    items = load_movielens_100k("rich").items
    dates = release_dates(items)
    with sqlite3.connect(resources.fetch("film-facts") / "movies.db") as connection:
        facts = pd.read_sql("SELECT Title, Year, Director, Released FROM omdb", connection)
    exact = items[items["match"] == "exact"]
    for code in exact.index[::10]:
        row = items.loc[code]
        same = facts[(facts["Year"] == row["year"]) & (facts["Director"].fillna("") == row["director"])]
        known = set(same["Released"].dropna())
        assert pd.isna(dates[code]) or dates[code].strftime("%Y-%m-%d") in known
    by_title = dates[items.index[items["title"] == "Titanic"]]
    assert [str(date.date()) for date in by_title] == ["1997-11-01"]
    assert dates[~items["match"].isin(["exact", "year±1", "alias"])].isna().all()
    assert dates.notna().sum() > 1400


def test_release_dates_need_rich_items():
    with pytest.raises(ValueError, match="rich"):
        release_dates(load_movielens_100k("basic").items)
