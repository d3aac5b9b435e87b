"""A reader's own data: what is mended is said, what is measured is what is saved, and nothing ends in a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recsys_lib.__main__ import main
from recsys_lib.datasets import DataError
from recsys_lib.evaluation import compare, evaluate
from recsys_lib.geometry import center
from recsys_lib.models import EASE, ContentModel, Popularity, RidgeToScores, WeightedFusion
from recsys_lib.own_data import OwnData, encode_own, example_files, read_own
from recsys_lib.own_recommender import (
    HonestTable,
    OwnRecommender,
    Settings,
    _shuffled,
    difference,
    evaluate_own,
    fit_own,
    over_splits,
    shuffled_rows,
    write_whole,
)
from recsys_lib.splits import leave_one_out

TOPICS = ("tea", "chess", "ski", "lamp")


def made(
    seed: int = 0, n_users: int = 60, n_items: int = 80
) -> tuple[pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Users with one topic each: rows with times and ratings, items with texts, and vectors that tell the topic."""
    rng = np.random.default_rng(seed)
    topic = np.arange(n_items) % len(TOPICS)
    rows = []
    for user in range(n_users):
        weight = np.where(topic == user % len(TOPICS), 12.0, 1.0) / (1 + np.arange(n_items)) ** 0.3
        weight[-3:] = 0  # three items that nobody takes
        taken = rng.choice(n_items, 6, replace=False, p=weight / weight.sum())
        rows += [
            (f"u{user}", f"i{item}", 1_600_000_000 + 86400 * step + user, int(rng.integers(1, 6)))
            for step, item in enumerate(taken)
        ]
    items = pd.DataFrame(
        {
            "item_id": [f"i{item}" for item in range(n_items)],
            "title": [f"Thing {item}" for item in range(n_items)],
            "text": [f"about {TOPICS[t]}" for t in topic],
        }
    )
    vectors = np.eye(len(TOPICS))[topic] + 0.1 * rng.standard_normal((n_items, len(TOPICS)))
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "rating"]), items, vectors


def said(data: OwnData) -> str:
    return "\n".join(note.en for note in data.notes)


@pytest.fixture(scope="module")
def planted() -> tuple[OwnData, np.ndarray, HonestTable]:
    rows, items, vectors = made()
    data = read_own(rows, items)
    return data, vectors, evaluate_own(data, vectors, cold_seeds=4)


# --- Three data sets of different shape


def test_rated_and_dated_with_texts(planted: tuple[OwnData, np.ndarray, HonestTable]) -> None:
    data, _, table = planted
    assert (data.ordered, data.multilingual, data.described.all()) == (True, False, True)
    assert "Ratings from 1 to 5: every row counts" in said(data)
    assert table.warm is not None and table.cold is not None
    split = leave_one_out(data.dataset)
    chosen = table.settings
    ease = EASE(chosen.regularization, chosen.decay).fit(split.fit_part)
    direct = evaluate(ease, split.test, seen=split.fit_part)
    row = table.warm.rows["EASE-recency 近期加权"][0]
    assert row.per_user.equals(direct.per_user)
    # the planted topic is what tells new items apart, and the control knows
    cold = table.cold.values()["ndcg"]
    assert cold["fusion 融合"] > cold["random 随机"] + 0.1 > 0.1
    assert cold["fusion 融合"] > cold["fusion, texts shuffled 打乱文本"] + 0.1
    assert next(v.en for v in table.verdicts if v.en.startswith("cold")).endswith(": above.")
    assert set(table.warm.rows) >= {"random 随机", "popularity 热门", "text 文本", "fusion 融合"}
    assert "warm: fusion" in table.text("en") and "常规：融合" in table.text("zh")


