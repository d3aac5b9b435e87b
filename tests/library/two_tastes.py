"""Interactions in which the truth is plain: users of two kinds, each with its own half of the items."""

import numpy as np
import pandas as pd

from recsys_lib.datasets import Interactions


def two_tastes(n_users=20, n_items=12, per_user=5, seed=0):
    """Even users take from the first half of the items, odd users from the second."""
    rng = np.random.default_rng(seed)
    half = n_items // 2
    rows = [
        (user, item + half * (user % 2), time)
        for user in range(n_users)
        for time, item in enumerate(rng.choice(half, per_user, replace=False))
    ]
    frame = pd.DataFrame(rows, columns=["user", "item", "timestamp"])
    return Interactions(frame, n_users, n_items)


def share_in_order(scores):
    """Share of the pairs (an item of the user's own half, one of the other) in which the own scores above."""
    n_users, n_items = scores.shape
    own = np.arange(n_items)[None, :] // (n_items // 2) == np.arange(n_users)[:, None] % 2
    pairs = scores[:, :, None] > scores[:, None, :]
    return pairs[own[:, :, None] & ~own[:, None, :]].mean()
