"""MovieLens-100K: counts, order, and the join with film facts."""

import time

import numpy as np
import pandas as pd
import pytest

from recsys_lib import resources
from recsys_lib.datasets import film_features, load_movielens_100k, match_report, movielens
from recsys_lib.splits import tie_statistics

LABELS = {"exact", "year±1", "alias", "ambiguous", "other year", "none"}
MATCHED = {"exact", "year±1", "alias"}


@pytest.fixture(scope="module")
def data():
    return load_movielens_100k()


@pytest.fixture(scope="module")
def report():
    return match_report()


def test_counts(data):
    assert (data.n_users, data.n_items, len(data.interactions)) == (943, 1682, 100_000)
    assert data.users["user_id"].tolist() == [str(number) for number in range(1, 944)]
    assert data.items["item_id"].tolist() == [str(number) for number in range(1, 1683)]
    assert data.interactions.matrix().sum() == 100_000
    assert np.bincount(data.interactions.users).min() == 20
    assert data.users["gender"].value_counts().to_dict() == {"M": 670, "F": 273}
    assert data.users["age"].between(7, 73).all()
    assert data.users["occupation"].nunique() == 21
    ratings = data.interactions.frame["rating"].value_counts()
    assert ratings.sort_index().to_dict() == {1.0: 6110, 2.0: 11370, 3.0: 27145, 4.0: 34174, 5.0: 21201}


def test_rows_against_the_file_sorted_by_plain_python(data):
    lines = (resources.fetch("movielens-100k") / "ml-100k.inter").read_text().splitlines()[1:]
    rows = [tuple(map(float, line.split("\t"))) for line in lines]
    rows.sort(key=lambda row: (row[0], row[3]))  # stable: ties stay as in the file
    frame = data.interactions.frame
    assert (frame["user"] + 1).tolist() == [row[0] for row in rows]
    assert (frame["item"] + 1).tolist() == [row[1] for row in rows]
    assert frame["rating"].tolist() == [row[2] for row in rows]
    assert frame["timestamp"].tolist() == [row[3] for row in rows]


def test_half_of_the_order_is_order_of_the_file(data):
    statistics = tie_statistics(data)
    assert statistics["users_last_two_tied"] == 415
    assert statistics["tied_share"] == pytest.approx(0.51, abs=0.005)
    assert statistics["median_span_minutes"] == pytest.approx(49.35)


def test_texts(data):
    assert data.texts[0].startswith(
        "Toy Story (1995). Genres: Animation, Children's, Comedy. Director: John Lasseter. Writers: Alec Sokolow, "
    )
    assert data.texts[0].endswith("Country: United States. Studio: Pixar, Walt Disney Pictures.")
    basic, title = load_movielens_100k("basic"), load_movielens_100k("title")
    assert basic.texts[0] == "Toy Story (1995). Genres: Animation, Children's, Comedy."
    assert title.texts[0] == "Toy Story"
    assert all(rich.startswith(short) for rich, short in zip(data.texts, basic.texts, strict=True))
    assert all(short.startswith(name) for short, name in zip(basic.texts, title.texts, strict=True))
    assert basic.texts[266] == "unknown. Genres: unknown."
    assert basic.items["year"].isna().sum() == 1
    assert basic.texts[1411].startswith("Land Before Time III: The Time of the Great Giving (1995). ")
    assert "match" not in basic.items and "director" not in basic.items
    for other in (basic, title):
        pd.testing.assert_frame_equal(other.interactions.frame, data.interactions.frame)
    with pytest.raises(ValueError, match="rich, basic, title"):
        load_movielens_100k("full")


def test_texts_have_only_the_allowed_facts(data):
    """No rating, vote, award or box office: every part of a text is one of the named facts."""
    labels = ("Genres", "Director", "Writers", "Cast", "Country", "Studio")
    columns = ("genres", "director", "writers", "cast", "country", "studio")
    for film in data.items.to_dict("records"):
        year = "" if pd.isna(film["year"]) else f" ({film['year']})"
        parts = [f"{film['title']}{year}."]
        for label, column in zip(labels, columns, strict=True):
            value = film[column]
            if label == "Cast":
                value = ", ".join(value.split(", ")[:5])
            parts += [f"{label}: {value}."] if value else []
        assert film["text"] == " ".join(parts)
    assert set(data.items.columns) == {"item_id", "title", "text", "year", "match", *columns}


def test_titles_in_natural_order(data):
    titles = data.items["title"]
    assert titles[542] == "Les Misérables"
    assert titles[1004] == "La Double vie de Véronique (The Double Life of Veronique)"
    assert not titles.str.contains(r", (?:The|A|An|Le|La|Les)\b(?:\)|$)").any()
    assert movielens._natural_title("Uomo delle stelle, L'") == "L'Uomo delle stelle"
    assert movielens._natural_title("Postino, Il") == "Il Postino"


