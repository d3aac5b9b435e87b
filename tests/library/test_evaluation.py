import math
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lib import metrics
from recsys_lib.datasets import Interactions
from recsys_lib.evaluation import (
    Report,
    Result,
    compare,
    evaluate,
    mmr,
    recommend,
    recommend_diverse,
    smallest_detectable,
)
from recsys_lib.geometry import cosine
from recsys_lib.models import RandomModel


def interactions(pairs, n_users, n_items):
    frame = pd.DataFrame(sorted(pairs), columns=["user", "item"]).astype("int64")
    return Interactions(frame, n_users, n_items)


class Fixed:
    """A model with given scores."""

    def __init__(self, scores):
        self.scores = np.asarray(scores, dtype=np.float32)
        self.calls = []

    def fit(self, train):
        return self

    def score(self, users):
        self.calls.append(len(users))
        return self.scores[users]


def by_loop(scores, test, seen, candidates, k):
    """Metrics of each user by sorting the list of items: no ties allowed."""
    rows = {}
    for user in sorted(set(test.frame["user"])):
        wanted = set(test.frame.loc[test.frame["user"] == user, "item"])
        met = set(seen.frame.loc[seen.frame["user"] == user, "item"]) if seen else set()
        pool = [
            item for item in (range(test.n_items) if candidates is None else candidates) if item not in met
        ]
        order = sorted(pool, key=lambda item: -scores[user, item])
        places = sorted(order.index(item) + 1 for item in wanted)
        inside = [place for place in places if place <= k]
        ideal = sum(1 / math.log2(1 + place) for place in range(1, min(k, len(wanted)) + 1))
        rows[user] = {
            "hit": float(bool(inside)),
            "ndcg": sum(1 / math.log2(1 + place) for place in inside) / ideal,
            "mrr": 1 / inside[0] if inside else 0.0,
            "recall": len(inside) / len(wanted),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("user")


@st.composite
def problems(draw):
    n_users, n_items = draw(st.integers(1, 6)), draw(st.integers(6, 20))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    candidates = np.sort(rng.choice(n_items, size=rng.integers(4, n_items + 1), replace=False))
    test, seen = set(), set()
    for user in range(n_users):
        shuffled = rng.permutation(n_items)
        seen |= {(user, int(item)) for item in shuffled[: rng.integers(0, 3)]}
        rest = [int(item) for item in shuffled[3:] if item in set(candidates.tolist())]
        test |= {(user, item) for item in rest[: rng.integers(0, 4)]}
    scores = rng.permutation(n_users * n_items).reshape(n_users, n_items).astype(np.float32)
    return n_users, n_items, test, seen, candidates, scores, draw(st.integers(1, 8)), draw(st.integers(1, 7))


@settings(deadline=None)
@given(problems())
def test_against_a_loop(problem):
    n_users, n_items, test, seen, candidates, scores, k, block = problem
    if not test:
        return
    test, seen = interactions(test, n_users, n_items), interactions(seen, n_users, n_items)
    for pool in (candidates, None):
        model = Fixed(scores)
        result = evaluate(model, test, seen=seen, candidates=pool, k=k, block=block)
        pd.testing.assert_frame_equal(result.per_user, by_loop(scores, test, seen, pool, k))
        assert max(model.calls) <= block and sum(model.calls) == len(result.users)
    assert len(result.ranks) == len(test)


@settings(deadline=None, max_examples=25)
@given(problems(), st.integers(0, 1000))
def test_renaming_the_items_changes_nothing(problem, seed):
    n_users, n_items, test, seen, candidates, scores, k, _ = problem
    if not test:
        return
    new_code = np.random.default_rng(seed).permutation(n_items)
    renamed = np.empty_like(scores)
    renamed[:, new_code] = scores
    a = evaluate(
        Fixed(scores),
        interactions(test, n_users, n_items),
        seen=interactions(seen, n_users, n_items),
        candidates=candidates,
        k=k,
    )
    b = evaluate(
        Fixed(renamed),
        interactions({(u, int(new_code[i])) for u, i in test}, n_users, n_items),
        seen=interactions({(u, int(new_code[i])) for u, i in seen}, n_users, n_items),
        candidates=new_code[candidates],
        k=k,
    )
    pd.testing.assert_frame_equal(a.per_user, b.per_user)


def test_seen_items_do_not_take_places():
    test, seen = interactions([(0, 3)], 1, 5), interactions([(0, 0), (0, 1)], 1, 5)
    model = Fixed([[9, 8, 7, 6, 5]])
    assert evaluate(model, test, seen=seen).ranks["rank"].tolist() == [2]
    assert evaluate(model, test, seen=None).ranks["rank"].tolist() == [4]
    assert evaluate(model, test, seen=seen, candidates=[3, 4]).ranks["rank"].tolist() == [1]


def test_constant_scores_rank_like_chance():
    n_users, n_items = 4000, 50
    items = np.arange(n_users) % n_items
    test = interactions(list(zip(range(n_users), items, strict=True)), n_users, n_items)
    expected = np.mean([1 / math.log2(1 + rank) if rank <= 10 else 0 for rank in range(1, n_items + 1)])
    for model in (Fixed(np.ones((n_users, n_items))), RandomModel(1).fit(test)):
        result = evaluate(model, test, seen=None)
        assert result.mean("hit") == pytest.approx(10 / n_items, abs=0.025)  # 4 standard errors
        assert result.mean("ndcg") == pytest.approx(expected, abs=0.013)
        by_item = result.ranks.groupby("item")["rank"].mean()
        assert by_item.between(15, 36).all()  # no item is favoured: 25.5 ± 5 standard errors


def test_the_tie_rule_is_seeded_and_does_not_depend_on_blocks():
    test = interactions([(user, user % 7) for user in range(30)], 30, 7)
    constant = Fixed(np.zeros((30, 7)))
    first = evaluate(constant, test, seen=None, k=3)
    again = evaluate(constant, test, seen=None, k=3, block=4)
    other = evaluate(constant, test, seen=None, k=3, tie_seed=1)
    pd.testing.assert_frame_equal(first.ranks, again.ranks)
    assert (first.ranks["rank"] != other.ranks["rank"]).any()
    # ties only reorder equal scores: a clear winner stays first, a clear loser last
    scores = np.tile([5.0, 1, 1, 1, 1, 1, 0], (30, 1))
    ranks = evaluate(Fixed(scores), test, seen=None).ranks
    assert (ranks.loc[ranks["item"] == 0, "rank"] == 1).all()
    assert (ranks.loc[ranks["item"] == 6, "rank"] == 7).all()
    assert ranks.loc[ranks["item"].between(1, 5), "rank"].between(2, 6).all()


def test_several_tied_items_of_a_user_get_different_ranks():
    test = interactions([(0, 0), (0, 1), (0, 2)], 1, 3)
    ranks = evaluate(Fixed(np.zeros((1, 3))), test, seen=None).ranks["rank"]
    assert sorted(ranks) == [1, 2, 3]


def test_masked_items_take_no_part_in_ties():
    test, seen = interactions([(0, 2)], 1, 4), interactions([(0, 0), (0, 1), (0, 3)], 1, 4)
    assert evaluate(Fixed(np.zeros((1, 4))), test, seen=seen).ranks["rank"].tolist() == [1]
    assert evaluate(Fixed(np.full((1, 4), -np.inf)), test, seen=seen).ranks["rank"].tolist() == [1]


def test_users_without_test_items_are_skipped():
    result = evaluate(Fixed(np.eye(3)), interactions([(2, 2)], 3, 3), seen=None)
    assert result.users.tolist() == [2]
    assert result.mean("mrr") == 1.0


@pytest.mark.parametrize(
    ("scores", "test", "options", "message"),
    [
        (np.eye(2), [], {}, "test part is empty"),
        ([[0, np.nan]] * 2, [(1, 0)], {}, r"NaN scores, among others to users \[1\]"),
        (np.eye(3)[:2], [(0, 1)], {}, r"shape \(1, 3\), not \(1, 2\)"),
        (np.eye(2), [(0, 1)], {"seen": [(0, 1)]}, r"seen them already.*\[\(0, 1\)\]"),
        (np.eye(2), [(0, 1)], {"candidates": [0]}, "no candidates"),
        (np.eye(2), [(0, 1)], {"candidates": []}, "non-empty"),
        (np.eye(2), [(0, 1)], {"candidates": [0.5]}, "integer item codes"),
        (np.eye(2), [(0, 1)], {"candidates": [1, 2]}, r"0\.\.1"),
        (np.eye(2), [(0, 1)], {"k": 0}, "at least 1"),
        (np.eye(2), [(0, 1)], {"block": 0}, "at least 1"),
    ],
)
def test_errors_say_what_is_wrong(scores, test, options, message):
    options = dict(options)
    seen = interactions(options.pop("seen"), 2, 2) if "seen" in options else None
    with pytest.raises(ValueError, match=message):
        evaluate(Fixed(scores), interactions(test, 2, 2), seen=seen, **options)


def test_seen_of_another_size_is_refused():
    with pytest.raises(ValueError, match="seen covers"):
        evaluate(Fixed(np.eye(2)), interactions([(0, 1)], 2, 2), seen=interactions([(0, 0)], 2, 3))


def test_recommend_agrees_with_evaluate():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 4, size=(20, 15)).astype(float)  # many ties
    seen = interactions([(user, user % 15) for user in range(20)], 20, 15)
    test = interactions([(user, (user + 5) % 15) for user in range(20)], 20, 15)
    lists = recommend(Fixed(scores), np.arange(20), seen=seen, k=14)
    ranks = evaluate(Fixed(scores), test, seen=seen).ranks
    for row in ranks.itertuples():
        assert lists[row.user, row.rank - 1] == row.item
    assert recommend(Fixed(scores), [3], seen=None, candidates=[4, 6], k=2).shape == (1, 2)
    with pytest.raises(ValueError, match=r"fewer than k = 15 .*\[0, 1"):
        recommend(Fixed(scores), np.arange(20), seen=seen, k=15)
    with pytest.raises(ValueError, match="NaN"):
        recommend(Fixed([[np.nan, 1.0]]), [0], seen=None, k=1)


