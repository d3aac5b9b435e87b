"""Interactions and Dataset: order, matrices, and errors that say which rows are wrong and how to mend them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_lib.datasets import DataError, Dataset, Interactions

ITEMS = "item_id,title,text\nb1,Lamp,A desk lamp.\nb2,Mug,A blue mug.\nb3,Pen,A pen.\n"
ROWS = "user_id,item_id,timestamp,rating\nu1,b1,30,5\nu2,b2,20,4\nu1,b3,10,3\nu1,b2,30,1\n"


def interactions(pairs, times=None, n_users=5, n_items=7):
    frame = pd.DataFrame(pairs, columns=["user", "item"], dtype="int64")
    if times is not None:
        frame["timestamp"] = times
    return Interactions(frame, n_users, n_items)


@pytest.fixture
def read(tmp_path):
    """Read a data set from the texts of its CSV files."""

    def from_texts(rows=ROWS, items=ITEMS, users=None, **options):
        paths = []
        for name, text in (("rows.csv", rows), ("items.csv", items), ("users.csv", users)):
            if text is not None:
                path = tmp_path / name
                path.write_bytes(text if isinstance(text, bytes) else text.encode())
                paths.append(path)
        return Dataset.from_csv(*paths, **options)

    return from_texts


pairs_and_times = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 3)),
    unique_by=lambda row: row[:2],
    max_size=35,
)


@settings(max_examples=50, deadline=None)
@given(pairs_and_times)
def test_rows_are_sorted_by_user_time_and_then_as_they_came(rows):
    made = interactions([row[:2] for row in rows], [row[2] for row in rows])
    expected = sorted(rows, key=lambda row: (row[0], row[2]))  # sorted() is stable
    assert list(zip(made.users, made.items, made.timestamps, strict=True)) == expected
    assert len(made) == len(rows)


@settings(max_examples=50, deadline=None)
@given(pairs_and_times)
def test_histories_and_matrix_against_loops(rows):
    made = interactions([row[:2] for row in rows], [row[2] for row in rows])
    by_time = sorted(rows, key=lambda row: row[2])
    assert [h.tolist() for h in made.histories()] == [
        [i for u, i, _ in by_time if u == user] for user in range(5)
    ]
    matrix = made.matrix()
    assert matrix.dtype == np.float32
    expected = np.zeros((5, 7))
    for user, item, _ in rows:
        expected[user, item] = 1
    assert (matrix.toarray() == expected).all()


def test_select_keeps_order_and_row_numbers():
    made = interactions([(1, 2), (0, 3), (0, 1)], [5, 9, 7])
    assert made.items.tolist() == [1, 3, 2]
    picked = made.select(np.array([True, False, True]))
    assert picked.items.tolist() == [1, 2]
    assert picked.frame.index.tolist() == [0, 2]
    assert (picked.n_users, picked.n_items) == (5, 7)


def test_empty_interactions():
    none = interactions([])
    assert len(none) == 0
    assert none.matrix().shape == (5, 7)
    assert [len(history) for history in none.histories()] == [0] * 5
    assert Interactions(none.frame, 0, 0).histories() == []


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        ({"user": [0]}, "column 'item' is missing"),
        ({"user": ["a"], "item": [0]}, "'user' must hold integer codes"),
        ({"user": [0, 5, 1], "item": [0, 1, 2]}, r"'user' must lie in 0\.\.4: row 1\."),
        ({"user": [0, 1], "item": [-1, 7]}, r"'item' must lie in 0\.\.6: rows 0, 1\."),
        ({"user": [0, 0, 0], "item": [1, 2, 1]}, r"repeated: row 2\. Keep one.*drop_duplicates"),
        ({"user": [0], "item": [1], "timestamp": ["x"]}, "'timestamp' must hold seconds"),
        ({"user": [0], "item": [1], "timestamp": [np.nan]}, "none missing"),
    ],
)
def test_bad_interactions(frame, message):
    with pytest.raises(DataError, match=message):
        Interactions(pd.DataFrame(frame), 5, 7)


def test_timestamps_are_asked_for_where_there_are_none():
    with pytest.raises(DataError, match="no 'timestamp' column"):
        _ = interactions([(0, 1)]).timestamps


def test_from_csv(read):
    data = read(name="shop", licence="mine", source="till")
    assert (data.name, data.licence, data.source) == ("shop", "mine", "till")
    assert (data.n_users, data.n_items) == (2, 3)
    assert data.users["user_id"].tolist() == ["u1", "u2"]
    assert data.items["item_id"].tolist() == ["b1", "b2", "b3"]
    assert data.texts == ["A desk lamp.", "A blue mug.", "A pen."]
    frame = data.interactions.frame
    assert frame.columns.tolist() == ["user", "item", "timestamp", "rating"]
    assert frame.to_numpy().tolist() == [[0, 2, 10, 3], [0, 0, 30, 5], [0, 1, 30, 1], [1, 1, 20, 4]]
    assert frame.index.tolist() == [0, 1, 2, 3]


def test_csv_variants(read):
    renamed = ROWS.replace("user_id", "customer").replace(",", ";")
    data = read(
        "\ufeff".encode() + renamed.encode(),
        ITEMS.replace(",", ";"),
        columns={"customer": "user_id"},
        separator=";",
    )
    assert len(data.interactions) == 4
    chinese = "item_id,title\nb1,台灯\nb2,杯子\nb3,钢笔\n".encode("gb18030")
    data = read(items=chinese, rows=ROWS.encode(), encoding="gb18030")
    assert data.texts == ["台灯", "杯子", "钢笔"]
    quoted = 'item_id,title\nb1,"Lamp, red"\nb2,"Mug\nblue"\nb3,"Pen ""fine"""\n'
    assert read(items=quoted).texts == ["Lamp, red", "Mug\nblue", 'Pen "fine"']