def test_match_report_accounts_for_every_film(data, report):
    assert len(report) == 1682
    assert set(report["match"]) <= LABELS
    assert report["match"].tolist() == data.items["match"].tolist()
    counts = report["match"].value_counts().to_dict()
    assert counts == {"exact": 1319, "none": 212, "year±1": 71, "alias": 49, "other year": 31}
    has_facts = data.items["director"] != ""
    assert (has_facts == report["match"].isin(MATCHED)).all()
    assert (report["candidates"] == "").equals(report["match"] == "none")
    share = np.isin(data.interactions.items, np.flatnonzero(has_facts)).mean()
    assert share == pytest.approx(0.9716, abs=1e-4)


def test_match_against_a_plain_search(report):
    """Films of a plain title and year, searched by hand in the facts, are found as exact."""
    facts = {(film["title"], film["year"]): film for film in movielens._read_facts()}
    same = [(t, y) in facts for t, y in zip(report["title"], report["year"].fillna(0), strict=True)]
    # an alias may stand in front of a film of the same title and year
    assert set(report["match"][same]) <= {"exact", "alias"}
    assert sum(same) > 1000


def test_every_alias_names_a_film_and_is_needed(report, data):
    assert (report["match"] == "alias").sum() == len(movielens._ALIASES)
    items = movielens._read_items(resources.fetch("movielens-100k") / "ml-100k.item")
    without = movielens._match(
        items[~items["source_title"].isin(movielens._ALIASES)], movielens._read_facts()
    )
    assert (without["match"] == report["match"][without.index]).all()
    assert set(movielens._ALIASES) <= set(items["source_title"])
    assert "George Lucas" in data.texts[49]


def film(title, year, director="D"):
    return {
        "title": title,
        "year": year,
        "director": director,
        "writers": "",
        "cast": "",
        "country": "",
        "studio": "",
    }


@pytest.mark.parametrize(
    ("title", "year", "facts", "label", "director"),
    [
        ("Heat", 1995, [film("Heat", 1995, "M"), film("Heat", 1986)], "exact", "M"),
        ("Heat", 1995, [film("Heat", 1994, "M"), film("Heat", 1986)], "year±1", "M"),
        ("Heat", 1995, [film("Heat", 1996, "M"), film("Heat", 1995, "N")], "exact", "N"),
        ("Heat", 1995, [film("Heat", 1995), film("The Heat", 1995)], "ambiguous", ""),
        ("Heat", 1995, [film("Heat", 1994), film("Heat", 1996)], "ambiguous", ""),
        ("Heat", 1995, [film("Heat", 1997)], "other year", ""),
        ("Heat", 1995, [film("Heath", 1995)], "none", ""),
        ("Heat", pd.NA, [film("Heat", 1995)], "other year", ""),
        ("Misérables, Les", 1995, [film("LES MISERABLES", 1995, "M")], "exact", "M"),
        ("Dracula & Son (Père et fils)", 1976, [film("Dracula and Son", 1976, "M")], "exact", "M"),
        ("Dracula & Son (Père et fils)", 1976, [film("Pere et fils!", 1977, "M")], "year±1", "M"),
        ("That Darn Cat!", 1965, [film("That Darn Cat", 1965, "M")], "exact", "M"),
        ("Schindler's List", 1993, [film("Schindler’s List", 1993, "M")], "exact", "M"),
        ("A", 1990, [film("A", 1990, "M")], "exact", "M"),
        ("Star Wars", 1977, [film("Star Wars: Episode IV – A New Hope", 1977, "L")], "alias", "L"),
        ("Star Wars", 1977, [film("Star Wars", 1977, "X")], "none", ""),
    ],
)
def test_match_rules(title, year, facts, label, director):
    items = pd.DataFrame({"source_title": [title], "year": pd.array([year], dtype="Int64")})
    found = movielens._match(items, facts).iloc[0]
    assert (found["match"], found["director"]) == (label, director)


def test_loading_is_deterministic_and_fast(data):
    started = time.process_time()
    again = load_movielens_100k()
    assert time.process_time() - started < 3
    pd.testing.assert_frame_equal(again.items, data.items)
    pd.testing.assert_frame_equal(again.users, data.users)
    pd.testing.assert_frame_equal(again.interactions.frame, data.interactions.frame)
    assert "CC0" in data.licence and "[movielens]" in data.source


def test_film_features_by_hand():
    items = pd.DataFrame(
        {
            "genres": ["Drama, War", "War", "Comedy"],
            "year": pd.array([1990, 1993, None], dtype="Int64"),
            "director": ["A B, C D", "C D", ""],
        }
    )
    features = film_features(items)
    assert features["genre"].tolist() == [[0, 1, 1], [0, 0, 1], [1, 0, 0]]
    assert features["director"].tolist() == [[1], [1], [0]]
    assert features["year"].shape == (3, 79)
    assert features["year"][0, [70, 73]] == pytest.approx([1, np.exp(-1)])
    assert not features["year"][2].any()
