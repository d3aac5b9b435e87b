"""MovieLens-100K [movielens], its films joined with facts from Wikidata (CC0) into text."""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd

from recsys_lib import resources
from recsys_lib.datasets.interactions import Dataset, Interactions

CAST_LENGTH = 5
TEXTS = ("rich", "basic", "title")
_ARTICLES = "The|A|An|La|Le|Les|L'|Il|Lo|I|Gli|El|Los|Las|Der|Die|Das|De|Het|Det|Den|Un|Une|O"
_FACTS = {"Director": "director", "Writer": "writers", "Cast": "cast", "Country": "country", "Production": "studio"}


def load_movielens_100k(text: str = "rich") -> Dataset:
    """MovieLens-100K: 943 users, 1,682 films, 100,000 ratings, every one of them a positive.

    Rows that tie in a user's time keep the order of the source's file.

    Parameters
    ----------
    text
        What ``items.text`` says of a film: ``"title"``; ``"basic"``: title, year and genres; ``"rich"``: also
        director, writers, cast, country and studio where `match_report` found the film. The source lists the cast
        by alphabet, not by part, so the first five names stand for it. Never ratings, votes, awards or box office.

    Returns
    -------
    Dataset
        ``items``: item_id, title (natural order), text, year (Int64, missing for one film), genres (joined by a
        comma), match, director, writers, cast, country, studio (empty where unknown). ``users``: user_id, age,
        gender, occupation, zip_code.

    Raises
    ------
    recsys_lib.resources.ResourceError
        If the data cannot be fetched.
    """
    if text not in TEXTS:
        raise ValueError(f"text must be one of {', '.join(TEXTS)}, not {text!r}.")
    folder = resources.fetch("movielens-100k")
    items = _read_items(folder / "ml-100k.item")
    if text == "rich":
        items = items.join(_match(items, _read_facts()))
    items.insert(2, "text", [_item_text(row, text) for row in items.to_dict("records")])
    items = items.drop(columns="source_title")
    users = _read_table(folder / "ml-100k.user", ["user_id", "age", "gender", "occupation", "zip_code"])
    users["age"] = users["age"].astype(np.int64)
    rows = _read_table(folder / "ml-100k.inter", ["user_id", "item_id", "rating", "timestamp"])
    frame = pd.DataFrame({
        "user": pd.Index(users["user_id"]).get_indexer(rows["user_id"]),
        "item": pd.Index(items["item_id"]).get_indexer(rows["item_id"]),
        "timestamp": rows["timestamp"].astype(np.int64),
        "rating": rows["rating"].astype(np.float64),
    })
    frame = Interactions(frame, len(users), len(items)).frame.reset_index(drop=True)
    source = "MovieLens 100K, GroupLens Research [movielens]"
    licence = resources.RESOURCES["movielens-100k"].licence
    if text == "rich":
        source, licence = f"{source}; film facts: Wikidata", f"{licence}; film facts: CC0-1.0"
    return Dataset("MovieLens-100K", Interactions(frame, len(users), len(items)), items, users, licence, source)


def match_report() -> pd.DataFrame:
    """How each film was looked up among the film facts, one row a film in order of item code.

    Columns: ``title``, ``year``, ``match`` and ``candidates``: the titles and years of all films whose title fits
    (accents, case, punctuation and the place of the article aside; a title in brackets is an alternative).
    ``match`` is ``exact`` (one candidate of the same year), ``year±1`` (none of the same year, one a year off),
    ``ambiguous`` (several; none is used), ``other year`` (candidates further off; none is used: remakes) or
    ``none``.
    """
    items = _read_items(resources.fetch("movielens-100k") / "ml-100k.item")
    matched = _match(items, _read_facts())
    return items[["title", "year"]].join(matched[["match", "candidates"]])


def _read_table(path: Path, columns: list[str]) -> pd.DataFrame:
    """A tab-separated file as strings; an empty field stays an empty string."""
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, quoting=3, encoding="utf-8")
    return table.set_axis(columns, axis=1).astype(object)


