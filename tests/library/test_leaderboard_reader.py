"""Reading the leaderboard."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from recsys_lib import leaderboard
from recsys_lib.leaderboard import leaderboard_rows, load_leaderboard, within_spread

LINES = """protocol,model,metric,mean,sd,ci_low,ci_high,seeds,users,train_seconds,config
leave_one_out,a,NDCG@10,0.10,0.004,0.08,0.12,3,943,1.0,{}
leave_one_out,a,HR@10,0.20,0.005,0.18,0.22,3,943,1.0,{}
leave_one_out,b,NDCG@10,0.11,,0.09,0.13,1,943,1.0,{}
cold_items,a,NDCG@10,0.30,0.04,0.28,0.33,5,940,1.0,{}
"""


@pytest.fixture(autouse=True)
def small_file(tmp_path, monkeypatch) -> None:
    path = tmp_path / "leaderboard.csv"
    path.write_text(LINES, encoding="utf-8")
    monkeypatch.setattr(leaderboard, "FILE", path)


def test_the_whole_table() -> None:
    table = load_leaderboard()
    assert len(table) == 4 and np.isnan(table.loc[2, "sd"])


def test_rows_of_a_protocol_best_first() -> None:
    found = leaderboard_rows("leave_one_out")
    assert found.index.tolist() == ["b", "a"]
    assert found.columns.tolist() == ["mean", "sd", "low", "high", "seeds", "source"]
    assert found.loc["a", ["mean", "low", "high"]].tolist() == [0.10, 0.08, 0.12]
    assert (found["source"] == "from the leaderboard 来自排行榜").all()


def test_order_labels_and_metric() -> None:
    assert leaderboard_rows("leave_one_out", ["a", "b"]).index.tolist() == ["a", "b"]
    labelled = leaderboard_rows("leave_one_out", {"a": "A 甲"}, metric="HR@10")
    assert labelled.index.tolist() == ["A 甲"] and labelled["mean"].tolist() == [0.20]


def test_unknown_names_are_refused() -> None:
    for arguments, message in (
        (("nowhere",), "no protocol 'nowhere'"),
        (("cold_items", None, "AUC"), "no metric 'AUC'"),
        (("cold_items", ["b"]), r"not on the leaderboard of cold_items: \['b'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            leaderboard_rows(*arguments)


def test_spread() -> None:
    assert within_spread(0.1119, "leave_one_out", "a") and not within_spread(0.1121, "leave_one_out", "a")
    assert within_spread(0.1159, "leave_one_out", "b") and not within_spread(0.1161, "leave_one_out", "b")


def test_the_real_file_is_there(monkeypatch) -> None:
    monkeypatch.undo()
    assert isinstance(load_leaderboard(), pd.DataFrame) and len(leaderboard_rows("leave_one_out")) > 1
