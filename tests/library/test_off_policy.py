"""Off-policy estimates against loops and exact enumeration; the Open Bandit samples against their known sums."""

import gzip
import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_lib.datasets import open_bandit
from recsys_lib.datasets.open_bandit import load_open_bandit
from recsys_lib.off_policy import (
    bootstrap,
    clipped,
    effective_sample_size,
    importance_weights,
    ips,
    self_normalised,
)

OLD, NEW = np.array([0.5, 0.3, 0.15, 0.05]), np.array([0.1, 0.2, 0.0, 0.7])
CLICK = np.array([0.2, 0.5, 0.9, 0.4])
logs = st.lists(st.tuples(st.sampled_from([0.0, 1.0, 2.5]), st.floats(0.01, 100)), min_size=1, max_size=30)


@given(logs, st.floats(0.1, 50))
def test_estimates_are_those_of_loops(log, at):
    rewards, weights = map(list, zip(*log, strict=True))
    total = weighted = cut = squares = 0.0
    for reward, weight in log:
        total += weight
        weighted += weight * reward
        cut += (weight if weight < at else at) * reward
        squares += weight * weight
    assert ips(rewards, weights) == pytest.approx(weighted / len(log))
    assert self_normalised(rewards, weights) == pytest.approx(weighted / total)
    assert clipped(rewards, weights, at) == pytest.approx(cut / len(log))
    assert effective_sample_size(weights) == pytest.approx(total * total / squares)
    assert 0.999 <= effective_sample_size(weights) <= len(log) * 1.001
    assert min(rewards) - 1e-9 <= self_normalised(rewards, weights) <= max(rewards) + 1e-9


def enumerate_logs(rows):
    """Every log of so many rows, with its probability: items shown by the old system, clicked or not."""
    cells = list(itertools.product(range(4), (0, 1)))
    for log in itertools.product(cells, repeat=rows):
        items = np.array([item for item, _ in log])
        clicks = np.array([click for _, click in log])
        chance = np.prod(OLD[items] * np.where(clicks == 1, CLICK[items], 1 - CLICK[items]))
        yield chance, clicks, importance_weights(NEW[items], OLD[items])


def test_over_all_logs_ips_is_right_on_average_and_clipping_too_low():
    every = list(enumerate_logs(3))
    truth = NEW @ CLICK
    assert sum(chance for chance, _, _ in every) == pytest.approx(1)
    assert sum(p * ips(c, w) for p, c, w in every) == pytest.approx(truth)
    assert sum(p * w.mean() for p, _, w in every) == pytest.approx(1)
    assert sum(p * clipped(c, w, 10) for p, c, w in every) == pytest.approx(
        truth - (NEW[3] - 10 * OLD[3]) * CLICK[3]
    )
    usable = [(p, self_normalised(c, w)) for p, c, w in every if w.sum() > 0]
    assert abs(sum(p * v for p, v in usable) / sum(p for p, _ in usable) - truth) > 0.01  # biased at 3 rows


def test_what_the_old_system_never_shows_is_missing_from_the_estimate():
    shown = np.array([0.5, 0.3, 0.2, 0.0])
    value = sum(
        shown[item] * CLICK[item] * importance_weights(NEW[[item]], shown[[item]])[0] for item in range(3)
    )
    assert value == pytest.approx(NEW @ CLICK - NEW[3] * CLICK[3])


def test_equal_policies_give_the_mean():
    rewards = [0, 1, 1, 0, 1]
    weights = importance_weights(OLD[[0, 1, 1, 2, 3]], OLD[[0, 1, 1, 2, 3]])
    assert ips(rewards, weights) == self_normalised(rewards, weights) == pytest.approx(0.6)
    assert effective_sample_size(weights) == 5


def test_one_target_for_all_rows():
    assert importance_weights(0.25, [0.5, 0.25, 0.125]).tolist() == [0.5, 1, 2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: importance_weights([0.1, 0.1, 0.1], [0.5, 0, -1]), "2 rows are not: 1, 2"),
        (lambda: importance_weights([0.1, 2], [0.5, 0.5]), "1 rows are not: 1"),
        (lambda: importance_weights([0.1], [0.5, 0.5]), "1 target probabilities but 2"),
        (lambda: ips([1, 0], [1, -1]), "negative; 1 rows are not: 1"),
        (lambda: ips([1, np.nan], [1, 1]), "rewards must be finite; 1 rows are not: 1"),
        (lambda: ips([1] * 9, [np.inf] * 9), "9 rows are not: 0, 1, 2, 3, 4 …"),
        (lambda: ips([1], [1, 1]), "1 rewards but 2 weights"),
        (lambda: ips([], []), "one number a row"),
        (lambda: self_normalised([1, 1], [0, 0]), "no weight is above zero"),
        (lambda: effective_sample_size([0, 0]), "no weight is above zero"),
        (lambda: clipped([1], [1], 0), "above 0, not 0"),
        (lambda: bootstrap(ips, [1], [1], draws=0), "at least one draw"),
    ],
)
def test_errors_say_which_rows(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_bootstrap_keeps_rows_together_and_spreads_like_the_formula():
    rng = np.random.default_rng(1)
    weights = rng.exponential(size=400)
    rewards = (weights > 1).astype(float)
    again = bootstrap(ips, rewards, weights, draws=2000, seed=3)
    assert again.std() == pytest.approx((weights * rewards).std() / 20, rel=0.08)
    assert again.mean() == pytest.approx(ips(rewards, weights), abs=0.01)
    assert np.array_equal(again[:5], bootstrap(ips, rewards, weights, draws=5, seed=3))


def test_open_bandit_is_the_file_that_the_tool_wrote():
    path = Path(open_bandit.__file__).parent / "open_bandit" / "open_bandit.csv.gz"
    digest = hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
    assert digest == "31a2e48816848d0924e85c3753b0c715d1fdbba03ed28e83746ef3c076b5bd36"
    assert "Apache License" in (path.parent / "LICENSE").read_text("utf-8")


def test_open_bandit_columns():
    rows = load_open_bandit()
    assert list(rows) == ["campaign", "policy", "item", "position", "click", "propensity"]
    sizes = rows.groupby(["campaign", "policy"]).size()
    assert len(sizes) == 6
    assert (sizes == 10_000).all()
    assert rows.groupby("campaign")["item"].max().tolist() == [79, 33, 45]
    assert set(rows["position"]) == {1, 2, 3}
    assert rows["click"].isin([0, 1]).all()
    assert rows["propensity"].between(0, 1, inclusive="right").all()
    uniform = rows[rows["policy"] == "random"]
    items = uniform["campaign"].map({"all": 80, "men": 34, "women": 46})
    assert np.allclose(uniform["propensity"] * items, 1)
    clicks = rows.groupby(["campaign", "policy"])["click"].sum()
    assert clicks.tolist() == [42, 38, 69, 46, 46, 46]
