"""Make the toy shop's users, purchases and messy event log from its products.

Nothing here happened: the shoppers, what they do and the mess in the log are drawn at random with one seed.
Run ``python tools/make_toy_events.py`` to write users.csv, purchases.csv and events.csv beside products.csv.
Only `random.Random` is used, whose draws are the same in every Python version.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from random import Random

FOLDER = Path(__file__).resolve().parents[1] / "recsys_lib" / "datasets" / "toy_shop"
SEED = 20240101
START = datetime(2024, 1, 1, tzinfo=UTC)
EXPORT = datetime(2025, 1, 1, tzinfo=UTC)  # the log was "exported" then: anything later is a wrong clock
CHINA = timezone(timedelta(hours=8))

# How many rows of each kind of mess; the counts in the data's README.md and in the tests.
EXACT_DUPLICATES = 40  # the same line twice
HIDDEN_DUPLICATES = 15  # the same event twice, its time written in another format
DOUBLE_PURCHASES = 25  # one purchase recorded again 1 to 30 seconds later
UNKNOWN_PRODUCTS = 15  # product ids that the catalogue does not have
MISSING_USERS = 30  # an empty user_id
TEST_ROWS = 20  # accounts test1 and test2
FUTURE_ROWS = 12  # times after the export
BOT_VIEWS = 240  # by each of two robots, within one minute
GUEST_ROWS = 40  # visitors without an account: no mess, but nobody to recommend to
NAME_ROWS = 20  # a product's name where its id should stand
WIDE_TAGS = 25  # full-width letters, digits or spaces in a tag
UPPER_EVENTS = 80  # PURCHASE, View, ...
SPACED_ROWS = 60  # white space around a field

# Tastes: the products each likes best, by English name. They cross departments, as real tastes do.
TASTES = {
    "gadgets": "Phone, Computer, Headphones, Smartwatch, Portable drive, Travel charger, Power bank, Router",
    "photography": "Camera, Portable drive, Backpack, Power bank, Travel charger, Sun hat, Compass",
    "music": "Headphones, Bluetooth speaker, Microphone, Radio, Computer, Phone",
    "games": "Game controller, Computer, Television, Headphones, Router, Skateboard",
    "smart home": "Robot vacuum, Security camera, Router, Television, Desk lamp, Bluetooth speaker",
    "fashion": "Clothes, Shoes, Bag, Dress, High heels, Boots, Scarf, Coat",
    "office": "Dress shirt, Coat, Shoes, Bag, Coffee maker, Lunch box, Computer",
    "street": "Jeans, Baseball cap, Shoes, Socks, Skateboard, Clothes, Backpack, Phone",
    "cooking": "Frying pan, Cleaver, Rice cooker, Stew pot, Chopsticks, Toaster, Lunch box",
    "tea and coffee": "Tea set, Coffee maker, Toaster, Dining chair, Radio, Desk lamp",
    "new flat": "Dining chair, Desk lamp, Laundry basket, Broom set, Bath mat, Shower head, Rice cooker",
    "ball games": "Football, Basketball, Shoes, Socks, Running vest, Flying disc",
    "rackets": "Tennis racket, Badminton set, Table tennis bat, Socks, Baseball cap, Running vest",
    "fitness": "Yoga mat, Boxing gloves, Swimming goggles, Smartwatch, Running vest, Headphones, Shoes",
    "camping": "Tent, Torch, Compass, Fishing rod, Power bank, Backpack, Stew pot",
    "winter": "Skis, Gloves, Scarf, Coat, Boots, Tea set",
}
USERS_PER_TASTE = (3, 3, 2, 3, 2, 3, 2, 3, 3, 2, 3, 2, 2, 3, 2, 2)  # 40 users; the article's two come first
TAGS = {
    "electronics": ("5G", "USB-C", "4K", "续航12h", "gift", "送礼", "works well", "性价比高"),
    "clothing": ("XL码", "100%棉", "summer", "显瘦", "gift", "true to size", "百搭", "S码偏小"),
    "home": ("1.8L", "easy to clean", "省电", "gift", "小户型", "304不锈钢", "好打理"),
    "sport": ("beginner", "入门", "周末", "5号", "light", "gift", "100g", "结实"),
}
Product = dict[str, str]  # a row of products.csv
Event = tuple[datetime, str, str, str, str]  # time, user, event, product, value


def _events_of_purchase(random: Random, user: str, product: Product, time: datetime) -> list[Event]:
    """What leads to a purchase and follows it: views, perhaps a click, the purchase, perhaps a tag."""
    number = product["product_id"]
    events: list[Event] = []
    for _ in range(1 + int(random.random() < 0.4)):
        events.append((time - timedelta(seconds=random.randrange(300, 3600)), user, "view", number, ""))
    if random.random() < 0.7:
        events.append((time - timedelta(seconds=random.randrange(60, 300)), user, "click", number, ""))
    events.append((time, user, "purchase", number, ""))
    if random.random() < 0.35:
        later = time + timedelta(seconds=random.randrange(86_400, 864_000))
        tag = random.choice(TAGS[product["department"]])
        events.append((min(later, EXPORT - timedelta(seconds=1)), user, "tag", number, tag))
    return events


def _time(random: Random, day: int | None = None) -> datetime:
    """A random second of 2024, not in the last day and never on a full minute's first ten seconds."""
    day = random.randrange(2, 364) if day is None else day
    return START + timedelta(
        days=day, hours=random.randrange(24), minutes=random.randrange(60), seconds=random.randrange(10, 60)
    )


