"""Full-ranking evaluation of given scores: recsys_lib against ranx and a loop over users, one thread.

The same task for all: from a score for each user and item (MovieLens-100K, leave-one-out, EASE) to each user's
HR@10 and NDCG@10 with seen items left out. ranx evaluates lists, so making the lists is part of its task.
"""

from __future__ import annotations

import numpy as np
from ranx import Qrels, Run
from ranx import evaluate as ranx_evaluate

from benchmarks.timing import rounds, table
from recsys_lib.datasets import Interactions, load_movielens_100k
from recsys_lib.evaluation import evaluate
from recsys_lib.models import EASE
from recsys_lib.splits import leave_one_out

K = 10


class Given:
    """A model whose scores are known."""

    def __init__(self, scores: np.ndarray) -> None:
        self.scores = scores

    def fit(self, train: Interactions) -> Given:
        return self

    def score(self, users: np.ndarray) -> np.ndarray:
        return self.scores[users]


def ours(scores: np.ndarray, seen: Interactions, test: Interactions) -> np.ndarray:
    return evaluate(Given(scores), test, seen=seen, k=K).per_user[["hit", "ndcg"]].to_numpy().T


def loop(scores: np.ndarray, seen: Interactions, test: Interactions) -> np.ndarray:
    """One user after another: mask, sort all items, find the held-out one."""
    histories, hits, gains = seen.histories(), [], []
    for user, item in zip(test.frame["user"], test.frame["item"], strict=True):
        row = scores[user].copy()
        row[histories[user]] = -np.inf
        rank = int(np.flatnonzero(np.argsort(-row, kind="stable") == item)[0]) + 1
        hits.append(float(rank <= K))
        gains.append(1 / np.log2(rank + 1) if rank <= K else 0.0)
    return np.array([hits, gains])


def ranx(scores: np.ndarray, seen: Interactions, test: Interactions) -> np.ndarray:
    users, items = test.frame["user"].to_numpy(), test.frame["item"].to_numpy()
    masked = scores[users].copy()
    row, item = seen.matrix()[users].nonzero()
    masked[row, item] = -np.inf
    top = np.argpartition(-masked, K, axis=1)[:, :K]
    best = np.take_along_axis(masked, top, axis=1)
    run = Run(
        {
            str(user): dict(zip(map(str, names), values, strict=True))
            for user, names, values in zip(users, top.tolist(), best.tolist(), strict=True)
        }
    )
    truth = Qrels({str(user): {str(item): 1} for user, item in zip(users, items, strict=True)})
    found = ranx_evaluate(truth, run, [f"hit_rate@{K}", f"ndcg@{K}"], return_mean=False, threads=1)
    order = {int(user): place for place, user in enumerate(truth.qrels.keys())}
    places = [order[user] for user in users]
    return np.array([found[f"hit_rate@{K}"][places], found[f"ndcg@{K}"][places]])


def main(count: int = 5) -> str:
    """Return the table; raises if the three do not agree for every user."""
    split = leave_one_out(load_movielens_100k("title"))
    seen, test = split.fit_part, split.test
    scores = EASE().fit(seen).score(np.arange(test.n_users))
    rivals = {"ranx": ranx, "loop over users": loop, "recsys_lib.evaluation": ours}
    expected = ours(scores, seen, test)
    for name, run in rivals.items():
        if not np.allclose(run(scores, seen, test), expected, atol=1e-6):
            raise AssertionError(f"{name} disagrees")
    seconds = rounds({n: (lambda run=run: run(scores, seen, test)) for n, run in rivals.items()}, count)
    head = f"{len(test)} users, {test.n_items} items; HR@{K} and NDCG@{K} agree for every user.\n\n"
    return head + table("users", len(test), seconds, "ranx") + "\n"


if __name__ == "__main__":
    print(main())
