"""Interactions between users and items, and the data sets that hold them."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp


class DataError(ValueError):
    """Data that cannot be used as it is; the message says which rows and how to mend them."""


@dataclass(frozen=True)
class Interactions:
    """Which user took which item, at most once each, and when.

    Parameters
    ----------
    frame
        Columns ``user`` and ``item`` (codes, integers from 0), optionally ``timestamp`` (seconds) and
        ``rating``; other columns are kept. Rows in another order than user, then time, are sorted and numbered
        anew; rows that tie keep the order they came in. Otherwise the index is kept: in a split it is the row's
        number in the data that was split.
    n_users, n_items
        Numbers of users and items, also counting those without a row.

    Raises
    ------
    DataError
        If a column is missing, a code is out of range or no integer, a time is missing or no number, or a pair of
        user and item is repeated.
    """

    frame: pd.DataFrame
    n_users: int
    n_items: int

    def __post_init__(self) -> None:
        frame = self.frame
        for column, size in (("user", self.n_users), ("item", self.n_items)):
            if column not in frame.columns:
                raise DataError(f"interactions: column '{column}' is missing; it holds codes from 0.")
            if not pd.api.types.is_integer_dtype(frame[column]):
                raise DataError(f"interactions: column '{column}' must hold integer codes.")
            outside = ~frame[column].between(0, size - 1).to_numpy()
            if outside.any():
                raise DataError(f"interactions: '{column}' must lie in 0..{size - 1}: {_rows(outside)}.")
        repeated = frame.duplicated(["user", "item"]).to_numpy()
        if repeated.any():
            raise DataError(
                f"interactions: a user and item pair is repeated: {_rows(repeated)}. "
                "Keep one, for example with drop_duplicates(['user', 'item'])."
            )
        keys = [frame["user"].to_numpy()]
        if "timestamp" in frame.columns:
            times = frame["timestamp"]
            if not pd.api.types.is_numeric_dtype(times) or times.isna().any():
                raise DataError("interactions: 'timestamp' must hold seconds, none missing.")
            keys.insert(0, times.to_numpy())
        order = np.lexsort(keys)
        if (order[1:] < order[:-1]).any():
            object.__setattr__(self, "frame", frame.iloc[order].reset_index(drop=True))

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def users(self) -> np.ndarray:
        """User code of each row, (n,) int64."""
        return self.frame["user"].to_numpy(dtype=np.int64)

    @property
    def items(self) -> np.ndarray:
        """Item code of each row, (n,) int64."""
        return self.frame["item"].to_numpy(dtype=np.int64)

    @property
    def timestamps(self) -> np.ndarray:
        """Time of each row in seconds, (n,); DataError if the data has none."""
        if "timestamp" not in self.frame.columns:
            raise DataError("interactions: there is no 'timestamp' column, and this needs one.")
        return self.frame["timestamp"].to_numpy()

    def matrix(self) -> sp.csr_matrix:
        """Binary matrix of users by items, (n_users, n_items) float32."""
        ones = np.ones(len(self), dtype=np.float32)
        return sp.csr_matrix((ones, (self.users, self.items)), shape=(self.n_users, self.n_items))

    def histories(self) -> list[np.ndarray]:
        """Item codes of each user, oldest first; an empty array for a user without rows."""
        ends = np.cumsum(np.bincount(self.users, minlength=self.n_users))
        return np.split(self.items, ends[:-1]) if self.n_users else []

    def select(self, rows: np.ndarray) -> Interactions:
        """The rows where ``rows``, a boolean mask (n,), is true."""
        return Interactions(self.frame[rows], self.n_users, self.n_items)


@dataclass(frozen=True)
class Dataset:
    """Interactions with the descriptions of their items and users.

    ``items`` and ``users`` are indexed by code (0, 1, ...). ``items`` has ``item_id``, ``title`` and ``text``;
    ``users`` has ``user_id``; both may have more. Make one from your own data with `from_frames` or `from_csv`.
    """

    name: str
    interactions: Interactions
    items: pd.DataFrame
    users: pd.DataFrame
    licence: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        for label, table, columns, size in (
            ("items", self.items, ("item_id", "title", "text"), self.interactions.n_items),
            ("users", self.users, ("user_id",), self.interactions.n_users),
        ):
            _require_columns(label, table, columns)
            if not np.array_equal(table.index.to_numpy(), np.arange(size)):
                raise DataError(
                    f"{label}: the index must be the codes 0..{size - 1}; it has {len(table)} rows."
                )

    @property
    def n_users(self) -> int:
        """Number of users."""
        return self.interactions.n_users

    @property
    def n_items(self) -> int:
        """Number of items."""
        return self.interactions.n_items

    @property
    def texts(self) -> list[str]:
        """Text of each item, in order of item code."""
        return self.items["text"].tolist()

    @classmethod
    def from_frames(
        cls,
        interactions: pd.DataFrame,
        items: pd.DataFrame,
        users: pd.DataFrame | None = None,
        *,
        name: str = "my data",
        licence: str = "",
        source: str = "",
    ) -> Dataset:
        """Check three tables and join them into a data set.

        Parameters
        ----------
        interactions
            ``user_id``, ``item_id``, optionally ``timestamp`` (seconds since 1970, or dates in ISO form, UTC
            where no zone is given) and ``rating``; other columns are kept. Without times, the order of the rows
            is the order in time.
        items
            ``item_id``, ``title``, optionally ``text`` (the title by default); other columns are kept.
        users
            ``user_id`` and any other columns. By default the users of ``interactions``, in order of appearance.

        Raises
        ------
        DataError
            Says which rows are wrong (the first row is 0) and how to mend them. Nothing is dropped or filled in.
        """
        number = (
            np.arange(len(interactions)),
            np.arange(len(items)),
            None if users is None else np.arange(len(users)),
        )
        return _build(
            cls, interactions, items, users, number, "row", name=name, licence=licence, source=source
        )

    @classmethod
    def from_csv(
        cls,
        interactions_path: str | Path,
        items_path: str | Path,
        users_path: str | Path | None = None,
        *,
        name: str = "my data",
        licence: str = "",
        source: str = "",
        columns: dict[str, str] | None = None,
        separator: str = ",",
        encoding: str = "utf-8",
    ) -> Dataset:
        """Read the tables of `from_frames` from CSV files with a header line; other columns stay strings.

        Parameters
        ----------
        columns
            New names for columns of the files, for example ``{"customer": "user_id", "sku": "item_id"}``.
        separator, encoding
            As in the files; ``encoding="gb18030"`` reads what Chinese editions of Excel write.

        Raises
        ------
        DataError
            Says which lines of which file are wrong (the header is line 1) and how to mend them.
        """
        mapping = columns or {}
        rows, row_lines = _read_csv(Path(interactions_path), mapping, separator, encoding)
        items, item_lines = _read_csv(Path(items_path), mapping, separator, encoding)
        users, user_lines = None, None
        if users_path is not None:
            users, user_lines = _read_csv(Path(users_path), mapping, separator, encoding)
        lines = row_lines, item_lines, user_lines
        return _build(cls, rows, items, users, lines, "line", name=name, licence=licence, source=source)


def _rows(mask: np.ndarray, numbers: np.ndarray | None = None, word: str = "row", values: Any = None) -> str:
    """Say where ``mask`` is true: the first five places, with the values found there, and how many more."""
    places = np.flatnonzero(mask)
    numbers = np.arange(len(mask)) if numbers is None else numbers
    shown = [f"{numbers[i]}" if values is None else f"{numbers[i]} ({values[i]!r})" for i in places[:5]]
    more = f" and {len(places) - 5} more" if len(places) > 5 else ""
    return f"{word}{'s' if len(places) > 1 else ''} {', '.join(shown)}{more}"


def _require_columns(label: str, table: pd.DataFrame, columns: tuple[str, ...]) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        found = ", ".join(map(str, table.columns))
        raise DataError(
            f"{label}: column {', '.join(map(repr, missing))} is missing. The table has: {found}. "
            "Rename a column (from_csv: columns={'name in the file': 'item_id'}) or add it."
        )
    repeated = table.columns[table.columns.duplicated()]
    if len(repeated):
        raise DataError(f"{label}: column {repeated[0]!r} appears twice. Rename or delete one of them.")


def _read_csv(
    path: Path, columns: dict[str, str], separator: str, encoding: str
) -> tuple[pd.DataFrame, np.ndarray]:
    """Read a CSV file as strings, with the line number at which each row ends."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig" if encoding.lower().replace("_", "-") == "utf-8" else encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path.name}: line {line} is not {encoding} text (byte {data[error.start]:#04x}). Save the "
            "file as UTF-8, or name its encoding, for example encoding='gb18030' or 'cp1252'."
        ) from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows, lines = [], []
    try:
        for row in reader:
            if row:
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(
            f"{path.name}: line {reader.line_num}: {error}. Look for a quotation mark that is not "
            "closed or not doubled inside a quoted field."
        ) from None
    if len(rows) < 2:
        raise DataError(f"{path.name}: the file has no rows below a header line.")
    header = [columns.get(column.strip(), column.strip()) for column in rows[0]]
    if len(header) == 1 and set(header[0]) & set(",;|\t"):
        raise DataError(
            f"{path.name}: the header {rows[0][0]!r} has one field only. If the fields are separated by "
            f"something else than {separator!r}, name it, for example separator=';' or separator='\\t'."
        )
    numbers = np.array(lines[1:])
    wrong = np.array([len(row) != len(header) for row in rows[1:]])
    if wrong.any():
        raise DataError(
            f"{path.name}: the header has {len(header)} fields but not {_rows(wrong, numbers, 'line')}. "
            f"Put quotation marks around fields that hold the separator {separator!r}."
        )
    return pd.DataFrame(rows[1:], columns=header, dtype=object), numbers


def _build(
    cls: type[Dataset],
    interactions: pd.DataFrame,
    items: pd.DataFrame,
    users: pd.DataFrame | None,
    numbers: Any,
    word: str,
    **names: str,
) -> Dataset:
    """Check the tables of `Dataset.from_frames`; ``numbers`` are the rows' numbers to name in errors."""
    _require_columns("interactions", interactions, ("user_id", "item_id"))
    _require_columns("items", items, ("item_id", "title"))
    if not len(interactions):
        raise DataError("interactions: the table has no rows.")
    taken = [column for column in ("user", "item") if column in interactions.columns]
    if taken:
        raise DataError(
            f"interactions: the column name {taken[0]!r} is kept for codes. Rename or delete that column."
        )
    items = items.reset_index(drop=True)
    items["item_id"] = _ids("items", items, "item_id", numbers[1], word, unique=True)
    for column in ("title", "text"):
        items[column] = _texts(items, column if column in items.columns else "title", numbers[1], word)
    rows = interactions.reset_index(drop=True)
    for column in ("user_id", "item_id"):
        rows[column] = _ids("interactions", rows, column, numbers[0], word)
    if users is None:
        users = pd.DataFrame({"user_id": pd.unique(rows["user_id"])})
    else:
        _require_columns("users", users, ("user_id",))
        users = users.reset_index(drop=True)
        users["user_id"] = _ids("users", users, "user_id", numbers[2], word, unique=True)
    for column, table, label in (("user", users, "users"), ("item", items, "items")):
        ids = rows[f"{column}_id"].to_numpy(dtype=object)
        codes = pd.Index(table[f"{column}_id"]).get_indexer(ids)
        if (codes < 0).any():
            raise DataError(
                f"interactions: {column}_id that the {label} table does not have: "
                f"{_rows(codes < 0, numbers[0], word, ids)}. Add them to {label} or drop these rows."
            )
        rows[column] = codes.astype(np.int64)
    repeated = rows.duplicated(["user", "item"]).to_numpy()
    if repeated.any():
        pairs = list(zip(rows["user_id"], rows["item_id"], strict=True))
        raise DataError(
            f"interactions: the same user and item again: {_rows(repeated, numbers[0], word, pairs)}. "
            "Keep one of each, for example with drop_duplicates(['user_id', 'item_id'])."
        )
    if "timestamp" in rows.columns:
        rows["timestamp"] = _seconds(rows["timestamp"], numbers[0], word)
    if "rating" in rows.columns:
        rows["rating"] = _numbers("rating", rows["rating"], numbers[0], word)
    first = [column for column in ("user", "item", "timestamp", "rating") if column in rows.columns]
    others = [column for column in rows.columns if column not in (*first, "user_id", "item_id")]
    joined = Interactions(rows[first + others], len(users), len(items))
    return cls(interactions=joined, items=items, users=users, **names)


def _ids(
    label: str, table: pd.DataFrame, column: str, numbers: np.ndarray, word: str, unique: bool = False
) -> pd.Series:
    """Ids as strings: none missing or empty, none a decimal number and, if ``unique``, none repeated."""
    values = table[column].to_numpy(dtype=object)
    missing = pd.isna(values) | np.array([isinstance(v, str) and not v.strip() for v in values], dtype=bool)
    if missing.any():
        raise DataError(
            f"{label}: '{column}' is empty: {_rows(missing, numbers, word)}. Fill it in or drop these rows."
        )
    decimal = np.array([isinstance(v, (float, np.floating)) for v in values], dtype=bool)
    if decimal.any():
        raise DataError(
            f"{label}: '{column}' holds decimal numbers: {_rows(decimal, numbers, word, values)}; ids are "
            f"strings or integers. Mend with frame['{column}'] = frame['{column}'].astype('int64')."
        )
    ids = pd.Series([str(v) for v in values], index=table.index, dtype=object)
    padded = (ids != ids.str.strip()).to_numpy()
    if padded.any():
        raise DataError(
            f"{label}: '{column}' has blanks around it: {_rows(padded, numbers, word, ids.tolist())}. "
            f"Mend with frame['{column}'] = frame['{column}'].str.strip()."
        )
    repeated = ids.duplicated().to_numpy()
    if unique and repeated.any():
        raise DataError(
            f"{label}: '{column}' is repeated: {_rows(repeated, numbers, word, ids.tolist())}. "
            "Keep one row of each id."
        )
    return ids


def _texts(items: pd.DataFrame, column: str, numbers: np.ndarray, word: str) -> pd.Series:
    """A column of texts, none of them missing or blank."""
    values = items[column].to_numpy(dtype=object)
    wrong = ~pd.isna(values) & np.array([not isinstance(v, str) for v in values], dtype=bool)
    if wrong.any():
        raise DataError(
            f"items: '{column}' is no text: {_rows(wrong, numbers, word, values)}. "
            f"Mend with frame['{column}'] = frame['{column}'].astype(str)."
        )
    empty = pd.isna(values) | np.array([isinstance(v, str) and not v.strip() for v in values], dtype=bool)
    if empty.any():
        raise DataError(
            f"items: '{column}' is empty: {_rows(empty, numbers, word)}. Write a text for these items, "
            "or drop them and their interactions; an empty text has no meaning to encode."
        )
    return pd.Series(values, index=items.index, dtype=object)


def _numbers(column: str, series: pd.Series, numbers: np.ndarray, word: str) -> pd.Series:
    """A column of finite numbers."""
    values = series.to_numpy(dtype=object)
    parsed = pd.to_numeric(series, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    wrong = ~np.isfinite(parsed)
    if wrong.any():
        raise DataError(
            f"interactions: '{column}' is no number: {_rows(wrong, numbers, word, values)}. "
            "Fill in a number, drop these rows, or leave the whole column out."
        )
    return pd.Series(parsed, index=series.index)


def _seconds(series: pd.Series, numbers: np.ndarray, word: str) -> pd.Series:
    """Times as seconds since 1970, from numbers or dates in ISO form."""
    values = series.to_numpy(dtype=object)
    seconds = np.full(len(series), np.nan)
    if not pd.api.types.is_datetime64_any_dtype(series):
        as_text = pd.Series([None if pd.isna(value) else str(value) for value in values], dtype=object)
        seconds = pd.to_numeric(as_text, errors="coerce").to_numpy(dtype=float)
        if np.isfinite(seconds).all() and _look_like_dates(seconds):
            raise DataError(
                f"interactions: 'timestamp' looks like dates without hyphens: {values[0]!r}. Write them as "
                "2024-05-31; numbers are read as seconds since 1970."
            )
        series = as_text
    if np.isnan(seconds).all():
        times = pd.to_datetime(series, format="ISO8601", utc=True, errors="coerce")
        seconds = (times - pd.Timestamp(0, tz="UTC")).dt.total_seconds().to_numpy(dtype=float)
    wrong = ~np.isfinite(seconds)
    if wrong.any():
        raise DataError(
            f"interactions: 'timestamp' is no time: {_rows(wrong, numbers, word, values)}. Write all as "
            "seconds since 1970, or all in ISO form such as 2024-05-31 or 2024-05-31T08:00:00+08:00."
        )
    late = np.abs(seconds) > 1e11
    if late.any():
        raise DataError(
            f"interactions: 'timestamp' is too large for seconds: {_rows(late, numbers, word, values)}. "
            "These look like milliseconds: divide them by 1000."
        )
    whole = bool((seconds == np.floor(seconds)).all())
    return pd.Series(seconds.astype(np.int64) if whole else seconds)


def _look_like_dates(numbers: np.ndarray) -> bool:
    """Whether all numbers are days such as 20240531."""
    if not ((numbers >= 19000101) & (numbers <= 21001231)).all() or (numbers != np.floor(numbers)).any():
        return False
    return bool(
        pd.to_datetime(numbers.astype(np.int64).astype(str), format="%Y%m%d", errors="coerce").notna().all()
    )
