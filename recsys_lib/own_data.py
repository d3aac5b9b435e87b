"""Reading a reader's two CSV files, with everything that was mended or skipped said in a note.

``read_own`` forgives what `Dataset.from_csv` refuses; ``encode_own`` turns the texts to vectors. What is measured and
saved is in `own_recommender`; ``python -m recsys_lib`` calls both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys_lib.datasets.interactions import DataError, Dataset, Interactions, _read_csv, _require_columns
from recsys_lib.splits import tie_statistics

NAMES = {
    "user_id": "user_id user userid uid customer_id customer customerid member_id visitor_id account_id "
    "reviewer_id 用户 用户id 用户编号 客户 客户编号 会员",
    "item_id": "item_id item itemid product_id product productid sku asin article_id movie_id book_id iid "
    "物品 物品id 物品编号 商品 商品id 商品编号 货号",
    "timestamp": "timestamp time date datetime event_time created_at ts 时间 日期 下单时间 购买时间",
    "rating": "rating score stars grade overall 评分 打分 星级",
    "title": "title name product_name item_name 标题 名称 商品名称 品名",
    "text": "text description summary content details body 描述 简介 正文 文本 说明",
}
"""Column names that are recognised, in order of preference, for each role."""
MOSTLY = 0.5  # of the letters: then the text is not English's alphabet, and the multilingual model reads it
FEW = 0.1  # of the rows: so many without a time or a rating are left out, more and the column is


class Note(NamedTuple):
    """A message about what was found, mended or skipped, in English and Chinese."""

    en: str
    zh: str


def say(notes: list[Note], en: str, zh: str) -> None:
    """Add a note."""
    notes.append(Note(en, zh))


@dataclass(frozen=True)
class OwnData:
    """A reader's data after cleaning.

    Attributes
    ----------
    dataset : Dataset
    ordered : bool
        Whether each user's rows are in the order of time.
    described : boolean array (n_items,)
        Items with a title or text of their own, not only an id.
    multilingual : bool
        Whether most letters of the texts are outside the Latin alphabet, as in Chinese.
    notes : list of Note
    """

    dataset: Dataset
    ordered: bool
    described: NDArray[np.bool_]
    multilingual: bool
    notes: list[Note]


def example_files(name: str) -> tuple[Path, Path]:
    """The two CSV files (interactions, items) of an example.

    ``"shop"``: the toy shop, made up. ``"packages"``: real, what 165 open-source Python packages ask pip to
    install beside them, extras included, and the packages' own one-line summaries where known.
    """
    folders = {
        "shop": ("toy_shop", "purchases.csv", "products.csv"),
        "packages": ("packages", "requirements.csv", "packages.csv"),
    }
    if name not in folders:
        raise ValueError(f"example must be one of {', '.join(folders)}, not {name!r}")
    folder, rows, items = folders[name]
    base = Path(str(files("recsys_lib.datasets"))) / folder
    return base / rows, base / items


# --- Reading


def read_own(
    interactions: str | Path | pd.DataFrame,
    items: str | Path | pd.DataFrame | None = None,
    *,
    columns: dict[str, str] | None = None,
    separator: str | None = None,
    encoding: str | None = None,
    min_rating: float | None = None,
    in_order: bool = False,
) -> OwnData:
    """Read a reader's tables, mend what can be mended, and note every step.

    Parameters
    ----------
    interactions
        CSV file or frame: a user and an item a row, optionally time and rating. Ids are kept as strings.
    items
        CSV file or frame: an id a row, optionally title and text.
    columns
        Name in the files to role (``user_id``, ``item_id``, ``timestamp``, ``rating``, ``title``, ``text``);
        usual names (`NAMES`) are recognised without.
    separator, encoding
        By default found out: comma, semicolon, tab or bar; UTF-8 or GB18030.
    min_rating
        Keep only rows rated so high; by default every row counts as a positive.
    in_order
        The rows are in the order of time although they have no times.

    Raises
    ------
    DataError
        If a file is broken, has no column of users or items, or nothing is left.
    """
    notes: list[Note] = []
    first = _table(interactions, separator, encoding, notes)
    source = None if items is None else _table(items, separator, encoding, notes)
    names = [*first.columns, *(() if source is None else source.columns)]
    lost = [old for old in columns or {} if old not in names]
    if lost:
        raise DataError(f"columns: there is no column {lost[0]!r}. The files have: {', '.join(names)}.")
    rows = _roles(
        "interactions",
        first,
        ("user_id", "item_id", "timestamp", "rating"),
        ("user_id", "item_id"),
        columns or {},
        notes,
    )
    rows = _clean_rows(rows, min_rating, notes)
    if source is None:
        say(notes, "No table of items: items are known by id only.", "没有物品表：物品只有编号。")
        table = pd.DataFrame({"item_id": pd.unique(rows["item_id"])}, dtype=object)
    else:
        table = _roles("items", source, ("item_id", "title", "text"), ("item_id",), columns or {}, notes)
    rows, table, described = _clean_items(rows, table, notes)
    dataset = Dataset.from_frames(rows, table)
    ordered = in_order or "timestamp" in rows
    _note_order(dataset.interactions, in_order, notes)
    words = "".join(text for text, known in zip(dataset.texts, described, strict=True) if known)
    return OwnData(dataset, ordered, described, _outside_latin(words) > MOSTLY, notes)


def _note_order(rows: Interactions, in_order: bool, notes: list[Note]) -> None:
    """Say on what the order in time rests."""
    if "timestamp" in rows.frame:
        ties = tie_statistics(rows)
        if ties["users_last_two_tied"]:
            say(
                notes,
                f"The last two rows of {ties['users_last_two_tied']} of {ties['users']} users have one time: "
                "the order of the file decides.",
                f"{ties['users']} 位用户中，{ties['users_last_two_tied']} 位的最后两行时间相同：以文件中的次序为准。",
            )
    elif not in_order:
        say(
            notes,
            "No times: the held-out row of each user is drawn at random, and recency is switched off.",
            "没有时间：每位用户留出的一行随机抽取，近期加权关闭。",
        )


def _table(
    source: str | Path | pd.DataFrame, separator: str | None, encoding: str | None, notes: list[Note]
) -> pd.DataFrame:
    """Return a table of stripped strings, "" where nothing stands."""
    if isinstance(source, pd.DataFrame):
        table = source.reset_index(drop=True).astype(object)
        table.columns = [str(column) for column in table.columns]
        table = table.map(lambda value: "" if pd.isna(value) else str(value))
    else:
        path = Path(source)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path.name} cannot be read: {error.strerror}.") from None
        encoding = encoding or _encoding(data, path.name, notes)
        try:
            first = data.decode(encoding).lstrip("\ufeff").partition("\n")[0]
        except (UnicodeDecodeError, LookupError):
            raise DataError(f"{path.name} is not {encoding} text. Name another encoding.") from None
        separator = separator or max(",;\t|", key=first.count)
        if len(separator) != 1:
            raise DataError(f"separator must be one character, for example ';' or '\\t', got {separator!r}.")
        table, _ = _read_csv(path, {}, separator, encoding)
    return table.map(lambda value: value.strip())


def _encoding(data: bytes, name: str, notes: list[Note]) -> str:
    for encoding in ("utf-8", "gb18030"):
        try:
            data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if encoding != "utf-8":
            say(notes, f"{name} is read as {encoding}.", f"{name} 按 {encoding} 编码读取。")
        return encoding
    raise DataError(
        f"{name} is neither UTF-8 nor GB18030 text. Name its encoding, for example cp1252 or utf-16."
    )


def _roles(
    label: str,
    table: pd.DataFrame,
    roles: Sequence[str],
    needed: Sequence[str],
    columns: dict[str, str],
    notes: list[Note],
) -> pd.DataFrame:
    """Return the columns that play a role, renamed."""
    unknown = sorted(set(columns.values()) - set(NAMES))
    if unknown:
        raise DataError(f"columns: {unknown[0]!r} is no role. Roles: {', '.join(NAMES)}.")
    known = {_plain(column): column for column in reversed(list(table.columns))}
    chosen: dict[str, str] = {}
    for role in roles:
        named = [old for old, new in columns.items() if new == role and old in table.columns]
        guessed = [
            known[name] for name in NAMES[role].split() if name in known and known[name] not in columns
        ]
        if named or guessed:
            chosen[role] = (named or guessed)[0]
    missing = [role for role in needed if role not in chosen]
    if missing:
        hint = " Without users nobody's taste can be learned or tested." if "user_id" in missing else ""
        raise DataError(
            f"{label}: no column is recognised as {' or '.join(missing)}. The table has: "
            f"{', '.join(map(str, table.columns))}. Say which, for example columns={{'NAME': '{missing[0]}'}} "
            f"(on the command line: --columns NAME={missing[0]}).{hint}"
        )
    _require_columns(label, table[list(chosen.values())], ())
    read = ", ".join(f"{old} → {role}" for role, old in chosen.items() if old != role)
    if read:
        say(notes, f"{label}: read {read}.", f"{_ZH[label]}：{read}。")
    return pd.DataFrame({role: table[old] for role, old in chosen.items()}, dtype=object)


_ZH = {"interactions": "交互表", "items": "物品表"}


def _plain(name: str) -> str:
    return re.sub(r"[\s-]+", "_", str(name).strip().lower())


def _clean_rows(rows: pd.DataFrame, min_rating: float | None, notes: list[Note]) -> pd.DataFrame:
    """Leave out rows without ids, read times and ratings, keep the first of repeated pairs."""
    for column in ("user_id", "item_id"):
        rows[column] = _whole(rows[column])
    blank = (rows["user_id"] == "") | (rows["item_id"] == "")
    rows = _without(rows, blank, "have no user or item", "缺少用户或物品", notes)
    for column, parse in (("timestamp", _seconds), ("rating", _floats)):
        if column not in rows:
            continue
        values = parse(rows[column])
        bad = ~np.isfinite(values)
        if bad.mean() > FEW:
            say(
                notes,
                f"'{column}' is left out: {bad.sum()} of {len(rows)} rows cannot be read, such as "
                f"{rows[column].to_numpy()[bad][0]!r}.",
                f"不使用 {column}：{len(rows)} 行中有 {bad.sum()} 行读不出来。",
            )
            rows = rows.drop(columns=column)
            continue
        rows = rows.assign(**{column: values})
        rows = _without(rows, pd.Series(bad), f"have no usable {column}", f"的 {column} 不可用", notes)
    if "timestamp" in rows and rows["timestamp"].nunique() == 1:
        say(notes, "All times are equal: they are left out.", "所有时间都相同：不使用时间。")
        rows = rows.drop(columns="timestamp")
    rows = _rated(rows, min_rating, notes)
    if "timestamp" in rows:
        rows = rows.sort_values("timestamp", kind="stable", ignore_index=True)
    again = rows.duplicated(["user_id", "item_id"])
    return _without(
        rows, again, "repeat a user and item: the first is kept", "用户与物品重复，只留最早一行", notes
    )


def _rated(rows: pd.DataFrame, min_rating: float | None, notes: list[Note]) -> pd.DataFrame:
    if "rating" not in rows:
        if min_rating is not None:
            say(notes, "No ratings: the threshold is not used.", "没有评分：不使用评分门槛。")
        return rows
    low, high = rows["rating"].min(), rows["rating"].max()
    if min_rating is None:
        say(
            notes,
            f"Ratings from {low:g} to {high:g}: every row counts as a positive; a threshold may be given.",
            f"评分从 {low:g} 到 {high:g}：每一行都算作正例；可另设门槛。",
        )
        return rows
    return _without(
        rows,
        rows["rating"] < min_rating,
        f"are rated below {min_rating:g}",
        f"评分低于 {min_rating:g}",
        notes,
    )


def _without(rows: pd.DataFrame, mask: pd.Series, en: str, zh: str, notes: list[Note]) -> pd.DataFrame:
    """Leave out the rows where ``mask`` is true, and note how many; DataError if that is all."""
    gone = np.asarray(mask, dtype=bool)
    if gone.all():
        raise DataError(f"no rows are left: all {len(rows)} rows {en}.")
    if gone.any():
        say(
            notes,
            f"{gone.sum()} of {len(rows)} rows {en}; left out.",
            f"{len(rows)} 行中有 {gone.sum()} 行{zh}；已略去。",
        )
    return rows[~gone].reset_index(drop=True)


def _whole(ids: pd.Series) -> pd.Series:
    """Ids as strings; where all are written like 12.0 (by pandas, say), the .0 goes."""
    filled = ids[ids != ""]
    return ids.str.removesuffix(".0") if len(filled) and filled.str.fullmatch(r"\d+\.0").all() else ids


def _floats(series: pd.Series) -> NDArray[np.float64]:
    return np.asarray(pd.to_numeric(series, errors="coerce"), dtype=np.float64)


def _seconds(series: pd.Series) -> NDArray[np.float64]:
    """Seconds since 1970 from numbers (seconds, milliseconds …), days such as 20240531, or dates, year first."""
    filled = series[series != ""]
    if len(filled) and filled.str.fullmatch(r"(19|20)\d\d[01]\d[0-3]\d").all():
        series = series.str.replace(r"^(\d{4})(\d\d)(\d\d)$", r"\1-\2-\3", regex=True)
    numbers = _floats(series)
    if np.isfinite(numbers).any():
        largest = float(np.nanmax(np.abs(np.where(np.isfinite(numbers), numbers, np.nan))))
        while largest > 1e11:  # milliseconds, microseconds, nanoseconds
            numbers, largest = numbers / 1000, largest / 1000
        return numbers
    dates = series.str.replace(r"^(\d{4})[/.年](\d{1,2})[/.月](\d{1,2})日?", r"\1-\2-\3", regex=True)
    dates = dates.where(dates.str.match(r"\d{4}-\d{1,2}-\d{1,2}"), None)
    times = pd.to_datetime(dates, format="mixed", utc=True, errors="coerce")
    return np.asarray((times - pd.Timestamp(0, tz="UTC")).dt.total_seconds(), dtype=np.float64)


def _clean_items(
    rows: pd.DataFrame, table: pd.DataFrame, notes: list[Note]
) -> tuple[pd.DataFrame, pd.DataFrame, NDArray[np.bool_]]:
    """Return interactions, the items with title and text, and which items are described at all."""
    table = table.assign(item_id=_whole(table["item_id"]))
    table = _without(table, table["item_id"] == "", "of items have no id", "物品没有编号", notes)
    again = table["item_id"].duplicated()
    table = _without(
        table, again, "of items repeat an id: the first is kept", "物品编号重复，只留第一行", notes
    )
    unknown = pd.unique(rows["item_id"][~rows["item_id"].isin(table["item_id"])])
    if len(unknown):
        say(
            notes,
            f"{len(unknown)} items of the interactions are not in the table of items: known by id only.",
            f"交互表中有 {len(unknown)} 件物品不在物品表里：它们只有编号。",
        )
        table = pd.concat(
            [table, pd.DataFrame({"item_id": unknown}, dtype=object)], ignore_index=True
        ).fillna("")
    blank = pd.Series("", index=table.index, dtype=object)
    title, text = table.get("title", blank), table.get("text", blank)
    bare = ((title == "") | (title == table["item_id"])) & (text == "")
    shown = title.where(title != "", text.str.slice(0, 60)).where(~bare, table["item_id"])
    joined = [
        body or head
        if not body or not head or body.startswith(head)
        else head + (". " if head.isascii() else "。") + body
        for head, body in zip(shown, text, strict=True)
    ]
    if bare.any():
        say(
            notes,
            f"{bare.sum()} of {len(table)} items have neither title nor text of their own.",
            f"{len(table)} 件物品中有 {bare.sum()} 件既没有标题也没有文本。",
        )
    only = int(((text == "") & ~bare).sum())
    if only:
        say(
            notes,
            f"{only} of {len(table)} items have a title only.",
            f"{len(table)} 件物品中有 {only} 件只有标题。",
        )
    out = pd.DataFrame({"item_id": table["item_id"], "title": shown, "text": joined}, dtype=object)
    return rows, out, ~bare.to_numpy(dtype=bool)


def _outside_latin(text: str) -> float:
    """Share of letters outside the Latin alphabet."""
    letters = [letter for letter in text if letter.isalpha()]
    return sum(ord(letter) > 0x24F for letter in letters) / len(letters) if letters else 0.0


# --- Texts to vectors


def encode_own(data: OwnData, encoder: str | None = None) -> NDArray | None:
    """Vectors of the items' texts (n_items, d), or None, with a note why, where text cannot be used.

    Items without a text get the mean of the others: they are near nothing in particular. By default
    all-MiniLM-L6-v2 reads Latin letters and multilingual-e5-small the rest; ``encoder`` names another model.
    """
    notes, known = data.notes, data.described
    if known.sum() < 2:
        say(notes, "No text: the rows with text are skipped.", "没有文本：略去用到文本的各行。")
        return None
    name = encoder or ("multilingual-e5-small" if data.multilingual else "all-MiniLM-L6-v2")
    try:
        from recsys_lib.encoders import EncoderError, TextEncoder
        from recsys_lib.resources import ResourceError
    except ImportError as error:
        say(
            notes,
            f"Text is skipped: {error}. Install torch and transformers.",
            f"略去文本：{error}。请安装 torch 和 transformers。",
        )
        return None
    try:
        model = TextEncoder.from_pretrained(name)
    except (EncoderError, ResourceError) as error:
        say(notes, f"Text is skipped: {error}", f"略去文本：{error}")
        return None
    texts = [text for text, some in zip(data.dataset.texts, known, strict=True) if some]
    found = model.encode(texts, show_progress=False)
    if cut := model.last_truncated.texts:
        limit = model.max_length
        say(notes, f"{cut} texts are cut to {limit} tokens.", f"有 {cut} 条文本截到 {limit} 个词元。")
    say(notes, f"{len(texts)} texts are read by {name}.", f"{len(texts)} 条文本由 {name} 编码。")
    vectors = np.tile(found.mean(axis=0), (len(known), 1))
    vectors[known] = found
    return vectors
