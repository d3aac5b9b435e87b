"""When MovieLens' films came out, as far as Wikidata says (CC0)."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pandas as pd

from recsys_lib import resources
from recsys_lib.datasets.movielens import _FACTS


def release_dates(items: pd.DataFrame) -> pd.Series:
    """Release date of each film, missing where the film or its date was not found.

    Wikidata holds one date a film here, of one country or festival, not always the first: some films were rated before
    it. The film is the one `load_movielens_100k` took the other facts from.

    Parameters
    ----------
    items : DataFrame
        The ``items`` of `load_movielens_100k` with rich text.

    Returns
    -------
    Series of datetime64, the index of ``items``

    Raises
    ------
    ValueError
        If the facts are missing from ``items``.
    """
    facts = list(_FACTS.values())
    if not set(facts) <= set(items.columns):
        raise ValueError("release dates need the items of load_movielens_100k('rich')")
    path = resources.fetch("film-facts") / "movies.db"
    columns = ", ".join(f'"{column}"' for column in (*_FACTS, "Year", "Released"))
    query = f"SELECT {columns} FROM omdb JOIN tomatoes USING (ID) ORDER BY ID"
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        found = connection.execute(query).fetchall()
    dates: dict[tuple[str, ...], set[tuple[int, str | None]]] = {}
    for *values, year, date in found:
        dates.setdefault(tuple(value or "" for value in values), set()).add((year, date))
    released: list[str | None] = []
    for *values, match, year in items[[*facts, "match", "year"]].itertuples(index=False, name=None):
        known = dates.get(tuple(values), set()) if match in ("exact", "year±1", "alias") else set()
        fitting = {date for made, date in known if match == "alias" or abs(made - year) <= 1}
        released.append(next(iter(fitting)) if len(fitting) == 1 else None)
    return pd.to_datetime(pd.Series(released, index=items.index, dtype=object), errors="coerce").rename(
        "released"
    )
