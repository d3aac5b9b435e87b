"""MovieLens-100K [movielens], its films joined with facts from Wikidata (CC0) into text."""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recsys_lib import resources
from recsys_lib.datasets.interactions import Dataset, Interactions

CAST_LENGTH = 5
TEXTS = ("rich", "basic", "title")
_ARTICLES = "The|A|An|La|Le|Les|L'|Il|Lo|I|Gli|El|Los|Las|Der|Die|Das|De|Het|Det|Den|Un|Une|O"
_FACTS = {
    "Director": "director",
    "Writer": "writers",
    "Cast": "cast",
    "Country": "country",
    "Production": "studio",
}

# films that the film facts have under another title, or a year further off, each looked up by hand
_ALIASES = {
    "187": ("One Eight Seven", 1997),
    "8 1/2": ("8½", 1963),
    "Aiqing wansui": ("Vive L'Amour", 1994),
    "Amityville 1992: It's About Time": ("Amityville: It's About Time", 1992),
    "C'est arrivé près de chez vous": ("Man Bites Dog", 1992),
    "Colonel Chabert, Le": ("Colonel Chabert", 1994),
    "Country Life": ("Country Life (film)", 1994),
    "Dr. Strangelove or: How I Learned to Stop Worrying and Love the Bomb": ("Dr. Strangelove", 1964),
    "Duoluo tianshi": ("Fallen Angels", 1995),
    "Empire Strikes Back, The": ("Star Wars: Episode V – The Empire Strikes Back", 1980),
    "Endless Summer 2, The": ("The Endless Summer II", 1994),
    "Enfer, L'": ("Hell", 1994),
    "Farinelli: il castrato": ("Farinelli", 1994),
    "Funeral, The": ("The Funerals", 1996),
    "Garden of Finzi-Contini, The (Giardino dei Finzi-Contini, Il)": (
        "The Garden of the Finzi-Continis",
        1970,
    ),
    "Grand Day Out, A": ("A Grand Day Out", 1989),
    "How to Be a Player": ("Def Jam's How to Be a Player", 1997),
    "In the Bleak Midwinter": ("A Midwinter's Tale", 1995),
    "Jackie Chan's First Strike": ("First Strike", 1996),
    "Jerky Boys, The": ("The Jerky Boys: The Movie", 1995),
    "Jungle2Jungle": ("Jungle 2 Jungle", 1997),
    "Kids in the Hall: Brain Candy": ("Brain Candy", 1996),
    "Lashou shentan": ("Hard Boiled", 1992),
    "M*A*S*H": ("MASH", 1970),
    "Mat' i syn": ("Mother and Son", 1997),
    "Microcosmos: Le peuple de l'herbe": ("Microcosmos", 1996),
    "Mostro, Il": ("The Monster", 1994),
    "My Left Foot": ("My Left Foot", 1979),
    "Naked Gun 33 1/3: The Final Insult": ("Naked Gun 33⅓: The Final Insult", 1994),
    "Nelly & Monsieur Arnaud": ("Nelly and Mr. Arnaud", 1995),
    "Nénette et Boni": ("Nenette and Boni", 1996),
    "Poison Ivy II": ("Poison Ivy II: Lily", 1996),
    "Postino, Il": ("Il Postino: The Postman", 1994),
    "Professional, The": ("Léon: The Professional", 1994),
    "Return of the Jedi": ("Star Wars: Episode VI – Return of the Jedi", 1983),
    "Robert A. Heinlein's The Puppet Masters": ("The Puppet Masters", 1994),
    "Rocket Man": ("RocketMan", 1997),
    "Sixth Man, The": ("The 6th Man", 1997),
    "Star Trek: The Wrath of Khan": ("Star Trek II: The Wrath of Khan", 1982),
    "Star Wars": ("Star Wars: Episode IV – A New Hope", 1977),
    "Sunset Blvd.": ("Sunset Boulevard", 1950),
    "Tales From the Crypt Presents: Demon Knight": ("Demon Knight", 1995),
    "Tales from the Crypt Presents: Bordello of Blood": ("Bordello of Blood", 1996),
    "Three Colors: Blue": ("Three Colours: Blue", 1993),
    "Three Colors: Red": ("Three Colours: Red", 1994),
    "Three Colors: White": ("Three Colours: White", 1994),
    "Twelve Monkeys": ("12 Monkeys", 1995),
    "U.S. Marshalls": ("U.S. Marshals", 1998),
    "William Shakespeare's Romeo and Juliet": ("Romeo + Juliet", 1996),
}


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
        items = items.join(_match(items, _read_facts()).drop(columns="candidates"))
    items.insert(2, "text", [_item_text(row, text) for row in items.to_dict("records")])
    items = items.drop(columns="source_title")
    users = _read_table(folder / "ml-100k.user", ["user_id", "age", "gender", "occupation", "zip_code"])
    users["age"] = users["age"].astype(np.int64)
    rows = _read_table(folder / "ml-100k.inter", ["user_id", "item_id", "rating", "timestamp"])
    frame = pd.DataFrame(
        {
            "user": pd.Index(users["user_id"]).get_indexer(rows["user_id"]),
            "item": pd.Index(items["item_id"]).get_indexer(rows["item_id"]),
            "timestamp": rows["timestamp"].astype(np.int64),
            "rating": rows["rating"].astype(np.float64),
        }
    )
    source = "MovieLens 100K, GroupLens Research [movielens]"
    licence = resources.RESOURCES["movielens-100k"].licence
    if text == "rich":
        source, licence = f"{source}; film facts: Wikidata", f"{licence}; film facts: CC0-1.0"
    return Dataset(
        "MovieLens-100K", Interactions(frame, len(users), len(items)), items, users, licence, source
    )