def result(values, users=None, name="model", k=10):
    values = np.asarray(values, dtype=float)
    users = np.arange(len(values)) if users is None else users
    table = pd.DataFrame(
        dict.fromkeys(("hit", "ndcg", "mrr", "recall"), values), index=pd.Index(users, name="user")
    )
    return Result(name, k, table, pd.DataFrame())


def test_interval_against_the_normal_approximation_and_a_loop():
    values = np.random.default_rng(3).beta(0.3, 1.5, size=800)
    low, high = result(values).interval()
    half = 1.96 * values.std(ddof=1) / math.sqrt(800)
    assert low == pytest.approx(values.mean() - half, abs=0.0015)
    assert high == pytest.approx(values.mean() + half, abs=0.0015)
    rng = np.random.default_rng(1)
    means = sorted(np.mean(rng.choice(values, size=800)) for _ in range(2000))
    assert (low, high) == pytest.approx((means[50], means[1949]), abs=0.0015)
    narrow = result(values).interval(level=0.5)
    assert low < narrow[0] < narrow[1] < high
    assert result(values).interval() == (low, high)
    assert result(values).interval(seed=1) != (low, high)


def test_result_prints_its_numbers():
    text = repr(result([0.25] * 4, name="Popularity"))
    assert text == "Popularity: NDCG@10 = 0.2500 [0.2500, 0.2500], HR@10 = 0.2500, 4 users"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: r.mean("auc"), "metric must be one of hit, ndcg"),
        (lambda r: r.interval(level=1.0), "level"),
        (lambda r: compare(r, result([1.0] * 5, users=range(1, 6))), "same users"),
        (lambda r: compare(r, result([1.0] * 4)), "same users"),
        (lambda r: compare(r, result([1.0] * 5, k=5)), "same k"),
        (lambda r: compare([r, result([1.0] * 4)], r), "same users"),
        (lambda r: compare(r, [r, result([1.0] * 4)]), "same users"),
        (lambda r: compare(r, []), "empty list"),
        (lambda r: smallest_detectable(r, other=result([1.0] * 4)), "same users"),
        (lambda r: smallest_detectable(r, power=1.0), "power"),
        (lambda r: smallest_detectable(result([1.0])), "at least 2 users"),
    ],
)
def test_misuse_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(result([0.5] * 5))