def _read_items(path: Path) -> pd.DataFrame:
    table = _read_table(path, ["item_id", "source_title", "year", "genres"])
    # the source's title of one film still holds the year, another film is unknown
    inside = table["source_title"].str.extract(r"^(.*) \((\d{4})\)$")
    table["source_title"] = inside[0].fillna(table["source_title"]).replace("unkonwn", "unknown")
    table["year"] = pd.to_numeric(inside[1].fillna(table["year"]), errors="coerce").astype("Int64")
    table["genres"] = table["genres"].str.split().str.join(", ")
    table.insert(1, "title", [_natural_title(title) for title in table["source_title"]])
    return table


def _natural_title(title: str) -> str:
    """``"Postino, Il"`` becomes ``"Il Postino"``, also inside brackets."""
    main, *others = re.split(r"\s*\(", title.replace(")", ""))
    return _article_first(main) + "".join(f" ({_article_first(other)})" for other in others)


def _article_first(title: str) -> str:
    found = re.fullmatch(rf"(.*), ({_ARTICLES})", title.strip())
    if not found:
        return title.strip()
    name, article = found.groups()
    return article + ("" if article.endswith("'") else " ") + name


def _key(title: str) -> str:
    """The letters and digits of a title, without accents, case and punctuation."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", title) if not unicodedata.combining(c)).casefold()
    return " ".join(re.findall(r"\w+", re.sub(r"['’`]", "", plain.replace("&", " and "))))


def _keys(source_title: str) -> list[str]:
    """Keys of a film's title and of its alternative titles, which stand in brackets."""
    return [_key(_article_first(part)) for part in re.split(r"[()]", source_title) if part.strip()]


def _read_facts() -> pd.DataFrame:
    """Films with title, year and the few facts that the text uses, strings empty where unknown."""
    path = resources.fetch("film-facts") / "movies.db"
    columns = ", ".join(f'"{column}"' for column in ("Title", "Year", *_FACTS))
    query = f"SELECT {columns} FROM omdb JOIN tomatoes USING (ID) ORDER BY ID"
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        rows = connection.execute(query).fetchall()
    facts = pd.DataFrame(rows, columns=["film", "film_year", *_FACTS.values()], dtype=object)
    return facts.fillna("")


def _match(items: pd.DataFrame, facts: pd.DataFrame) -> pd.DataFrame:
    """Facts of each film, with columns ``match`` and ``candidates`` as in `match_report`."""
    films: dict[str, list[int]] = {}
    for row, title in enumerate(facts["film"]):
        films.setdefault(_key(title), []).append(row)
    found = []
    for title, year in zip(items["source_title"], items["year"], strict=True):
        candidates = sorted({row for key in _keys(title) for row in films.get(key, [])})
        label, row = _choose(candidates, facts["film_year"], year)
        facts_of_film = dict.fromkeys(_FACTS.values(), "") if row is None else facts.loc[row, list(_FACTS.values())].to_dict()
        listed = "; ".join(f"{facts['film'][c]} ({facts['film_year'][c]})" for c in candidates)
        found.append({"match": label, **facts_of_film, "candidates": listed})
    return pd.DataFrame(found, index=items.index)


def _choose(candidates: list[int], years: pd.Series, year: int) -> tuple[str, int | None]:
    """The kind of match and the row of the film, if there is just one."""
    for label, distance in (("exact", 0), ("year±1", 1)):
        close = [row for row in candidates if pd.notna(year) and abs(years[row] - year) == distance]
        if close:
            return (label, close[0]) if len(close) == 1 else ("ambiguous", None)
    return ("other year" if candidates else "none"), None


def _item_text(film: dict, text: str) -> str:
    if text == "title":
        return film["title"]
    year = "" if pd.isna(film["year"]) else f" ({film['year']})"
    parts = [f"{film['title']}{year}.", f"Genres: {film['genres']}."]
    if text == "rich":
        cast = ", ".join(film["cast"].split(", ")[:CAST_LENGTH])
        for label, value in (("Director", film["director"]), ("Writers", film["writers"]), ("Cast", cast),
                             ("Country", film["country"]), ("Studio", film["studio"])):
            if value:
                parts.append(f"{label}: {value}.")
    return " ".join(parts)