def test_users_and_items_without_rows_are_kept(read):
    users = "user_id,age\nu9,40\nu2,30\nu1,20\n"
    data = read(rows="user_id,item_id\nu1,b3\n", users=users)
    assert data.users["user_id"].tolist() == ["u9", "u2", "u1"]
    assert data.users["age"].tolist() == ["40", "30", "20"]
    assert (data.n_users, data.n_items, len(data.interactions)) == (3, 3, 1)
    assert data.interactions.users.tolist() == [2]


def test_without_times_the_order_of_the_file_is_the_order_in_time(read):
    data = read(rows="user_id,item_id,channel\nu1,b3,web\nu2,b1,web\nu1,b1,app\n")
    assert [history.tolist() for history in data.interactions.histories()] == [[2, 0], [0]]
    assert data.interactions.frame["channel"].tolist() == ["web", "app", "web"]


MANY = "user_id,item_id\n" + "".join(f"u1,x{number}\n" for number in range(7))

BAD_TABLES = {
    "missing column": (
        {"rows": "user,item_id\nu1,b1\n"},
        r"interactions: column 'user_id' is missing.*has: user, item_id",
    ),
    "missing two": ({"items": "id,name\nb1,Lamp\n"}, "items: column 'item_id', 'title' is missing"),
    "missing in users": ({"users": "id,age\nu1,3\n"}, "users: column 'user_id' is missing"),
    "twice the column": ({"rows": "user_id,item_id,item_id\nu1,b1,b1\n"}, "'item_id' appears twice"),
    "name kept for codes": ({"rows": "user_id,item_id,item\nu1,b1,x\n"}, "'item' is kept for codes. Rename"),
    "no rows": ({"rows": "user_id,item_id\n"}, r"rows\.csv: the file has no rows"),
    "empty file": ({"items": ""}, r"items\.csv: the file has no rows"),
    "other separator": ({"rows": ROWS.replace(",", ";")}, r"one field only.*separator=';'"),
    "too few fields": (
        {"rows": ROWS + "u3,b1\n"},
        r"header has 4 fields but not line 6\. Put quotation marks",
    ),
    "too many fields": ({"items": ITEMS + "b4,Cup,red, blue\n"}, r"header has 3 fields but not line 5\."),
    "open quotation mark": (
        {"items": ITEMS + 'b4,"Cup,red\n'},
        r"items\.csv: line \d+: .*quotation mark that is not closed",
    ),
    "not UTF-8": (
        {"items": ITEMS.encode() + "b4,Café,x\n".encode("latin-1")},
        r"items\.csv: line 5 is not utf-8.*0xe9.*UTF-8",
    ),
    "empty id": ({"rows": ROWS + ",b1,1,1\n"}, r"interactions: 'user_id' is empty: line 6\. Fill"),
    "blank around id": (
        {"rows": ROWS + "u3, b1,1,1\n"},
        r"'item_id' has blanks around it: line 6 \(' b1'\).*strip",
    ),
    "repeated item": (
        {"items": ITEMS + "b1,Lamp,A lamp.\n"},
        r"items: 'item_id' is repeated: line 5 \('b1'\)",
    ),
    "repeated user": ({"users": "user_id\nu1\nu2\nu1\n"}, r"users: 'user_id' is repeated: line 4 \('u1'\)"),
    "unknown item": (
        {"rows": ROWS + "u1,b9,1,1\n"},
        r"item_id that the items table does not have: line 6 \('b9'\)\. Add",
    ),
    "unknown user": (
        {"users": "user_id\nu1\n"},
        r"user_id that the users table does not have: line 3 \('u2'\)",
    ),
    "many unknown": (
        {"rows": MANY},
        r"lines 2 \('x0'\), 3 \('x1'\), 4 \('x2'\), 5 \('x3'\), 6 \('x4'\) and 2 more",
    ),
    "repeated pair": (
        {"rows": ROWS + "u2,b2,99,1\n"},
        r"same user and item again: line 6 \(\('u2', 'b2'\)\).*drop_duplicates",
    ),
    "empty text": (
        {"items": ITEMS.replace("A blue mug.", " ")},
        r"items: 'text' is empty: line 3\. Write a text",
    ),
    "empty title": ({"items": ITEMS.replace("Pen,", ",")}, r"items: 'title' is empty: line 4"),
    "bad rating": ({"rows": ROWS + "u2,b3,1,good\n"}, r"'rating' is no number: line 6 \('good'\)\. Fill"),
    "missing rating": ({"rows": ROWS + "u2,b3,1,\n"}, r"'rating' is no number: line 6 \(''\)"),
    "infinite rating": ({"rows": ROWS + "u2,b3,1,inf\n"}, r"'rating' is no number: line 6 \('inf'\)"),
    "bad time": (
        {"rows": ROWS + "u2,b3,noon,1\n"},
        r"'timestamp' is no time: line 6 \('noon'\)\. Write all as seconds",
    ),
    "missing time": ({"rows": ROWS + "u2,b3,,1\n"}, r"'timestamp' is no time: line 6"),
    "mixed times": (
        {"rows": ROWS + "u2,b3,2024-05-31,1\n"},
        r"'timestamp' is no time: line 6 \('2024-05-31'\)",
    ),
    "milliseconds": (
        {"rows": "user_id,item_id,timestamp\nu1,b1,1717113600000\n"},
        r"line 2 .*milliseconds: divide",
    ),
    "compact dates": (
        {"rows": "user_id,item_id,timestamp\nu1,b1,20240531\n"},
        "dates without hyphens.*2024-05-31",
    ),
    "bad ISO": (
        {"rows": "user_id,item_id,timestamp\nu1,b1,2024-05-31\nu1,b2,2024-13-01\n"},
        r"no time: line 3 \('2024-13-01'\)",
    ),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_csv(read, case):
    texts, message = BAD_TABLES[case]
    with pytest.raises(DataError, match=message):
        read(**texts)


ITEM_FRAME = pd.DataFrame({"item_id": [1, 2, 3], "title": ["a", "b", "c"]})


@pytest.mark.parametrize(
    ("rows", "items", "message"),
    [
        (
            {"user_id": [1, 2], "item_id": [1.0, 2.0]},
            ITEM_FRAME,
            r"'item_id' holds decimal numbers: rows 0 \(1.0\), 1.*astype",
        ),
        ({"user_id": [1, None], "item_id": [1, 2]}, ITEM_FRAME, r"interactions: 'user_id' is empty: row 1\."),
        ({"user_id": [], "item_id": []}, ITEM_FRAME, "interactions: the table has no rows"),
        (
            {"user_id": [1], "item_id": [1]},
            ITEM_FRAME.assign(title=[5, "b", None]),
            r"'title' is no text: row 0 \(5\).*astype\(str\)",
        ),
        (
            {"user_id": [1], "item_id": [1]},
            ITEM_FRAME.assign(text=["x", "", np.nan]),
            r"'text' is empty: rows 1, 2\.",
        ),
        ({"user_id": [1], "item_id": [1], "rating": [np.nan]}, ITEM_FRAME, "'rating' is no number: row 0"),
        (
            {"user_id": [1], "item_id": [1], "timestamp": [pd.NaT]},
            ITEM_FRAME,
            "'timestamp' is no time: row 0",
        ),
    ],
)
def test_bad_frames(rows, items, message):
    with pytest.raises(DataError, match=message):
        Dataset.from_frames(pd.DataFrame(rows), items)


def test_ids_become_strings_and_the_frames_given_are_left_alone():
    rows = pd.DataFrame({"user_id": [7, 7], "item_id": [3, 1]}, index=[5, 9])
    before = rows.copy(), ITEM_FRAME.copy()
    data = Dataset.from_frames(rows, ITEM_FRAME)
    assert data.users["user_id"].tolist() == ["7"]
    assert data.items["item_id"].tolist() == ["1", "2", "3"]
    assert data.texts == ["a", "b", "c"]
    pd.testing.assert_frame_equal(rows, before[0])
    pd.testing.assert_frame_equal(ITEM_FRAME, before[1])


@pytest.mark.parametrize(
    "times",
    [
        [1717113600, 1717113661],
        ["1717113600", "1717113661"],
        ["2024-05-31", "2024-05-31T00:01:01Z"],
        ["2024-05-31T08:00:00+08:00", "2024-05-30T19:01:01-05:00"],
        ["2024-05-31 00:00:00", "2024-05-31 00:01:01.000"],
        pd.to_datetime(["2024-05-31 00:00:00", "2024-05-31 00:01:01"]),
        pd.to_datetime(["2024-05-31 08:00:00", "2024-05-31 08:01:01"]).tz_localize("Asia/Shanghai"),
        pd.Series(pd.to_datetime(["2024-05-31 00:00:00", "2024-05-31 00:01:01"]), dtype=object),
        pd.Series([1717113600, 1717113661], dtype="Int64"),
    ],
)
def test_times_in_seconds_and_iso_form(times):
    rows = pd.DataFrame({"user_id": ["u", "u"], "item_id": [1, 2], "timestamp": times})
    parsed = Dataset.from_frames(rows, ITEM_FRAME).interactions.timestamps
    assert parsed.tolist() == [1717113600, 1717113661]
    assert parsed.dtype == np.int64


def test_parts_of_a_second_are_kept():
    rows = pd.DataFrame({"user_id": ["u", "u"], "item_id": [1, 2], "timestamp": [10.5, 10.25]})
    data = Dataset.from_frames(rows, ITEM_FRAME)
    assert data.interactions.timestamps.tolist() == [10.25, 10.5]
    assert data.interactions.items.tolist() == [1, 0]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("xyz"), st.sampled_from("123"), st.integers(0, 9)),
        unique_by=lambda r: r[:2],
        min_size=1,
    )
)
def test_nothing_is_lost(rows):
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    data = Dataset.from_frames(frame, ITEM_FRAME)
    users, items = data.users["user_id"], data.items["item_id"]
    back = [(users[r.user], items[r.item], r.timestamp) for r in data.interactions.frame.itertuples()]
    assert sorted(back) == sorted(rows)


def test_dataset_checks_its_tables():
    rows = interactions([(0, 0)], n_users=1, n_items=2)
    users = pd.DataFrame({"user_id": ["u"]})
    items = pd.DataFrame({"item_id": ["a", "b"], "title": ["A", "B"], "text": ["A", "B"]})
    assert Dataset("d", rows, items, users).texts == ["A", "B"]
    with pytest.raises(DataError, match=r"items: the index must be the codes 0\.\.1"):
        Dataset("d", rows, items.iloc[:1], users)
    with pytest.raises(DataError, match="items: column 'text' is missing"):
        Dataset("d", rows, items.drop(columns="text"), users)
    with pytest.raises(DataError, match=r"users: the index must be the codes 0\.\.0"):
        Dataset("d", rows, items, users.set_index(pd.Index([4])))


def test_works_without_torch():
    import subprocess
    import sys

    code = "import sys, recsys_lib.splits, recsys_lib.datasets; print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
    )