def test_compare_is_paired_and_two_sided():
    rng = np.random.default_rng(0)
    base = rng.random(400)
    better = base + rng.normal(0.02, 0.05, 400)
    order = rng.permutation(400)
    shuffled = result(better[order], users=order)  # pairs are matched by user code, not by position
    found = compare(shuffled, result(base))
    assert found.difference == pytest.approx(np.mean(better - base))
    assert found.low > 0 and found.p_value < 0.001
    half = 1.96 * np.std(better - base, ddof=1) / 20
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)
    back = compare(result(base), shuffled)
    assert back.difference == pytest.approx(-found.difference)
    assert back.high < 0 and back.p_value < 0.001
    assert str(found).endswith("p < 0.001")
    same = compare(result(base), result(base))
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    assert str(same) == "+0.0000 [+0.0000, +0.0000], p = 1.000"


def test_p_values_are_uniform_without_a_difference():
    rng = np.random.default_rng(5)
    p = [compare(result(rng.random(60)), result(rng.random(60))).p_value for _ in range(200)]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.05)
    assert np.mean(np.array(p) < 0.5) == pytest.approx(0.5, abs=0.12)


def test_compare_means_over_seeds():
    a = [result([0.1, 0.5, 0.3]), result([0.3, 0.7, 0.5])]
    assert compare(a, result([0.1, 0.5, 0.3])).difference == pytest.approx(0.1)


