"""The leaderboard, for chapters: what takes too long to train there is read from the file that comes with the book.

The file is a copy of ``benchmarks/results/leaderboard.csv``, which ``make leaderboard`` writes; a test compares them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

FILE = Path(__file__).with_name("leaderboard.csv")
SOURCE = "from the leaderboard 来自排行榜"


def load_leaderboard() -> pd.DataFrame:
    """Return the whole leaderboard.

    Returns
    -------
    DataFrame
        A row for each protocol, model and metric (NDCG@10, HR@10, MRR@10, Recall@10), with ``mean`` and ``sd`` over
        the seeds or splits (sd is NaN where there is one), the 95% bootstrap interval over users ``ci_low`` and
        ``ci_high``, the numbers of ``seeds`` and ``users``, ``train_seconds`` (CPU, a seed) and ``config`` (JSON).
    """
    return pd.read_csv(FILE)


def leaderboard_rows(
    protocol: str, models: Sequence[str] | Mapping[str, str] | None = None, metric: str = "NDCG@10"
) -> pd.DataFrame:
    """Return rows of one protocol, in the order asked for, to be shown in a chapter.

    Parameters
    ----------
    protocol : str
        leave_one_out, random_811, global_time, cold_items or cold_users_0.
    models : names, or names and the labels to show instead; all models, best first, by default
    metric : str

    Returns
    -------
    DataFrame
        Index: names or labels. Columns ``mean``, ``sd``, ``low``, ``high``, ``seeds`` and ``source``, which says that
        the number was read and not computed.

    Raises
    ------
    ValueError
        If there is no such protocol, metric or model.
    """
    table = load_leaderboard()
    for column, value in (("protocol", protocol), ("metric", metric)):
        if value not in set(table[column]):
            raise ValueError(f"no {column} {value!r}; there are {', '.join(table[column].unique())}")
    table = table[(table["protocol"] == protocol) & (table["metric"] == metric)].set_index("model")
    if models is None:
        models = table["mean"].sort_values(ascending=False).index.tolist()
    missing = [name for name in models if name not in table.index]
    if missing:
        raise ValueError(f"not on the leaderboard of {protocol}: {missing}; there are {list(table.index)}")
    found = table.loc[list(models), ["mean", "sd", "ci_low", "ci_high", "seeds"]]
    found = found.rename(columns={"ci_low": "low", "ci_high": "high"}).assign(source=SOURCE)
    found.index = pd.Index([models[m] for m in models] if isinstance(models, Mapping) else list(models))
    return found.rename_axis("method 方法")


def within_spread(value: float, protocol: str, model: str, metric: str = "NDCG@10") -> bool:
    """Say whether one seed's value lies within 3 sd of the leaderboard's mean over seeds (at least 0.006)."""
    row = leaderboard_rows(protocol, [model], metric).iloc[0]
    spread = 0.0 if np.isnan(row["sd"]) else 3 * row["sd"]
    return bool(abs(value - row["mean"]) <= max(spread, 0.006))
