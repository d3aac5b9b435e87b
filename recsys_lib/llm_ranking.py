"""A language model as the ranker: how likely is each candidate's title after the titles of a history?

``model`` is anything with the methods of `recsys_lib.generation.TextGenerator`; `open_model` of
`recsys_lib.local_server` gives one that asks a local server.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from recsys_lib.local_server import LikelihoodNotSupported

FILE = Path(__file__).with_name("generative_scores.csv")
HEADER = "Films a person watched, in order:\n"


def history_prompt(
    titles: Sequence[str], examples: Sequence[Sequence[str]] = (), header: str = HEADER
) -> str:
    """One title a line under a header; `examples` are whole lists of other people, put before (few-shot)."""
    blocks = [header + "".join(f"{title}\n" for title in some) for some in (*examples, titles)]
    return "\n".join(blocks)


def title_log_likelihood(
    model: Any, prompt: str, titles: Sequence[str], *, batch_size: int = 20
) -> NDArray[np.float64]:
    """Log-probability of each title and the line's end after the prompt, the sum over tokens.

    Titles of like length run together, so that little is computed for padding.

    Returns
    -------
    numpy.ndarray
        Shape (titles,), in the order given, all at most 0.

    Raises
    ------
    ValueError
        If there are no titles, or one is empty.
    """
    if isinstance(titles, str) or not len(titles) or not all(titles):
        raise ValueError("titles must be a list of at least one text, none of them empty")
    order = np.argsort([len(title) for title in titles], kind="stable")
    lines = [f"{titles[k]}\n" for k in order]
    found = np.empty(len(lines))
    found[order] = model.log_likelihood(prompt, lines, batch_size=batch_size)
    return found


def pmi(conditional: ArrayLike, prior: ArrayLike, weight: float = 1.0) -> NDArray[np.float64]:
    """What the history adds: log p(title | history) minus `weight` times log p(title), the same title without it.

    Weight 1 is the pointwise mutual information, a correction for what the model says anyway [pmirank]; 0 the plain
    likelihood.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    one, other = np.asarray(conditional, dtype=np.float64), np.asarray(prior, dtype=np.float64)
    if one.shape != other.shape:
        raise ValueError(f"both need the same shape, got {one.shape} and {other.shape}")
    return one - weight * other


def sample_candidates(
    seen: Sequence[ArrayLike], targets: ArrayLike, weights: ArrayLike, n: int = 20, seed: int = 0
) -> NDArray[np.int64]:
    """Each user's target, first, and n - 1 other items drawn without repetition by `weights`, none of them seen.

    Parameters
    ----------
    seen : sequence of arrays
        Item codes of each user that may not be drawn.
    targets : array of int, shape (users,)
    weights : array of float, shape (items,)
        Ones: uniform negatives. The items' counts: negatives as popular as what people watch.

    Raises
    ------
    ValueError
        If fewer than n - 1 items are left for a user.
    """
    rng, chances = np.random.default_rng(seed), np.asarray(weights, dtype=np.float64)
    rows = []
    for history, target in zip(seen, np.asarray(targets), strict=True):
        free = chances.copy()
        free[np.asarray(history, dtype=np.int64)] = 0
        free[target] = 0
        if (free > 0).sum() < n - 1:
            raise ValueError(f"a user has fewer than {n - 1} items to draw from")
        rows.append([target, *rng.choice(len(free), n - 1, replace=False, p=free / free.sum())])
    return np.array(rows, dtype=np.int64)


def target_ranks(scores: ArrayLike) -> NDArray[np.float64]:
    """Rank, from 1, of the first candidate of each row; among equal scores the mean of the ranks they share."""
    table = np.asarray(scores, dtype=np.float64)
    own, others = table[:, :1], table[:, 1:]
    return 1.0 + (others > own).sum(axis=1) + (others == own).sum(axis=1) / 2


def slot_probabilities(
    model: Any, prompt_of: Any, candidates: Sequence[str], letters: str = "ABCDE"
) -> NDArray[np.float64]:
    """Ask for a letter once for each rotation of the list: probabilities (rotations, slots), each row of sum 1.

    In rotation r slot s shows candidate (s + r) mod n. ``prompt_of(list)`` writes the prompt that ends where the
    letter comes. Where a server cannot tell likelihoods, the letter it writes counts 1, the others 0 (with a warning);
    if it writes no letter, all count the same.
    """
    n = len(candidates)
    if n < 2 or n > len(letters):
        raise ValueError(f"between 2 and {len(letters)} candidates, not {n}")
    rows = []
    for r in range(n):
        shown = [candidates[(s + r) % n] for s in range(n)]
        prompt = prompt_of(shown)
        try:
            found = model.log_likelihood(prompt, [f" {letter}" for letter in letters[:n]])
        except LikelihoodNotSupported as error:
            warnings.warn(f"asking for a choice instead: {error}", stacklevel=2)
            first = re.match(r"\W*([A-Za-z])\b", model.generate([prompt], max_new_tokens=3)[0])
            written = first[1].upper() if first else ""  # "Blue" is a word, not the letter B
            found = np.where([letter == written for letter in letters[:n]], 0.0, -np.inf)
            found = found if np.isfinite(found).any() else np.zeros(n)
        rows.append(softmax(found))
    return np.array(rows)


def average_rotations(slots: ArrayLike) -> NDArray[np.float64]:
    """Mean probability of each candidate over the rotations of `slot_probabilities`: each stood once in each slot."""
    table = np.asarray(slots, dtype=np.float64)
    n = len(table)
    r, c = np.arange(n)[:, None], np.arange(n)[None, :]
    return np.asarray(table[r, (c - r) % n].mean(axis=0))


def next_line_ranks(
    model: Any, lines: Sequence[str], starts: Sequence[int], *, shown: int = 5, near: int = 40, seed: int = 0
) -> NDArray[np.float64]:
    """Does the model know how a list goes on? Rank (1 to 10) of the true next line among ten that stand nearby.

    Five lines are shown with their numbers; the nine others are drawn from the `near` lines after the true one, so
    that subject and time do not tell. Turn the list round for the control: likeness of neighbours has no direction,
    memory has one [memorise].

    Raises
    ------
    ValueError
        If a start leaves fewer than `shown` + 10 lines.
    """
    rng, ranks = np.random.default_rng(seed), []
    for start in starts:
        end = start + shown
        rest = np.arange(end + 1, min(end + 1 + near, len(lines)))
        if start < 0 or len(rest) < 9:
            raise ValueError(f"start {start} leaves too few lines")
        prompt = "".join(f"{k + 1}. {lines[k]}\n" for k in range(start, end)) + f"{end + 1}. "
        some = [end, *rng.choice(rest, 9, replace=False)]
        found = title_log_likelihood(model, prompt, [lines[k] for k in some])
        ranks.append(target_ranks(found[None])[0])
    return np.array(ranks)


def stored_scores(name: str) -> NDArray[np.float64]:
    """An array of ``generative_scores.csv`` (written by ``python -m benchmarks.bench_generative``), (rows, places).

    Each line of the file is a row: the array's name, then the values; what was not computed is empty and becomes NaN.

    Raises
    ------
    KeyError
        If the file has no array of that name.
    """
    lines = [line.split(",") for line in FILE.read_text(encoding="utf-8").splitlines()]
    found = [[float(value or "nan") for value in values] for one, *values in lines if one == name]
    if not found:
        raise KeyError(f"{name!r}: the file has {', '.join(dict.fromkeys(line[0] for line in lines))}")
    return np.array(found)