def test_smallest_detectable_against_simulated_power():
    rng = np.random.default_rng(1)
    base = rng.random(300)
    other = base + rng.normal(0, 0.2, 300)
    effect = smallest_detectable(result(base), other=result(other))
    spread = np.std(base - other, ddof=1)
    found = [abs(t) > 1.96 for t in rng.normal(effect / (spread / math.sqrt(300)), 1, 20000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.015)
    assert smallest_detectable(result(base), power=0.5) == pytest.approx(
        1.96 * base.std(ddof=1) / math.sqrt(300), rel=1e-3
    )


class Cells(HTMLParser):
    """Collects the text of the header and body cells of a table."""

    def __init__(self, text):
        super().__init__()
        self.cells, self.open = [], None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag in ("th", "td", "caption"):
            self.open = tag
            self.cells.append([tag, dict(attributes).get("scope"), ""])

    def handle_endtag(self, tag):
        self.open = None

    def handle_data(self, data):
        if self.open:
            self.cells[-1][2] += data


def test_report_table_text_and_html():
    report = Report("leave-one-out <all items>")
    report.add(result([0.1, 0.2, 0.3], name="A & B"))
    report.add([result([0.2, 0.2, 0.2]), result([0.4, 0.4, 0.4])], "two seeds")
    table = report.table()
    assert table.index.name == "method 方法"
    assert list(table.columns) == ["HR@10", "NDCG@10", "95% CI 区间", "MRR@10", "seeds 种子"]
    assert table.loc["A & B", "NDCG@10"] == "0.2000"
    assert table.loc["two seeds"].tolist() == [
        "0.3000 ± 0.1414", "0.3000 ± 0.1414", "[0.3000, 0.3000]", "0.3000 ± 0.1414", "2",
    ]  # fmt: skip
    values = report.values()
    assert values.loc["two seeds", "ndcg_sd"] == pytest.approx(np.std([0.2, 0.4], ddof=1))
    assert math.isnan(values.loc["A & B", "ndcg_sd"])
    low, high = report["A & B"].interval()
    assert (values.loc["A & B", "low"], values.loc["A & B", "high"]) == pytest.approx((low, high))
    assert len(report["two seeds"]) == 2
    cells = Cells(report._repr_html_()).cells
    assert all(text.strip() for _, _, text in cells)
    assert cells[0] == ["caption", None, "leave-one-out <all items>"]
    assert [scope for tag, scope, _ in cells if tag == "th"] == ["col"] * 6 + ["row"] * 2
    assert ["th", "row", "A & B"] in cells
    lines = repr(report).splitlines()
    assert lines[0] == "leave-one-out <all items>"
    assert lines[1] == "method 方法 | HR@10 | NDCG@10 | 95% CI 区间 | MRR@10 | seeds 种子"
    assert lines[2].startswith("A & B | 0.2000 | 0.2000 | [0.1")


def test_report_rows_of_a_name_are_replaced_and_k_must_agree():
    report = Report("p")
    assert report.table().empty and report.values().empty
    report.add(result([0.1]))
    report.add(result([0.4]))
    assert report.values().loc["model", "ndcg"] == 0.4
    with pytest.raises(ValueError, match="same k"):
        report.add(result([0.1], k=5), "other")
    with pytest.raises(ValueError, match="empty list"):
        report.add([])


def test_report_over_splits_with_different_users():
    rng = np.random.default_rng(2)
    person = rng.random(300)  # the same people do well in every split
    parts = [rng.choice(300, 240, replace=False) for _ in range(3)]
    results = [result(person[users], users=users) for users in parts]
    report = Report("p")
    report.add(results, "splits")
    row = report.values().loc["splits"]
    assert row["ndcg"] == pytest.approx(np.mean([r.mean() for r in results]))
    assert row["low"] < row["ndcg"] < row["high"]
    # people are resampled, not (person, split) pairs: the interval is about as wide as with 300 people
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * person.std() / math.sqrt(300), rel=0.15)