def _histories(random: Random, products: list[Product]) -> tuple[list[list[str]], dict[str, list[Product]]]:
    """Users (user_id, taste, article) and what each buys, oldest first."""
    by_name = {product["name_en"]: product for product in products}
    users = [["1", "electronics", "yes"], ["2", "clothing", "yes"]]
    bought = {
        "1": [by_name[n] for n in ("Phone", "Computer", "Headphones")],
        "2": [by_name[n] for n in ("Clothes", "Shoes", "Bag")],
    }
    tastes = [taste for taste, size in zip(TASTES, USERS_PER_TASTE, strict=True) for _ in range(size)]
    random.shuffle(tastes)
    for number, taste in enumerate(tastes, start=3):
        users.append([str(number), taste, "no"])
        liked = [by_name[name] for name in TASTES[taste].split(", ")]
        departments = {product["department"] for product in liked}
        left, history = list(products), []
        for _ in range(random.randrange(5, 10)):
            weights = [12 if p in liked else 1 if p["department"] in departments else 0.3 for p in left]
            product = random.choices(left, weights)[0]
            left.remove(product)
            history.append(product)
        bought[str(number)] = history
    return users, bought


def _clean_log(
    random: Random, products: list[Product], bought: dict[str, list[Product]]
) -> tuple[list[list[str]], list[Event]]:
    """Purchases (user_id, product_id, timestamp) and the log as it would be without any mess."""
    purchases: list[list[str]] = []
    events: list[Event] = []
    for user, history in bought.items():
        days = sorted(random.sample(range(2, 364), len(history)))
        for product, day in zip(history, days, strict=True):
            time = _time(random, day)
            purchases.append([user, product["product_id"], str(int(time.timestamp()))])
            events += _events_of_purchase(random, user, product, time)
        for _ in range(random.randrange(4, 9)):
            product = random.choice(products)
            events.append((_time(random), user, "view", product["product_id"], ""))
    return purchases, events