def test_chinese_without_times_or_ratings(tmp_path: Path) -> None:
    rows, items, vectors = made(1)
    words = dict(zip(TOPICS, ("茶叶", "象棋", "滑雪", "台灯"), strict=True))
    zh = pd.DataFrame(
        {"编号": items["item_id"], "名称": "物品", "描述": ["关于" + words[t[6:]] for t in items["text"]]}
    )
    (tmp_path / "b.csv").write_bytes(
        zh.rename(columns={"编号": "商品编号"}).to_csv(sep=";", index=False).encode("gb18030")
    )
    two = rows[["user_id", "item_id"]].set_axis(["用户", "商品"], axis=1)
    (tmp_path / "a.csv").write_bytes(two.to_csv(sep="\t", index=False).encode("utf-8-sig"))
    data = read_own(tmp_path / "a.csv", tmp_path / "b.csv")
    assert data.multilingual and not data.ordered
    assert data.dataset.texts[0] == "物品。关于茶叶"
    assert "b.csv is read as gb18030" in said(data) and "drawn at random" in said(data)
    table = evaluate_own(data, vectors, cold_seeds=1)
    assert table.warm is not None and "a random row of each user" in table.warm.protocol
    split = leave_one_out(shuffled_rows(data.dataset.interactions, 0))
    popular = evaluate(Popularity().fit(split.fit_part), split.test, seen=split.fit_part)
    assert table.warm.rows["popularity 热门"][0].per_user.equals(popular.per_user)
    assert "EASE" in table.warm.rows and table.settings.decay == table.settings.text_decay == 1.0
    again = evaluate_own(data, vectors, cold_seeds=1)
    assert again.text() == table.text()  # equal seeds, equal results


def test_messy_rows_are_mended_and_counted() -> None:
    rows = pd.DataFrame(
        {
            "Customer ID": ["7.0", "7.0", "7.0", "8.0", "8.0", "", "8.0", "9.0"],
            "SKU": ["a ", "b", "a", "a", "c", "a", "zz", "b"],
            "Event Time": [
                "2024/5/31 8:00",
                "2024年6月1日",
                "2024/05/30",
                "2024-06-01T00:00:00+08:00",
                *["2024/6/2"] * 4,
            ],
            "stars": ["5", "4", "3", "2", "5", "5", "4", "4"],
        }
    )
    items = pd.DataFrame(
        {
            "sku": ["a", "b", "a", "", "d"],
            "name": ["Apple", "", "x", "y", ""],
            "description": ["red", "Bread. Long", "", "", ""],
        }
    )
    data = read_own(rows, items, min_rating=3)
    frame = data.dataset.interactions.frame
    pairs = [
        (data.dataset.users["user_id"][u], data.dataset.items["item_id"][i])
        for u, i in frame[["user", "item"]].to_numpy()
    ]
    assert sorted(pairs) == [("7", "a"), ("7", "b"), ("8", "c"), ("8", "zz"), ("9", "b")]
    kept = frame[(frame["user"] == frame["user"].iloc[0]) & (frame["timestamp"] == frame["timestamp"].min())]
    assert (
        kept["timestamp"].iloc[0] == pd.Timestamp("2024-05-30", tz="UTC").timestamp()
    )  # the earliest "7, a"
    assert kept["rating"].iloc[0] == 3  # a rating equal to the threshold stays
    notes = said(data)
    for part in (
        "1 of 8 rows have no user or item",
        "1 of 7 rows are rated below 3",
        "1 of 6 rows repeat",
        "of items repeat an id",
        "2 items of the interactions are not in the table",
        "3 of 5 items have neither",
    ):
        assert part in notes, part
    assert dict(zip(data.dataset.items["item_id"], data.dataset.texts, strict=True))["a"] == "Apple. red"
    assert (
        dict(zip(data.dataset.items["item_id"], data.dataset.items["title"], strict=True))["b"]
        == "Bread. Long"
    )
    assert evaluate_own(data).warm is None  # no user has three rows, and that is said
    assert "no user has 3 rows" in evaluate_own(data).text()