def mmr_by_loop(scores, vectors, k, balance):
    """Maximal marginal relevance of one user, written out."""
    similar, chosen = cosine(vectors, vectors), []
    for _ in range(k):
        best, best_value = None, -math.inf
        for item, score in enumerate(scores):
            if item in chosen or score == -math.inf:
                continue
            nearest = max((similar[item, other] for other in chosen), default=0.0)
            value = balance * score - (1 - balance) * nearest if chosen else score
            if value > best_value:
                best, best_value = item, value
        chosen.append(best)
    return chosen


@given(st.integers(0, 2**31), st.integers(1, 5), st.sampled_from([0.0, 0.3, 0.7, 1.0]))
def test_mmr_against_a_loop(seed, k, balance):
    rng = np.random.default_rng(seed)
    scores, shared = rng.random((4, 9)), rng.normal(size=(9, 3))
    scores[np.arange(4), rng.integers(9, size=4)] = -np.inf
    expected = [mmr_by_loop(row, shared, k, balance) for row in scores]
    assert mmr(scores, shared, k, balance).tolist() == expected
    own = rng.normal(size=(4, 9, 3))
    expected = [mmr_by_loop(row, vectors, k, balance) for row, vectors in zip(scores, own, strict=True)]
    assert mmr(scores, own, k, balance).tolist() == expected


def test_mmr_leaves_out_a_double():
    vectors = [[1, 0], [1, 0], [0, 1]]
    assert mmr([[1.0, 0.9, 0.5]], vectors, 2, balance=0.5).tolist() == [[0, 2]]
    assert mmr([[1.0, 0.9, 0.5]], vectors, 2, balance=1.0).tolist() == [[0, 1]]
    for scores, k, balance, message in (
        ([[1.0, np.nan, 0.0]], 2, 0.5, "NaN"),
        ([[1.0, np.inf, 0.0]], 2, 0.5, "NaN"),
        ([[1.0, -np.inf, 0.0]], 3, 0.5, "at least k = 3"),
        ([[1.0, 0.5, 0.0]], 2, 1.5, "balance"),
        ([[1.0, 0.5]], 2, 0.5, "fit together"),
    ):
        with pytest.raises(ValueError, match=message):
            mmr(scores, vectors, k, balance)


def test_diverse_lists_keep_the_rules_and_are_more_diverse():
    rng = np.random.default_rng(5)
    scores, vectors = rng.random((6, 30)), rng.normal(size=(30, 4))
    seen = interactions({(user, int(item)) for user in range(6) for item in rng.permutation(30)[:5]}, 6, 30)
    model, users = Fixed(scores), np.arange(6)
    plain = recommend(model, users, seen=seen, k=5)
    options = {"seen": seen, "k": 5, "pool": 15}
    assert (recommend_diverse(model, users, vectors, balance=1.0, **options) == plain).all()
    diverse = recommend_diverse(model, users, vectors, balance=0.3, **options)
    assert (diverse[:, 0] == plain[:, 0]).all()  # the best item stays
    pool = recommend(model, users, seen=seen, k=15)
    assert all(set(row) <= set(best) and len(set(row)) == 5 for row, best in zip(diverse, pool, strict=True))
    distance = metrics.intra_list_distance
    assert distance(diverse, vectors).mean() > distance(plain, vectors).mean() + 0.1
    with pytest.raises(ValueError, match="pool"):
        recommend_diverse(model, users, vectors, seen=seen, k=5, pool=4)