def film_features(items: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """Numbers from the facts of MovieLens' films, to stand beside their text vectors.

    Parameters
    ----------
    items : DataFrame
        The ``items`` of `load_movielens_100k` with rich text.

    Returns
    -------
    dict of arrays (n_items, d)
        ``genre``: one-hot. ``year``: exp(-|distance in years| / 3) to each year from 1920 to 1998, so that near
        years are alike; an unknown year is all zero. ``director``: one-hot of those with two films or more.
    """
    directors = items["director"].str.get_dummies(", ")
    year = items["year"].astype("float64").to_numpy()[:, None]
    return {
        "genre": items["genres"].str.get_dummies(", ").to_numpy(dtype=np.float64),
        "year": np.nan_to_num(np.exp(-np.abs(year - np.arange(1920, 1999)) / 3)),
        "director": directors.loc[:, directors.sum() >= 2].to_numpy(dtype=np.float64),
    }


def match_report() -> pd.DataFrame:
    """How each film was looked up among the film facts, one row a film in order of item code.

    Columns: ``title``, ``year``, ``match`` and ``candidates``: the titles and years of all films whose title fits
    (accents, case, punctuation and the article aside; a title in brackets is an alternative).
    ``match`` is ``exact`` (one candidate of the same year), ``year±1`` (none of the same year, one a year off),
    ``alias`` (found by hand under another title or year), ``ambiguous`` (several; none is used), ``other year``
    (candidates further off, such as remakes; none is used) or ``none`` (the facts begin in 1940, for example).
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
    """The words of a title, without accents, case, punctuation and an English article in front."""
    plain = "".join(
        c for c in unicodedata.normalize("NFKD", title) if not unicodedata.combining(c)
    ).casefold()
    words = " ".join(re.findall(r"\w+", re.sub(r"['’`]", "", plain.replace("&", " and "))))
    return re.sub(r"^(the|a|an) (?=.)", "", words)


def _keys(source_title: str) -> list[str]:
    """Keys of a film's title and of its alternative titles, which stand in brackets."""
    return [_key(_article_first(part)) for part in re.split(r"[()]", source_title) if part.strip()]


def _read_facts() -> list[dict[str, Any]]:
    """Films with title, year and the few facts that the text uses, strings empty where unknown."""
    path = resources.fetch("film-facts") / "movies.db"
    columns = ", ".join(f'"{column}"' for column in ("Title", "Year", *_FACTS))
    query = f"SELECT {columns} FROM omdb JOIN tomatoes USING (ID) ORDER BY ID"
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
        rows = connection.execute(query).fetchall()
    return [
        dict(zip(("title", "year", *_FACTS.values()), (value or "" for value in row), strict=True))
        for row in rows
    ]


def _match(items: pd.DataFrame, facts: list[dict[str, Any]]) -> pd.DataFrame:
    """Facts of each film, with columns ``match`` and ``candidates`` as in `match_report`."""
    films: dict[str, list[dict[str, Any]]] = {}
    for film in facts:
        films.setdefault(_key(film["title"]), []).append(film)
    found = []
    for title, year in zip(items["source_title"], items["year"], strict=True):
        if title in _ALIASES:
            alias, year = _ALIASES[title]
            candidates = films.get(_key(alias), [])
        else:
            candidates = [film for key in dict.fromkeys(_keys(title)) for film in films.get(key, [])]
        label, chosen = _choose(candidates, year)
        found.append(
            {
                "match": "alias" if chosen and title in _ALIASES else label,
                **{fact: chosen[fact] if chosen else "" for fact in _FACTS.values()},
                "candidates": "; ".join(f"{film['title']} ({film['year']})" for film in candidates),
            }
        )
    return pd.DataFrame(found, index=items.index)


def _choose(candidates: list[dict[str, Any]], year: Any) -> tuple[str, dict[str, Any] | None]:
    """The kind of match, and the film if there is just one."""
    for label, distance in (("exact", 0), ("year±1", 1)):
        close = [film for film in candidates if pd.notna(year) and abs(film["year"] - year) == distance]
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
        for label, value in (
            ("Director", film["director"]),
            ("Writers", film["writers"]),
            ("Cast", cast),
            ("Country", film["country"]),
            ("Studio", film["studio"]),
        ):
            if value:
                parts.append(f"{label}: {value}.")
    return " ".join(parts)