@pytest.mark.parametrize(
    ("written", "first"),
    [
        (["1717113600", "1717200000"], 1717113600.0),
        (["1717113600000", "1717200000000"], 1717113600.0),
        (["1717113600000000000", "1717200000000000000"], 1717113600.0),
        (["20240531", "20240601"], 1717113600.0),
        (["2024-05-31", "2024-06-01 10:00"], 1717113600.0),
        (["2024年5月31日", "2024/6/1"], 1717113600.0),
        (["31/05/2024", "01/06/2024"], None),  # which is the month? not guessed
    ],
)
def test_times_in_many_forms(written: list[str], first: float | None) -> None:
    data = read_own(pd.DataFrame({"user": ["a", "b"], "item": ["x", "y"], "time": written}))
    if first is None:
        assert not data.ordered and "'timestamp' is left out: 2 of 2" in said(data)
    else:
        assert data.dataset.interactions.timestamps[0] == pytest.approx(first)


def test_a_few_bad_values_cost_rows_many_cost_the_column() -> None:
    rows = pd.DataFrame(
        {"user": [f"u{n}" for n in range(20)], "item": "x", "rating": ["4"] * 20, "time": range(20)}
    ).astype(str)
    rows.loc[3, "rating"] = "good"
    few = read_own(rows)
    assert len(few.dataset.interactions) == 19 and "1 of 20 rows have no usable rating" in said(few)
    rows.loc[:5, "rating"] = "good"
    many = read_own(rows)
    assert len(many.dataset.interactions) == 20 and "'rating' is left out: 6 of 20" in said(many)
    same = read_own(rows.assign(time="5"))
    assert not same.ordered and "All times are equal" in said(same)


# --- What is measured is what is saved


def test_the_saved_recommender_scores_like_the_fusion_that_was_measured(
    planted: tuple[OwnData, np.ndarray, HonestTable], tmp_path: Path
) -> None:
    data, vectors, _ = planted
    rows = data.dataset.interactions
    chosen = Settings(50.0, 0.85, 0.7, (1.0, 0.4, 0.2), 0.3, (1.0, 0.3))
    fit_own(data, vectors, chosen).save(tmp_path / "m.npz")
    model = OwnRecommender.load(tmp_path / "m.npz")
    assert model.settings == chosen
    parts = [EASE(50.0, 0.85), ContentModel(center(vectors), decay=0.7), Popularity()]
    fusion = WeightedFusion(parts, chosen.mix).fit(rows).score(np.arange(rows.n_users))
    unseen = rows.matrix().toarray() == 0
    ours = model.score(rows)
    assert np.isneginf(ours[~unseen]).all()
    np.testing.assert_allclose(ours[unseen], fusion[unseen], atol=2e-4)
    unmet = np.flatnonzero(rows.matrix().getnnz(axis=0) == 0)
    assert len(unmet) == 3
    new = WeightedFusion(
        [RidgeToScores(vectors, EASE(50.0, 0.85), 0.3, gamma=1.0), parts[1]], chosen.new_mix, candidates=unmet
    ).fit(rows)
    np.testing.assert_allclose(
        model.score(rows, new=True)[:, unmet], new.score(np.arange(rows.n_users))[:, unmet], atol=2e-3
    )
    assert set(model.recommend(["i1", "i5"], 10, new=True)["item_id"]) == {f"i{item}" for item in unmet}


def test_predictions_are_every_users_list(planted: tuple[OwnData, np.ndarray, HonestTable]) -> None:
    data, vectors, table = planted
    model = fit_own(data, vectors, table.settings)
    lists = model.predictions(data, k=3, block=7)
    assert len(lists) == 3 * data.dataset.n_users
    history = [data.dataset.items["item_id"][item] for item in data.dataset.interactions.histories()[11]]
    user = data.dataset.users["user_id"][11]
    mine = lists[lists["user_id"] == user]
    assert mine["rank"].tolist() == [1, 2, 3]
    assert mine["item_id"].tolist() == model.recommend(history, 3)["item_id"].tolist()
    assert not set(mine["item_id"]) & set(history)