def _extra_events(random: Random, products: list[Product], users: list[str]) -> list[Event]:
    """Rows to drop: robots, test accounts, guests, nobody, the future, unknown products."""
    ids = [product["product_id"] for product in products]
    events: list[Event] = []
    minutes = START + timedelta(days=141, hours=3, minutes=17), START + timedelta(days=260, hours=22)
    for bot, minute, pages in zip(("901", "902"), minutes, (ids, ids[4:12]), strict=True):
        events += [
            (minute + timedelta(seconds=i // 4), bot, "view", pages[i % len(pages)], "")
            for i in range(BOT_VIEWS)
        ]
    for i in range(TEST_ROWS):
        kind = ("view", "click", "purchase", "purchase")[i % 4]
        events.append((_time(random), f"test{1 + i % 2}", kind, random.choice(ids), ""))
    for i in range(GUEST_ROWS):
        kind = ("view", "view", "click")[i % 3]
        events.append((_time(random), str(911 + i % 8), kind, random.choice(ids), ""))
    for i in range(MISSING_USERS):
        kind = ("view", "click", "view", "purchase")[i % 4]
        events.append((_time(random), "", kind, random.choice(ids), ""))
    for i in range(FUTURE_ROWS):
        time = _time(random) + timedelta(days=365 * (2 + i % 10))
        kind = ("view", "purchase", "click")[i % 3]
        events.append((time, random.choice(users), kind, random.choice(ids), ""))
    for i in range(UNKNOWN_PRODUCTS):
        kind = ("view", "click", "purchase")[i % 3]
        events.append((_time(random), random.choice(users), kind, f"P{random.randrange(65, 100)}", ""))
    return events


def _write_time(time: datetime, style: int) -> str:
    """One of the log's three ways to write a time: ISO in UTC, ISO in China's time, seconds since 1970."""
    if style == 0:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ")
    return time.astimezone(CHINA).isoformat() if style == 1 else str(int(time.timestamp()))


def _widen(text: str) -> str:
    """ASCII characters in their full-width forms."""
    return "".join("\u3000" if c == " " else chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


def _mess_up(
    random: Random, events: list[Event], products: list[Product], users: list[str]
) -> list[list[str]]:
    """Write the events as lines in order of time, and spoil some of them."""
    names = {product["product_id"]: (product["name_zh"], product["name_en"]) for product in products}

    def is_honest(event: Event) -> bool:
        return event[1] in users and event[0] < EXPORT and event[3] in names

    for event in random.sample([e for e in events if is_honest(e) and e[2] == "purchase"], DOUBLE_PURCHASES):
        events.append((event[0] + timedelta(seconds=random.randrange(1, 31)), *event[1:]))
    events = sorted(events)
    styles = random.choices((0, 1, 2), (6, 2, 2), k=len(events))
    rows = [[_write_time(event[0], style), *event[1:]] for event, style in zip(events, styles, strict=True)]
    honest = [i for i, event in enumerate(events) if is_honest(event)]
    for i in random.sample(honest, NAME_ROWS):
        rows[i][3] = random.choice(names[rows[i][3]])
    for i in random.sample([i for i in honest if rows[i][4] and _widen(rows[i][4]) != rows[i][4]], WIDE_TAGS):
        rows[i][4] = _widen(rows[i][4])
    for i in random.sample(honest, UPPER_EVENTS):
        rows[i][2] = random.choice((rows[i][2].upper(), rows[i][2].capitalize()))
    for i in random.sample(honest, SPACED_ROWS):
        field = random.choice((1, 2, 3))
        rows[i][field] = random.choice((" {}", "{} ", "  {} ", "\t{}")).format(rows[i][field])
    plain = [i for i in honest if tuple(rows[i][1:]) == events[i][1:]]  # so that each kind keeps its count
    copied = random.sample(plain, HIDDEN_DUPLICATES + EXACT_DUPLICATES)
    copies = [(i, list(rows[i])) for i in copied]
    for i, row in copies[:HIDDEN_DUPLICATES]:
        row[0] = _write_time(events[i][0], (styles[i] + 1) % 3)
    for i, row in sorted(copies, reverse=True):
        rows.insert(i + random.randrange(1, 6), row)
    return rows


def generate(products: list[Product]) -> dict[str, list[list[str]]]:
    """Rows of users.csv, purchases.csv and events.csv, each with its header first."""
    random = Random(SEED)
    users, bought = _histories(random, products)
    purchases, events = _clean_log(random, products, bought)
    names = [user[0] for user in users]
    lines = _mess_up(random, events + _extra_events(random, products, names), products, names)
    return {
        "users.csv": [["user_id", "taste", "article"], *users],
        "purchases.csv": [["user_id", "product_id", "timestamp"], *purchases],
        "events.csv": [["event_time", "user_id", "event", "product", "value"], *lines],
    }


def main(arguments: Sequence[str] = ()) -> None:
    """Write the three files into the folder named, by default beside products.csv."""
    folder = Path(arguments[0]) if arguments else FOLDER
    with (FOLDER / "products.csv").open(encoding="utf-8", newline="") as file:
        products = list(csv.DictReader(file))
    for name, rows in generate(products).items():
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
        print(f"{name}: {len(rows) - 1} rows")


if __name__ == "__main__":
    main(sys.argv[1:])
