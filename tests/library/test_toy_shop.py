"""The toy shop: its texts, its purchases, and a log whose mess is counted and can be cleaned."""

import csv
import importlib.util
import re
import tomllib
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys_lib.datasets.interactions import DataError
from recsys_lib.datasets.toy_shop import (
    DEPARTMENTS,
    EXPORTED,
    load_article_example,
    load_shop_texts,
    load_toy_shop,
)

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "recsys_lib" / "datasets" / "toy_shop"
CJK = re.compile(r"[\u3400-\u9fff\u3000-\u303f\uff00-\uffef]")

# The counts stated in the data's README.md.
MESS = {
    "rows": 1901,
    "times in ISO form, UTC": 1126,
    "times in ISO form, +08:00": 387,
    "times in seconds": 388,
    "exact duplicates": 40,
    "hidden duplicates": 15,
    "double purchases": 25,
    "unknown products": 15,
    "missing users": 30,
    "test accounts": 20,
    "future times": 12,
    "robot views": 480,
    "guests": 40,
    "names for ids": 20,
    "full-width tags": 25,
    "event names in capitals": 80,
    "stray white space": 60,
}


@pytest.fixture(scope="module")
def shop():
    return load_toy_shop("en")


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("make_toy_events", ROOT / "tools" / "make_toy_events.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parse_times(column):
    seconds = pd.to_numeric(column, errors="coerce")
    dates = pd.to_datetime(column.where(seconds.isna()), format="ISO8601", utc=True)
    return dates.fillna(pd.to_datetime(seconds, unit="s", utc=True))


def normalise(shop):
    """The log with every field in one form, and no row dropped yet."""
    log = shop.events.apply(lambda column: column.str.strip())
    log["event"] = log["event"].str.lower()
    log["value"] = log["value"].str.normalize("NFKC")
    log["event_time"] = parse_times(log["event_time"])
    products = shop.products
    for name in ("name_en", "name_zh"):
        ids = dict(zip(products[name], products["product_id"], strict=True))
        log["product"] = log["product"].replace(ids)
    return log


def robots(log):
    views = log[log["event"] == "view"]
    rate = views.groupby(["user_id", views["event_time"].dt.floor("min")]).size()
    return set(rate[rate > 60].index.get_level_values("user_id"))


def test_article_example_is_exactly_the_articles():
    items, users = load_article_example()
    assert items == {
        "手机": "智能手机，支持5G网络",
        "电脑": "笔记本电脑，配置高性能CPU",
        "耳机": "降噪耳机，音质清晰",
        "衣服": "时尚服装，多种款式可选",
        "鞋子": "运动鞋，舒适透气",
        "包包": "皮质包包，设计精美",
    }
    assert list(items) == ["手机", "电脑", "耳机", "衣服", "鞋子", "包包"]
    assert users == {1: ["手机", "电脑", "耳机"], 2: ["衣服", "鞋子", "包包"]}


def test_article_example_in_english_has_the_same_shape():
    items, users = load_article_example("en")
    assert list(items) == ["Phone", "Computer", "Headphones", "Clothes", "Shoes", "Bag"]
    assert users == {1: ["Phone", "Computer", "Headphones"], 2: ["Clothes", "Shoes", "Bag"]}
    assert not CJK.search(" ".join(items.values()))


@pytest.mark.parametrize("load", [load_toy_shop, load_article_example])
def test_other_languages_are_refused(load):
    with pytest.raises(DataError, match=r"'fr'.*'en' or 'zh'"):
        load("fr")


def test_products_are_balanced_and_unique(shop):
    products = shop.products
    assert products["department"].value_counts().to_dict() == dict.fromkeys(DEPARTMENTS, 16)
    for column in ("product_id", "emoji", "name_en", "name_zh", "description_en", "description_zh"):
        assert products[column].is_unique, column
    assert products.notna().all(axis=None)
    assert (products["emoji"].str.len() == 1).all()
    assert products["emoji"].map(unicodedata.category).eq("So").all()
    assert products.loc[products["article"], "emoji"].tolist() == list("📱💻🎧👕👟👜")


def test_texts_are_in_their_language_and_of_readable_length(shop):
    products = shop.products
    for column in ("name", "description"):
        assert not products[f"{column}_en"].str.contains(CJK).any()
        assert products[f"{column}_zh"].str.contains(r"[\u4e00-\u9fff]").all()
    ours = products[~products["article"]]
    assert ours["description_en"].str.split().str.len().between(12, 30).all()
    assert ours["description_zh"].str.len().between(18, 48).all()
    assert ours["description_zh"].str.endswith("。").all() and ours["description_en"].str.endswith(".").all()
    assert not ours["description_zh"].str.contains(r"[,;:!?]").any()  # Chinese punctuation in Chinese text


def test_descriptions_do_not_give_the_department_away(shop):
    ours = shop.products[~shop.products["article"]]
    assert not ours["description_zh"].str.contains("电子|服装|鞋包|家居|厨房|运动|户外").any()
    english = ours["description_en"].str.lower()
    words = r"\b(?:electronics?|clothing|clothes|home|kitchen|sports?|outdoors?)\b"
    assert not english.str.contains(words).any()


def test_dataset_holds_the_clean_purchases(shop):
    data = shop.dataset
    assert (data.n_users, data.n_items, len(data.interactions)) == (42, 64, 288)
    assert data.texts[0] == "Phone. Smartphone with support for 5G networks"
    assert load_toy_shop("zh").dataset.texts[0] == "手机。智能手机，支持5G网络"
    ids = data.items["item_id"].to_numpy(dtype=object)
    for codes, history in zip(data.interactions.histories(), shop.users["history"], strict=True):
        assert ids[codes].tolist() == history
    assert data.interactions.timestamps.max() < EXPORTED.timestamp()
    assert data.licence == "CC BY 4.0"


def test_users_buy_what_their_taste_names(shop, generator):
    """Each made-up user's history leans to the taste given: far more than the share of products it names."""
    names = dict(zip(shop.products["product_id"], shop.products["name_en"], strict=True))
    ours = shop.users[~shop.users["article"]]
    liked = [
        names[product] in generator.TASTES[user.taste].split(", ")
        for user in ours.itertuples()
        for product in user.history
    ]
    assert np.mean(liked) > 0.5


def test_files_are_what_the_script_makes(generator, tmp_path, capsys):
    generator.main([str(tmp_path)])
    for name in ("users.csv", "purchases.csv", "events.csv"):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes(), name


def test_each_kind_of_mess_has_its_stated_count(shop):
    raw, log = shop.events, normalise(shop)
    known, registered = set(shop.products["product_id"]), set(shop.users["user_id"].astype(str))
    names = set(shop.products["name_en"]) | set(shop.products["name_zh"])
    stripped = raw.apply(lambda column: column.str.strip())
    once = log.drop_duplicates()
    purchases = once[
        (once["event"] == "purchase")
        & once["user_id"].isin(registered)
        & (once["event_time"] < EXPORTED)
        & once["product"].isin(known)
    ]
    bots = robots(log)
    is_test = log["user_id"].str.startswith("test", na=False)
    found = {
        "rows": len(raw),
        "times in ISO form, UTC": raw["event_time"].str.endswith("Z").sum(),
        "times in ISO form, +08:00": raw["event_time"].str.endswith("+08:00").sum(),
        "times in seconds": raw["event_time"].str.isdigit().sum(),
        "exact duplicates": raw.duplicated().sum(),
        "hidden duplicates": log.duplicated().sum() - raw.duplicated().sum(),
        "double purchases": purchases.duplicated(["user_id", "product"]).sum(),
        "unknown products": (~log["product"].isin(known)).sum(),
        "missing users": log["user_id"].isna().sum(),
        "test accounts": is_test.sum(),
        "future times": (log["event_time"] >= EXPORTED).sum(),
        "robot views": log["user_id"].isin(bots).sum(),
        "guests": (log["user_id"].notna() & ~log["user_id"].isin(registered | bots) & ~is_test).sum(),
        "names for ids": stripped["product"].isin(names).sum(),
        "full-width tags": (raw["value"].dropna() != raw["value"].dropna().str.normalize("NFKC")).sum(),
        "event names in capitals": (stripped["event"] != stripped["event"].str.lower()).sum(),
        "stray white space": ((stripped != raw) & raw.notna()).any(axis=1).sum(),
    }
    assert found == MESS


def test_an_obvious_cleaning_recovers_the_purchases(shop):
    log = normalise(shop).drop_duplicates().dropna(subset="user_id")
    log = log[~log["user_id"].isin(robots(log)) & ~log["user_id"].str.startswith("test")]
    log = log[log["product"].isin(shop.products["product_id"]) & (log["event_time"] < EXPORTED)]
    clean = log[log["event"] == "purchase"].sort_values("event_time").drop_duplicates(["user_id", "product"])
    found = {(row.user_id, row.product, int(row.event_time.timestamp())) for row in clean.itertuples()}
    with (FOLDER / "purchases.csv").open(encoding="utf-8", newline="") as file:
        truth = {(row["user_id"], row["product_id"], int(row["timestamp"])) for row in csv.DictReader(file)}
    assert len(clean) == len(truth) == 288
    assert found == truth


@pytest.mark.parametrize("step", ["products", "users", "tests", "future", "double"])
def test_each_cleaning_step_is_needed(shop, step):
    """Leaving out any one step gives purchases that never were."""
    log = normalise(shop)
    keep = {
        "products": log["product"].isin(shop.products["product_id"]),
        "users": log["user_id"].notna(),
        "tests": ~log["user_id"].str.startswith("test", na=False),
        "future": log["event_time"] < EXPORTED,
    }
    keep.pop(step, None)
    log = log[np.logical_and.reduce(list(keep.values()))].drop_duplicates()
    log = log[log["event"] == "purchase"]
    if step != "double":
        log = log.drop_duplicates(["user_id", "product"])
    assert len(log) > 288


def test_robots_hide_what_people_look_at(shop):
    views = normalise(shop).query("event == 'view'")
    people = views[~views["user_id"].isin(robots(views))]
    top = [set(log["product"].value_counts().index[:5]) for log in (views, people)]
    assert len(top[0] & top[1]) <= 1


def test_the_log_says_what_it_may(shop):
    log = normalise(shop)
    assert set(log["event"]) == {"view", "click", "purchase", "tag"}
    assert (log["value"].notna() == (log["event"] == "tag")).all()
    assert shop.events.columns.tolist() == ["event_time", "user_id", "event", "product", "value"]


def test_readme_states_the_counts():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    stated = dict(re.findall(r"^\| ([^|]+?) \| ([\d,]+) \|", text, flags=re.MULTILINE))
    assert {kind: int(count.replace(",", "")) for kind, count in stated.items()} == MESS


def test_data_files_are_packaged():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    globs = settings["tool"]["setuptools"]["package-data"]["recsys_lib"]
    packaged = {path for glob in globs for path in (ROOT / "recsys_lib").glob(glob)}
    assert {FOLDER / f"{name}.csv" for name in ("products", "users", "purchases", "events")} <= packaged


def test_the_texts_around_the_shop():
    sizes = {"sentences": 46, "words": 141, "questions": 40}
    titles = set(load_toy_shop("en").dataset.items.title)
    for name, size in sizes.items():
        texts = load_shop_texts(name)
        assert len(texts) == size
        assert not texts.isna().any(axis=None)
        assert not texts.duplicated("en").any()
        for text in texts["en"]:
            assert text == text.strip() and not CJK.search(text)
        assert all(CJK.search(text) and text == text.strip() for text in texts["zh"])
        if name != "words":
            assert not texts.duplicated("zh").any()
    questions = load_shop_texts("questions")
    assert set(questions["title"]) <= titles and questions["title"].is_unique
    with pytest.raises(DataError, match="sentences"):
        load_shop_texts("nonesuch")


def test_questions_share_few_words_with_their_answers():
    shop = load_toy_shop("en").products.set_index("name_en")
    common = set(
        re.findall(
            r"\w+", "a an and any at do for from i in is it me my of on or out so that the there to up"
        )
    )
    common |= {"what", "when", "with", "you"}
    shares = []
    for row in load_shop_texts("questions").itertuples():
        words = set(re.findall(r"[a-z]+", row.en.lower())) - common
        own = set(re.findall(r"[a-z]+", f"{row.title} {shop.description_en[row.title]}".lower()))
        shares.append(len(words & own) / len(words))
    assert np.mean(shares) < 0.1