@pytest.mark.parametrize("new", [False, True])
def test_contributions_add_up_to_the_score(
    planted: tuple[OwnData, np.ndarray, HonestTable], new: bool
) -> None:
    data, vectors, _ = planted
    chosen = Settings(50.0, 0.85, 0.7, (1.0, 0.4, 0.2), 0.3, (1.0, 0.3))
    model = fit_own(data, vectors, chosen)
    history = ["i0", "i9", "i4"]
    listed = model.recommend(history, 3, new=new)
    for item, score in zip(listed["item_id"], listed["score"], strict=True):
        table = model.explain(history, item, new=new)
        assert table.to_numpy().sum() == pytest.approx(score, abs=1e-5)
        assert (table.iloc[:3, :2] != 0).all().all() and (table.iloc[:3, 2] == 0).all()
    # without an item of the history, the collaborative part loses what the table says (before scaling)
    assert model.weights is not None
    target = model.code[model.recommend(history, 1)["item_id"][0]]
    share = model.explain(history, model.item_ids[target])["collaborative 协同"].iloc[:3].to_numpy()
    weighed = np.array([0.85**2, 0.85, 1.0]) * model.weights[[0, 9, 4], target]
    np.testing.assert_allclose(share / share.sum(), weighed / weighed.sum(), rtol=1e-5)
    with pytest.raises(ValueError, match="cannot be recommended"):
        model.explain(history, "i9")


def test_a_stranger_gets_popularity_and_unknown_items_are_named(
    planted: tuple[OwnData, np.ndarray, HonestTable],
) -> None:
    data, vectors, _ = planted
    model = fit_own(data, vectors, Settings(mix=(1.0, 0.4, 0.0)))
    counts = Popularity().fit(data.dataset.interactions).counts
    assert model.recommend([], 1)["item_id"][0] == f"i{int(counts.argmax())}"
    assert model.explain([], "i5").to_numpy().sum() == counts[5]
    with pytest.raises(ValueError, match=r"does not know: .'nothing'"):
        model.recommend(["i1", "nothing"])
    twice = model.recommend(["i1", "i2", "i1"], 3)
    pd.testing.assert_frame_equal(twice, model.recommend(["i2", "i1"], 3))


