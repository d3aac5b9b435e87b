"""Samples of the Open Bandit Dataset: two recommenders side by side, their clicks and their probabilities."""

from __future__ import annotations

from importlib.resources import files

import pandas as pd

CAMPAIGNS = ("all", "men", "women")


def load_open_bandit() -> pd.DataFrame:
    """Load what ZOZOTOWN showed in seven days, 10,000 impressions for each campaign and policy [openbandit].

    Within a campaign a lot decided for each impression which policy chose the items: "random" (all items alike) or
    "bts" (Bernoulli Thompson sampling, whose probabilities change with time). Shipped with the library (Apache-2.0).

    Returns
    -------
    DataFrame of 60,000 rows, in order of time within each campaign and policy, with the columns
        campaign: "all" (80 items), "men" (34) or "women" (46);
        policy: "random" or "bts";
        item: int, from 0;
        position: 1 (left), 2 or 3;
        click: 0 or 1;
        propensity: float in (0, 1], the policy's probability of showing this item at this position.
    """
    path = files("recsys_lib") / "datasets" / "open_bandit" / "open_bandit.csv.gz"
    with path.open("rb") as stream:
        rows = pd.read_csv(stream, compression="gzip")
    return rows.rename(columns={"item_id": "item", "propensity_score": "propensity"})
