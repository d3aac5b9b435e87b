"""Curves, crossings and noise against hand-made curves and counts."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import curve_fit

from recsys_lib import learning_curves as lc
from recsys_lib.datasets import Interactions


def test_the_interval_of_one_draw_is_students():
    values = np.random.default_rng(0).normal(size=12)
    low, high = scipy.stats.t.interval(0.95, 11, values.mean(), scipy.stats.sem(values))
    assert lc.mean_interval(values[None]) == pytest.approx((values.mean(), low, high))


def test_draws_that_differ_widen_the_interval():
    same = np.tile(np.random.default_rng(0).normal(size=500), (3, 1))
    mean, low, high = lc.mean_interval(same + np.array([[-1], [0], [1]]))
    assert lc.mean_interval(same)[2] - lc.mean_interval(same)[0] < 0.1
    assert high - mean == pytest.approx(mean - low) and high - mean > 0.95 * scipy.stats.t.ppf(
        0.975, 2
    ) / math.sqrt(3)


def test_missing_values_are_left_out_of_the_mean():
    assert lc.mean_interval([[1, np.nan, 3], [1, np.nan, 3]])[0] == 2


def test_the_crossing_lies_where_two_lines_in_log_size_meet():
    x = np.array([1.0, 10.0, 100.0])
    assert lc.crossing(x, [0, 1, 2], [1.5] * 3) == pytest.approx(10**1.5)
    assert lc.crossing(x, [0, 1, 2], [2, 1, 0]) == pytest.approx(10)  # equal is not above: from here on


def test_a_curve_that_falls_back_crosses_when_it_stays_above():
    assert lc.crossing([1, 10, 100, 1000], [0, 2, 0, 2], [1, 1, 1, 1]) == pytest.approx(10**2.5)


def test_no_crossing_is_said_plainly():
    assert lc.crossing([1, 2], [1, 1], [0, 0]) == 0
    assert lc.crossing([1, 2], [0, 0], [1, 1]) == math.inf
    assert lc.crossing([1, 2], [2, 0], [1, 1]) == math.inf


@given(st.integers(0, 10**6))
def test_the_crossing_does_not_move_with_scale_or_shift(seed):
    rng = np.random.default_rng(seed)
    x, a, b = np.sort(rng.uniform(1, 99, 6)), rng.normal(size=6), rng.normal(size=6)
    at = lc.crossing(x, a, b)
    assert lc.crossing(x, 3 * a + 1, 3 * b + 1) == pytest.approx(at)
    assert at in (0, math.inf) or x[0] <= at <= x[-1]


def test_the_interval_covers_the_crossing_and_shrinks_with_users():
    x, rng = np.array([1.0, 10.0, 100.0]), np.random.default_rng(0)
    widths = []
    for users in (40, 4000):
        a = np.array([0.0, 1.0, 2.0])[:, None, None] + rng.normal(0, 1, (3, 2, users))
        low, high = lc.crossing_interval(x, a, np.full(a.shape, 1.5), resamples=300)
        assert low <= 10**1.5 <= high
        widths.append(np.log(high / low))
    assert widths[1] < widths[0] / 4


def test_users_without_a_value_do_not_count():
    x = [1, 10]
    a = np.stack([np.zeros((1, 5)), np.ones((1, 5))])
    b = np.full(a.shape, 0.5)
    wide_a, wide_b = (np.concatenate([part, np.full((2, 1, 5), np.nan)], axis=2) for part in (a, b))
    assert lc.crossing_interval(x, wide_a, wide_b, resamples=50) == pytest.approx((math.sqrt(10),) * 2)


def test_draws_are_resampled_too():
    a = np.zeros((2, 2, 5))
    a[1] = [[1] * 5, [9] * 5]
    low, high = lc.crossing_interval([1, 10], a, np.full(a.shape, 0.5), resamples=200)
    assert low < high == pytest.approx(math.sqrt(10))


def test_the_power_law_that_made_the_points_is_found():
    x = np.array([4, 8, 16, 32, 64, 128.0])
    law = lc.fit_power_law(x, 0.2 - 0.5 * x**-0.7)
    assert (law.top, law.gap, law.rate) == pytest.approx((0.2, 0.5, 0.7), abs=0.01)
    assert law.predict(256) == pytest.approx(0.2 - 0.5 * 256**-0.7, abs=1e-3)


def test_the_fit_is_as_good_as_scipys():
    rng = np.random.default_rng(1)
    x = np.array([4, 8, 16, 32, 64, 128.0])
    y = 0.3 - 0.4 * x**-0.5 + rng.normal(0, 0.01, 6)
    theirs = curve_fit(lambda n, t, g, r: t - g * n**-r, x, y, p0=[0.3, 0.4, 0.5])[0]
    law = lc.fit_power_law(x, y)
    error = ((theirs[0] - theirs[1] * x ** -theirs[2] - y) ** 2).sum()
    assert ((law.predict(x) - y) ** 2).sum() <= error * 1.001


def rows(times=True):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        [(u, i) for u in range(5) if u != 3 for i in rng.permutation(30)[:6]], columns=["user", "item"]
    )
    if times:
        frame["timestamp"] = 100 * frame["user"] + np.arange(len(frame)) % 6
    return Interactions(frame.assign(rating=1.0), 5, 30)


def test_missing_clicks_are_nested():
    some, fewer = lc.keep_interactions(rows(), 0.5, 1), lc.keep_interactions(rows(), 0.25, 1)
    assert (len(some), len(fewer)) == (12, 6)
    assert not (fewer.matrix().toarray() > some.matrix().toarray()).any()
    assert not (some.matrix().toarray() > rows().matrix().toarray()).any()


@pytest.mark.parametrize("times", [True, False])
def test_random_clicks_are_new_pairs_of_users_who_have_rows(times):
    old, noised = rows(times), lc.add_interactions(rows(times), 2.0, seed=3)
    gained = noised.matrix().toarray() - old.matrix().toarray()
    assert gained.min() == 0 and gained.sum() == 2 * len(old) and gained[3].sum() == 0
    if times:
        assert (noised.frame["timestamp"] // 100 == noised.frame["user"]).all()


def test_random_clicks_favour_no_item():
    counts = (
        sum(lc.add_interactions(rows(), 1.0, seed).matrix().toarray() for seed in range(300))
        - 300 * rows().matrix().toarray()
    )
    free = (rows().matrix().toarray() == 0) & (np.arange(5) != 3)[:, None]
    assert counts[free].std() < 2 * math.sqrt(counts[free].mean())
    assert counts[free].mean() == pytest.approx(300 * 24 / free.sum())


def test_random_clicks_need_room():
    with pytest.raises(ValueError, match="free"):
        lc.add_interactions(rows(), 10.0)
    assert len(lc.add_interactions(rows(), 0.0)) == len(rows())


@given(st.lists(st.text("ab ", min_size=1).filter(str.strip), min_size=1, max_size=5), st.floats(0, 0.95))
def test_dropped_words_leave_a_subsequence(texts, share):
    for old, new in zip(texts, lc.drop_words(texts, share), strict=True):
        rest = iter(old.split())
        assert all(word in rest for word in new.split())
        assert len(new.split()) == max(1, round((1 - share) * len(old.split())))


def test_shuffled_words_are_the_same_words():
    texts = ["a b c d e f g", "x"]
    shuffled = lc.shuffle_words(texts)
    assert shuffled != texts
    assert [sorted(text.split()) for text in shuffled] == [sorted(text.split()) for text in texts]
    assert shuffled == lc.shuffle_words(texts)


@given(st.integers(2, 50), st.floats(0, 1))
def test_mixed_rows_are_a_permutation_and_none_of_the_share_stays(n, share):
    places = lc.mixed_rows(n, share)
    assert sorted(places) == list(range(n))
    count = round(share * n)
    assert (places != np.arange(n)).sum() == (count if count > 1 else 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lc.crossing([2, 1], [0, 0], [1, 1]), "smallest first"),
        (lambda: lc.crossing([1, 2], [0, np.nan], [1, 1]), "NaN"),
        (lambda: lc.crossing([1, 2], [0, 1, 2], [1, 1]), "2 points"),
        (lambda: lc.crossing_interval([1, 2], np.zeros((2, 1)), np.zeros((2, 1))), "one shape"),
        (lambda: lc.crossing_interval([1, 2], np.zeros((2, 1, 1)), np.zeros((2, 1, 1)), level=1), "level"),
        (lambda: lc.fit_power_law([1, 2, 3], [1, 2, 3]), "at least 4"),
        (lambda: lc.mean_interval([1, 2]), "draws, users"),
        (lambda: lc.keep_interactions(rows(), 1.5), "share"),
        (lambda: lc.add_interactions(rows(), -1), "negative"),
        (lambda: lc.drop_words(["a"], 1.0), "share"),
        (lambda: lc.mixed_rows(3, 2), "share"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