def test_no_pickle_and_no_half_files(
    planted: tuple[OwnData, np.ndarray, HonestTable], tmp_path: Path
) -> None:
    evil = tmp_path / "evil.npz"
    np.savez(evil, about=np.array([{"a": 1}], dtype=object))
    for path in (evil, Path(__file__), tmp_path / "none.npz"):
        with pytest.raises(DataError, match=r"no such file|no recommender"):
            OwnRecommender.load(path)
    target = tmp_path / "kept.csv"
    target.write_text("before")

    def fails(file: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise RuntimeError("out of ink")

    with pytest.raises(RuntimeError, match="ink"):
        write_whole(target, fails)
    assert target.read_text() == "before" and sorted(p.name for p in tmp_path.iterdir()) == [
        "evil.npz",
        "kept.csv",
    ]
    (tmp_path / "folder").mkdir()
    for taken in ("no/such.csv", "kept.csv/such.csv", "folder"):
        with pytest.raises(DataError, match="cannot be written"):
            write_whole(tmp_path / taken, lambda file: file.write(b""))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evil.npz", "folder", "kept.csv"]


# --- Parts


def test_difference_is_the_paired_one_and_averages_over_splits(
    planted: tuple[OwnData, np.ndarray, HonestTable],
) -> None:
    _, _, table = planted
    assert table.warm is not None
    (a,), (b,) = table.warm.rows["fusion 融合"], table.warm.rows["random 随机"]
    mean, low, high = difference([a], [b])
    known = compare(a, b)
    assert mean == pytest.approx(known.difference)
    assert (low, high) == pytest.approx((known.low, known.high), abs=0.01)

    class Two:
        def __init__(self, users: list[int], values: list[float]) -> None:
            self.per_user = pd.DataFrame({"ndcg": values}, index=users)

    first, second = Two([1, 2], [1.0, 0.5]), Two([2], [0.1])
    zero = [Two([1, 2], [0.0, 0.0]), Two([2], [0.0])]
    assert difference([first, second], zero)[0] == pytest.approx((1.0 + (0.5 + 0.1) / 2) / 2)  # type: ignore[list-item]


def test_noise_in_place_of_text_is_not_proven_to_help() -> None:
    rows, items, vectors = made(2)
    noise = np.random.default_rng(5).standard_normal(vectors.shape)
    verdicts = {
        verdict.en.split(":")[1]: verdict.en
        for verdict in evaluate_own(read_own(rows, items), noise).verdicts
    }
    assert "not proven" in verdicts[" fusion − random"]


def test_the_interval_over_splits_is_students() -> None:
    rows, items, vectors = made(3, n_users=30)
    cold = evaluate_own(read_own(rows, items), vectors, cold_seeds=4).cold
    assert cold is not None
    a, b = cold.rows["fusion 融合"], cold.rows["random 随机"]
    each = [x.mean() - y.mean() for x, y in zip(a, b, strict=True)]
    known = stats.ttest_1samp(each, 0).confidence_interval(0.95)
    assert over_splits(a, b) == pytest.approx((known.low, known.high))


def test_few_users_prove_nothing_and_equal_rows_do_not_differ() -> None:
    rows, items, vectors = made(n_users=9)
    few = evaluate_own(read_own(rows, items), vectors, cold_seeds=2).verdicts
    assert len(few) == 4 and all("not proven, too few users" in verdict.en for verdict in few)
    data = read_own(rows.assign(user_id=rows["user_id"] + "a"), items)
    once = evaluate_own(data, vectors, cold_seeds=1)
    assert "One split of the items is no basis" in once.text() and len(once.verdicts) == 2
    assert "no split of the items was asked for" in evaluate_own(data, vectors, cold_seeds=0).text()
    assert (
        evaluate_own(read_own(*made()[:2]), max_items=0)
        .verdicts[0]
        .en.endswith("no difference for any user.")
    )


def test_without_times_the_held_out_row_is_random_but_seeded() -> None:
    rows, items, _ = made()
    data = read_own(rows.drop(columns="timestamp"), items).dataset.interactions
    a, b, c = (shuffled_rows(data, seed) for seed in (0, 0, 1))
    assert a.frame.equals(b.frame) and not a.frame.equals(c.frame)
    assert (a.matrix() != data.matrix()).nnz == 0
    last = leave_one_out(a).test.items
    assert (last != leave_one_out(data).test.items).mean() > 0.5


def test_shuffling_moves_only_texts_that_exist() -> None:
    vectors, described = np.arange(12.0)[:, None], np.arange(12) % 3 > 0
    moved = _shuffled(vectors, described, 0)
    assert sorted(moved.ravel()) == sorted(vectors.ravel())
    assert (moved[~described] == vectors[~described]).all() and (moved[described] != vectors[described]).any()


def test_each_split_of_the_items_has_controls_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, items, vectors = made()
    orders: list[bytes] = []

    def spy(vectors: np.ndarray, described: np.ndarray, seed: int) -> np.ndarray:
        orders.append(_shuffled(np.arange(len(vectors)), described, seed).tobytes())
        return _shuffled(vectors, described, seed)

    monkeypatch.setattr("recsys_lib.own_recommender._shuffled", spy)
    table = evaluate_own(read_own(rows, items), vectors, cold_seeds=3)
    assert table.cold is not None and len(orders) == 4  # once for known items, once for each split
    assert len(set(orders[1:])) == 3


def test_the_shop_and_the_packages_are_readable() -> None:
    shop = read_own(*example_files("shop"), columns={"name_en": "title", "description_en": "text"})
    assert (shop.dataset.n_users, shop.dataset.n_items, shop.ordered) == (42, 64, True)
    packages = read_own(*example_files("packages"), columns={"package": "user_id", "requires": "item_id"})
    assert not packages.ordered and (packages.dataset.n_users, packages.described.sum()) == (165, 222)
    quoted = pd.read_csv(example_files("packages")[1])
    assert (quoted["summary"].isna() == quoted["licence"].isna()).all()  # every quotation has its licence
    assert (quoted["summary"].isna() == quoted["version"].isna()).all()
    with pytest.raises(ValueError, match="example must be"):
        example_files("cars")


def test_items_without_a_text_are_near_nothing_not_each_other() -> None:
    rows, items, vectors = made()
    bare = np.arange(len(items)) < 10
    items.loc[bare, ["text", "title"]] = ""
    data = read_own(rows, items)
    filled = np.tile(vectors[~bare].astype(np.float32).mean(axis=0), (len(items), 1))  # as encode_own does
    filled[~bare] = vectors[~bare]
    model = fit_own(data, filled, Settings(mix=(0.0, 1.0, 0.0)))
    assert model.vectors is not None and not model.vectors[bare].any()
    counts = pd.Series(model.counts, index=model.item_ids)  # text says nothing of i0: popularity answers
    assert model.recommend(["i0"], 5)["item_id"].tolist() == (
        counts.drop("i0").sort_values(ascending=False, kind="stable").index[:5].tolist()
    )
    with pytest.raises(ValueError, match="'i0': it has no text"):
        model.similar("i0")
    model.weights = np.eye(len(items), k=7)
    assert model.similar("i0", 1)["item_id"].tolist() == ["i7"]


def test_too_many_items_leave_ease_out(planted: tuple[OwnData, np.ndarray, HonestTable]) -> None:
    data, vectors, _ = planted
    table = evaluate_own(data, vectors, cold_seeds=1, max_items=10)
    assert table.warm is not None and "EASE-recency 近期加权" not in table.warm.rows
    assert table.settings.mix[0] == 0 and "EASE is skipped: 80 items" in table.text()
    model = fit_own(data, vectors, table.settings, max_items=10)
    assert model.weights is None and len(model.recommend(["i1"], 4)) == 4


def test_the_encoder_fits_the_language_and_its_absence_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from recsys_lib import encoders

    asked = []

    class Stub:
        max_length, last_truncated = 7, encoders.Truncated(1, 9)

        def encode(self, texts: list[str], show_progress: bool) -> np.ndarray:
            return np.array([[len(text), 1.0] for text in texts])

    monkeypatch.setattr(encoders.TextEncoder, "from_pretrained", lambda name: asked.append(name) or Stub())
    rows = pd.DataFrame({"user": ["a", "b", "b"], "item": ["x", "y", "z"]})
    items = pd.DataFrame({"item": ["x", "y", "z"], "title": ["green tea", "chess", ""]})
    tea = read_own(rows, items)
    vectors = encode_own(tea)
    assert "1 texts are cut to 7 tokens" in said(tea)
    assert asked == ["all-MiniLM-L6-v2"]
    np.testing.assert_allclose(
        vectors, [[9, 1], [5, 1], [7, 1]]
    )  # an item without text: the mean of the others
    encode_own(read_own(rows, items.assign(title=["绿茶 tea", "象棋棋盘", ""])))
    assert asked[-1] == "multilingual-e5-small"

    def broken(name: str) -> None:
        raise encoders.EncoderError("no such model")

    monkeypatch.setattr(encoders.TextEncoder, "from_pretrained", broken)
    data = read_own(rows, items)
    assert encode_own(data) is None and "Text is skipped: no such model" in said(data)
    bare = read_own(rows)
    assert encode_own(bare) is None and "No text" in said(bare)


# --- The command


def test_the_command_evaluates_predicts_saves_and_recommends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, items, _ = made()
    rows.rename(columns={"user_id": "buyer"}).to_csv(tmp_path / "a.csv", index=False)
    items.to_csv(tmp_path / "b.csv", index=False)
    lists, model = tmp_path / "lists.csv", tmp_path / "m.npz"
    files = ["--interactions", str(tmp_path / "a.csv"), "--items", str(tmp_path / "b.csv")]
    out = ["--predictions", str(lists), "--save", str(model)]
    assert main(["evaluate", *files, "--columns", "buyer=user_id", "--no-text", "--k", "5", *out]) == 0
    printed = capsys.readouterr().out
    for part in (
        "60 users",
        "popularity 热门",
        "EASE-recency",
        "warm: fusion − popularity",
        "cold items is skipped",
    ):
        assert part in printed, part
    written = pd.read_csv(lists)
    assert (
        written.columns.tolist() == ["user_id", "rank", "item_id", "title", "score"] and len(written) == 300
    )
    assert main(["recommend", "--model", str(model), "--history", "i1,i2", "--k", "2"]) == 0
    assert "Why" in capsys.readouterr().out
    assert main(["evaluate", *files, "--columns", "buyer"]) == 2
    assert "write NAME=ROLE" in capsys.readouterr().err
    before = (tmp_path / "a.csv").read_bytes()
    for target, message in (
        ("a.csv", "named twice"),
        ("lists.csv", "named twice"),
        (".", "cannot be written"),
        ("no/m.npz", "cannot be written"),
    ):
        twice = ["--predictions", str(lists), "--save", str(tmp_path / target)]
        assert main(["evaluate", *files, "--columns", "buyer=user_id", *twice]) == 2
        ended = capsys.readouterr()
        assert message in ended.err and not ended.out  # refused before anything is computed
    assert (tmp_path / "a.csv").read_bytes() == before
    with pytest.raises(SystemExit):
        main(["recommend", "--model", str(model), "--k", "0"])
    assert "0 is below 1" in capsys.readouterr().err
    everything = ",".join(items["item_id"])
    assert main(["recommend", "--model", str(model), "--history", everything]) == 0
    assert "Nothing is left to recommend" in capsys.readouterr().out
    assert main(["recommend", "--model", str(model), "--new", "--history", "i1"]) == 2
    assert "without texts new items cannot be told apart" in capsys.readouterr().err
    assert main(["recommend", "--model", str(model), "--history", "nothing"]) == 2
    assert "does not know" in capsys.readouterr().err


def test_what_cannot_be_mended_is_told_without_a_traceback(tmp_path: Path) -> None:
    reviews = tmp_path / "reviews.csv"
    reviews.write_text("Clothing ID,Review Text\n1,nice\n")
    (tmp_path / "ragged.csv").write_text("user,item\na,b,c\n")
    (tmp_path / "empty.csv").write_text("user,item\n,\n")
    for file, message in (
        ("reviews.csv", "Without users nobody's taste"),
        ("ragged.csv", "line 2"),
        ("empty.csv", "no rows are left"),
        ("missing.csv", "cannot be read"),
    ):
        command = [
            sys.executable,
            "-m",
            "recsys_lib",
            "evaluate",
            "--interactions",
            str(tmp_path / file),
            "--no-text",
        ]
        if file == "reviews.csv":
            ended = subprocess.run(command, capture_output=True, text=True, check=False, encoding="utf-8")
            assert (ended.returncode, ended.stdout) == (2, "") and "Traceback" not in ended.stderr
            assert message in ended.stderr
        with pytest.raises(DataError, match=message):
            read_own(tmp_path / file, columns={"Clothing ID": "item_id"} if file == "reviews.csv" else None)
    with pytest.raises(DataError, match="no column 'buyer'"):
        read_own(pd.DataFrame({"user": ["a"], "item": ["b"]}), columns={"buyer": "user_id"})
    (tmp_path / "double.csv").write_text("user,user,item\na,b,c\n")
    with pytest.raises(DataError, match="'user' appears twice"):
        read_own(tmp_path / "double.csv")
    with pytest.raises(DataError, match="separator must be one character"):
        read_own(tmp_path / "double.csv", separator=";;")
    with pytest.raises(DataError, match="all 1 rows are rated below 5"):
        read_own(pd.DataFrame({"user": ["a"], "item": ["b"], "rating": [4]}), min_rating=5)
    with pytest.raises(DataError, match="'who' is no role"):
        read_own(pd.DataFrame({"user": ["a"], "item": ["b"]}), columns={"user": "who"})


def test_the_saved_file_holds_no_user(
    planted: tuple[OwnData, np.ndarray, HonestTable], tmp_path: Path
) -> None:
    data, vectors, table = planted
    fit_own(data, vectors, table.settings).save(tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz", allow_pickle=False) as stored:
        about = json.loads(stored["about"].tobytes())
        shapes = {name: stored[name].shape for name in stored.files if name != "about"}
    assert set(about) == {"format", "item_ids", "titles", "settings"}
    assert all(data.dataset.n_users not in shape for shape in shapes.values()), shapes
