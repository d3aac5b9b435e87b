"""Cold start: kernel ridge, factors and neighbours for films nobody rated; users known by what they say of themselves.

Strengths are chosen on the validation films, or users, of each split. The blocks of "texts and facts", their weights
and the width of the kernel were explored on validation films of these same splits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.leaderboard.core import Cell, Fixed, Row
from recsys_lib.evaluation import evaluate
from recsys_lib.geometry import cosine
from recsys_lib.models import EASE, RidgeFromUsers, RidgeToFactors, RidgeToScores, TextKNN
from recsys_lib.models.base import Recommender
from recsys_lib.models.factorization import IALS


def best_of(cell: Cell, build: Callable[[Any, Any], Any], base: Recommender) -> Any:
    """The model of the choice that is best on validation, fitted on train and validation."""
    split, reached = cell.split, {}
    base.fit(split.train)
    for choice in cell.config["choices"]:
        model = build(base, choice).fit(split.train)
        candidates = split.validation_candidates
        reached[choice] = evaluate(model, split.validation, seen=split.train, candidates=candidates).mean()
    best = max(reached, key=lambda choice: reached[choice])
    return build(base.fit(split.fit_part), best).fit(split.fit_part)


def ridge_to_ease(cell: Cell) -> Any:
    """With ``gamma`` a kernel ridge."""
    found, gamma = cell.data.vectors(cell.config["vectors"], cell.seed), cell.config.get("gamma")
    return best_of(
        cell,
        lambda base, choice: RidgeToScores(found, base, choice, gamma=gamma, prefitted=True),
        EASE(cell.config["regularization"]),
    )


def ridge_to_factors(cell: Cell) -> Any:
    found = cell.data.vectors(cell.config["vectors"], cell.seed)
    return best_of(
        cell,
        lambda base, choice: RidgeToFactors(found, base, choice, prefitted=True),
        IALS(seed=cell.seed, **cell.config["factors"]),
    )


def text_neighbours(cell: Cell) -> Any:
    found = cell.data.vectors(cell.config["vectors"], cell.seed)
    return best_of(
        cell,
        lambda base, choice: TextKNN(found, base, choice, prefitted=True),
        EASE(cell.config["regularization"]),
    )


def sentences(users: pd.DataFrame) -> list[str]:
    """What a user could say: age, gender, occupation."""
    words = {"F": "woman", "M": "man"}
    return [f"A {u.age}-year-old {words[u.gender]}, occupation: {u.occupation}." for u in users.itertuples()]


def user_features(cell: Cell) -> np.ndarray:
    """Columns for age, gender and occupation, or MiniLM's vectors of the sentence that says the same."""
    users, kind = cell.data.dataset.users, cell.config["features"]
    if kind == "sentence":
        return cell.data.encode(sentences(users))
    bands = pd.cut(users["age"], [0, 17, 24, 34, 44, 49, 55, 99]).astype(str)
    known = pd.DataFrame({"age": bands, "gender": users["gender"], "job": users["occupation"]})
    columns = pd.get_dummies(known).to_numpy(float)
    if kind == "nothing":
        return np.ones((len(users), 1))
    return np.random.default_rng(cell.seed).permutation(columns) if kind == "shuffled" else columns


def from_users(cell: Cell) -> Any:
    features = user_features(cell)
    return best_of(
        cell,
        lambda base, choice: RidgeFromUsers(features, base, choice, prefitted=True),
        EASE(cell.config["regularization"]),
    )


def sentence_and_films(cell: Cell) -> Fixed:
    """The article's way for a user without a history: cosine of the user's sentence and the film's text."""
    films = cell.data.dataset
    return Fixed(cosine(cell.data.encode(sentences(films.users)), cell.data.encode(films.texts)))


LINEAR = {"regularization": 100.0, "choices": [3, 10, 30, 100]}
KERNEL = {"regularization": 100.0, "gamma": 1.0, "choices": [0.1, 0.3, 1, 3]}
FACTORS = {"factors": {"dimensions": 32, "regularization": 10.0}, "choices": [3, 10, 30, 100]}
NEIGHBOURS = {"regularization": 100.0, "choices": [5, 10, 20, 40]}
USERS = {"regularization": 500.0, "choices": [10, 30, 100, 300]}
VECTORS = {
    "random vectors": "random",
    "shuffled text": "shuffled",
    "genres and year": "genres and year",
    "TF-IDF": "TF-IDF",
    "TF-IDF rich text": "TF-IDF rich",
    "MiniLM": "MiniLM",
    "MiniLM rich text": "MiniLM rich",
    "MiniLM both texts and TF-IDF": "all texts",
}
BENT = ("facts", "texts and facts", "shuffled texts and facts")


def cold(model: str, name: str, make: Callable, config: dict, quick: bool = False) -> Row:
    """A row of cold films; the control vectors, and iALS, are drawn from the seed."""
    vectors = VECTORS.get(name, name)
    drawn = vectors.startswith(("random", "shuffled")) or make is ridge_to_factors
    settings = {"vectors": vectors, **config}
    return Row(f"{model}, {name}", "cold_items", make, settings, how="ready", trained=drawn, quick=quick)


ROWS = [
    *[cold("ridge to EASE", name, ridge_to_ease, LINEAR, quick=True) for name in VECTORS],
    cold("ridge to EASE", "texts and facts", ridge_to_ease, LINEAR),
    *[cold("kernel ridge to EASE", name, ridge_to_ease, KERNEL) for name in BENT],
    cold("ridge to iALS factors", "texts and facts", ridge_to_factors, FACTORS),
    cold("text neighbours to EASE", "texts and facts", text_neighbours, NEIGHBOURS),
    Row("sentence cosine, MiniLM", "cold_users_0", sentence_and_films, how="ready", quick=True),
    *[
        Row(
            name,
            "cold_users_0",
            from_users,
            {"features": kind, **USERS},
            how="ready",
            trained=kind == "shuffled",
            quick=True,
        )
        for name, kind in (
            ("mean of EASE", "nothing"),
            ("shuffled demographics to EASE", "shuffled"),
            ("demographics to EASE", "demographics"),
            ("sentence to EASE, MiniLM", "sentence"),
        )
    ],
]
