"""The leaderboard: its files, rows measured again, and what the chapters say of it."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]
from rotation import rotation

from benchmarks.leaderboard import core, files
from recsys_lib.leaderboard import load_leaderboard, within_spread

TODAY = datetime.date.today().toordinal()
LIVE = "leaderboard: "  # a check of a chapter's own value
READ = "from the leaderboard: "  # a check of a value that a chapter read from the file
SLOWEST = 90  # seconds; what takes longer is not measured again here


def ndcg() -> pd.DataFrame:
    """NDCG@10 of every row, by protocol and model."""
    table = pd.read_csv(files.TABLE)
    return table[table["metric"] == "NDCG@10"].set_index(["protocol", "model"])


def rows(quick: bool) -> list[core.Row]:
    """Declared rows that are in the file."""
    known = ndcg().index
    return [row for row in core.all_rows() if row.quick == quick and (row.protocol, row.name) in known]


@pytest.fixture(scope="module")
def data() -> core.Data:
    return core.Data()


def test_the_library_carries_the_same_file() -> None:
    assert files.COPY.read_bytes() == files.TABLE.read_bytes()
    pd.testing.assert_frame_equal(load_leaderboard(), pd.read_csv(files.TABLE))


def test_every_row_is_well_formed() -> None:
    table = pd.read_csv(files.TABLE)
    assert list(table.columns) == files.COLUMNS
    assert not table.duplicated(["protocol", "model", "metric"]).any()
    assert (
        table.groupby(["protocol", "model"])["metric"].apply(set).map(set(core.METRICS.values()).__eq__).all()
    )
    assert set(table["protocol"]) == set(core.PROTOCOLS)
    assert table["mean"].between(0, 1).all() and (table["train_seconds"] >= 0).all()
    assert (table["ci_low"] <= table["mean"]).all() and (table["mean"] <= table["ci_high"]).all()
    assert (table["sd"].isna() == (table["seeds"] == 1)).all()
    assert all(isinstance(json.loads(config), dict) for config in table["config"])
    for protocol in core.PROTOCOLS:
        assert {"random", "popularity"} <= set(table.loc[table["protocol"] == protocol, "model"])


def test_seeds_are_what_the_matrix_declares() -> None:
    declared = {(row.protocol, row.name): row for row in core.all_rows()}
    for pair, line in ndcg().iterrows():
        assert pair in declared, f"{pair} is in the file, but not declared"
        assert line["seeds"] == len(declared[pair].seeds), pair
        if declared[pair].trained or core.PROTOCOLS[pair[0]].splits:
            assert line["seeds"] >= (5 if pair[0] == "cold_items" else 3), pair
        if declared[pair].quick:
            assert line["train_seconds"] < 10, f"{pair} is not quick"


def test_means_and_spreads_follow_from_the_seeds() -> None:
    seeds = pd.read_csv(files.SEEDS)
    assert list(seeds.columns) == files.SEED_COLUMNS
    table = pd.read_csv(files.TABLE).set_index(["protocol", "model", "metric"])
    for pair, own in seeds.groupby(["protocol", "model"]):
        for metric in core.METRICS.values():
            line = table.loc[(*pair, metric)]
            assert line["mean"] == pytest.approx(own[metric].mean(), abs=2e-6)
            assert line["seeds"] == len(own)
            if len(own) > 1:
                assert line["sd"] == pytest.approx(own[metric].std(ddof=1), abs=2e-6)


def test_paired_tests_agree_with_the_table() -> None:
    tests, means = pd.read_csv(files.TESTS), ndcg()["mean"]
    assert list(tests.columns) == files.TEST_COLUMNS
    best = means.groupby(level=0).idxmax()
    for line in tests.itertuples():
        assert line.against in files.REFERENCES or line.against == best[line.protocol][1]
        assert line.ci_low <= line.difference <= line.ci_high
        assert 0 < line.p_value <= line.p_holm <= 1
        gap = means[line.protocol, line.model] - means[line.protocol, line.against]
        # users in several splits count once, so that the mean over users differs from that over splits
        margin = 0.02 if core.PROTOCOLS[line.protocol].splits else 2e-6
        assert line.difference == pytest.approx(gap, abs=margin), line
    for protocol in core.PROTOCOLS:
        models = [model for name, model in means.index if name == protocol]
        against = tests[(tests["protocol"] == protocol) & (tests["against"] == "popularity")]
        assert sorted(against["model"]) == sorted(set(models) - {"popularity"})


def test_holm_by_hand() -> None:
    np.testing.assert_allclose(files.holm(np.array([0.04, 0.01, 0.03, 0.5])), [0.09, 0.04, 0.09, 0.5])


def test_quick_rows_measured_again(data: core.Data) -> None:
    """At one seed a row, another one each day; `make leaderboard-quick` measures all of them."""
    expected, wrong = files.read_seeds(), []
    found = rows(quick=True)
    assert len(found) > 20
    for row in sorted(found, key=lambda row: row.protocol):
        seed = row.seeds[TODAY % len(row.seeds)]
        result, seconds = core.measure(row, seed, data)
        wrong += files.differences(row, seed, result.per_user.assign(seconds=seconds), expected)
    assert not wrong, "\n".join(wrong)


def test_three_slow_rows_measured_again(data: core.Data) -> None:
    """At one seed, other rows each day: within 3 sd (at least 0.006) of the mean over seeds."""
    means, wrong = ndcg(), []
    slow = {
        row.label: row
        for row in rows(quick=False)
        if row.how != "fuse" and means.loc[(row.protocol, row.name), "train_seconds"] <= SLOWEST
    }
    if not slow:
        pytest.skip("no slow row is on the leaderboard yet")
    for label in rotation(sorted(slow), TODAY):
        row = slow[label]
        result, _ = core.measure(row, row.seeds[TODAY % len(row.seeds)], data)
        if not within_spread(result.mean(), row.protocol, row.name):
            wrong.append(
                f"{label}: {result.mean():.4f}, file {means.loc[(row.protocol, row.name), 'mean']:.4f}"
            )
    assert not wrong, "\n".join(wrong)


def test_a_wrong_value_is_noticed(data: core.Data) -> None:
    row = core.find_row("leave_one_out", "popularity")
    result, _ = core.measure(row, 0, data)
    expected = files.read_seeds()
    shifted = result.per_user + 0.01
    assert files.differences(row, 0, result.per_user, expected) == []
    assert len(files.differences(row, 0, shifted, expected)) == 4


def test_what_chapters_say_of_the_leaderboard() -> None:
    """A check called "leaderboard: PROTOCOL / MODEL NDCG@10" lies within its spread; a value that was read is equal.

    What was read is held against a number with four decimals, as the prose quotes it, never against itself.
    """
    means, wrong = ndcg(), []
    chapters = json.loads((ROOT / "status.json").read_text(encoding="utf-8"))["chapters"]
    for chapter, status in chapters.items():
        for name, check in status["checks"].items():
            for prefix in (READ, LIVE):
                if not name.startswith(prefix):
                    continue
                protocol, _, model = name.removeprefix(prefix).removesuffix(" NDCG@10").partition(" / ")
                if not name.endswith(" NDCG@10") or (protocol, model) not in means.index:
                    wrong.append(f"{chapter}: {name!r} names no row")
                elif prefix == READ and abs(check["value"] - means.loc[(protocol, model), "mean"]) > 1e-5:
                    wrong.append(f"{chapter}: {name} = {check['value']:g} is not what the file has")
                elif prefix == READ and (
                    check["margin"] > 0.0005 or round(check["about"], 4) != check["about"]
                ):
                    wrong.append(
                        f"{chapter}: {name} is not held against a number with four decimals ± 0.0005"
                    )
                elif prefix == LIVE and not within_spread(check["value"], protocol, model):
                    wrong.append(f"{chapter}: {name} = {check['value']:g} is outside of the row's spread")
    assert not wrong, "\n".join(wrong)


def test_the_key_of_a_cell_follows_config_and_code() -> None:
    row, other = core.find_row("leave_one_out", "EASE"), core.find_row("leave_one_out", "EASE-recency")
    assert core.key(row, 0) == core.key(row, 0)
    changed = core.Row(row.name, row.protocol, row.make, {"regularization": 99.0}, quick=True)
    assert len({core.key(row, 0), core.key(changed, 0), core.key(other, 0), core.key(row, 1)}) == 4
    assert core.used_by(row.make)[1] == {"recsys_lib.models.ease"}


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path, data: core.Data, monkeypatch) -> None:
    row = core.find_row("cold_users_0", "popularity")
    first = core.measured(row, 0, data, tmp_path)
    monkeypatch.setattr(core, "measure", lambda *args: pytest.fail("measured twice"))
    pd.testing.assert_frame_equal(core.measured(row, 0, data, tmp_path), first)
    assert core.stored(row, 1, tmp_path) is None
    assert row not in files.cells_of(tmp_path)  # a row counts once all of its seeds are there
