"""Two towers: a network for the query, a network for the item, trained by in-batch softmax. Needs torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from recsys_lib.datasets import Interactions
from recsys_lib.geometry import center, normalize
from recsys_lib.models.base import check_rows, checked_vectors, profile_matrix
from recsys_lib.models.training import TrainedModel
from recsys_lib.objectives import info_nce

QUERIES = ("item", "history")


class Tower(nn.Module):
    """Vectors of items, or of weighted lists of items, from their texts' vectors and from their codes.

    mlp(weights @ text) + weights @ ids: with the identity as weights, one vector an item.

    Parameters
    ----------
    text : tensor (n_items, d) or None
    met : bool tensor (n_items,)
        Items of the training data; only these have a vector of their own.
    ids : bool
    """

    def __init__(
        self, text: Tensor | None, met: Tensor, ids: bool, hidden: int, dimensions: int, dropout: float
    ) -> None:
        super().__init__()
        self.text, self.met = text, met[:, None].float()
        if text is not None:
            self.mlp = nn.Sequential(
                nn.Linear(text.shape[1], hidden),
                nn.ReLU(),
                nn.Dropout(dropout),
                nn.Linear(hidden, dimensions),
            )
        if ids:
            self.ids = nn.Embedding(len(met), dimensions)
            nn.init.normal_(self.ids.weight, std=0.1)

    def items(self, codes: Tensor) -> Tensor:
        """Return vectors of items: codes (n,) to (n, dimensions)."""
        parts = []
        if self.text is not None:
            parts.append(self.mlp(self.text[codes]))
        if hasattr(self, "ids"):
            parts.append(self.ids(codes) * self.met[codes])
        return sum(parts)  # type: ignore[return-value]

    def lists(self, weights: Tensor) -> Tensor:
        """Return vectors of weighted lists: (n, n_items) to (n, dimensions)."""
        parts = []
        if self.text is not None:
            parts.append(self.mlp(weights @ self.text))
        if hasattr(self, "ids"):
            parts.append(weights @ (self.ids.weight * self.met))
        return sum(parts)  # type: ignore[return-value]


class TwoTower(TrainedModel):
    """Two-tower retrieval: cosine of a query's and an item's vector, trained by InfoNCE with logQ correction.

    The item tower reads text vectors (an MLP), item codes (a vector each), or adds both. With text, items nobody
    met are scored like any other; they have no vector of their own, and without text they score 0.

    Parameters
    ----------
    item_vectors : array (n_items, d), optional
        From a text encoder, say. They are centred on the training items' mean and scaled to length 1.
    ids : bool, optional
        Give each item a vector of its own; by default only where there are no ``item_vectors``.
    query : "item" or "history"
        "item": items that a user took within ``window`` steps of each other are drawn together, through one
        tower; a user is the ``decay``-weighted sum of her ``last`` items' vectors (with text
        alone, like the adapter of [unisrec]). "history": the ``decay``-weighted mean of the ``last`` items is the
        input of the user tower, and its output is drawn to the next item [twotower].
    shared : bool
        For query="history": the user tower is the item tower (True) or has weights of its own (False).
    window : int
        For query="item".
    last : int, optional
        Newest items that make up the user; None: all.
    decay : float in (0, 1]
        Weight per step back.
    log_q : float in [0, 1]
        Strength of the logQ correction; 0: none, 1: in full [twotower].
    temperature : float, > 0
    hidden, dimensions : int
    dropout : float in [0, 1)
    steps : int
        Batches an epoch.
    epochs, learning_rate, batch_size, ...
        See ``TrainedModel``.

    Raises
    ------
    ValueError
        If there is neither text nor ids, or a parameter is out of its range.
    """

    def __init__(
        self,
        item_vectors: ArrayLike | None = None,
        *,
        ids: bool | None = None,
        query: str = "history",
        shared: bool = True,
        window: int = 3,
        last: int | None = None,
        decay: float = 0.7,
        log_q: float = 1.0,
        temperature: float = 0.15,
        hidden: int = 512,
        dimensions: int = 128,
        dropout: float = 0.2,
        steps: int = 50,
        epochs: int = 60,
        learning_rate: float = 2e-3,
        batch_size: int = 256,
        **kwargs: Any,
    ) -> None:
        super().__init__(epochs=epochs, learning_rate=learning_rate, batch_size=batch_size, **kwargs)
        if query not in QUERIES:
            raise ValueError(f"query must be one of {', '.join(QUERIES)}, got {query!r}")
        if not 0 <= log_q <= 1 or not 0 <= dropout < 1:
            raise ValueError(f"log_q must lie in [0, 1] and dropout in [0, 1), got {log_q} and {dropout}")
        if min(window, hidden, dimensions, steps) < 1:
            raise ValueError("window, hidden, dimensions and steps must be at least 1")
        self.item_vectors = None if item_vectors is None else checked_vectors(item_vectors)
        self.ids = item_vectors is None if ids is None else ids
        if self.item_vectors is None and not self.ids:
            raise ValueError("an item tower needs item_vectors, ids or both")
        self.query, self.window, self.last, self.decay = query, window, last, decay
        self.shared = shared
        self.log_q, self.temperature, self.steps = log_q, temperature, steps
        self.hidden, self.dimensions, self.dropout = hidden, dimensions, dropout

    def build(self, train: Interactions) -> nn.Module:
        """Return new towers; find the pairs to learn from and how often each item is a key in them."""
        met = np.bincount(train.items, minlength=train.n_items) > 0
        text = None
        if self.item_vectors is not None:
            check_rows(self.item_vectors, train)
            centred = center(self.item_vectors, self.item_vectors[met])
            text = torch.from_numpy(normalize(centred).astype(np.float32))
        self.pairs = _pairs(train, self.window if self.query == "item" else 1)
        if self.query == "item":
            self.pairs = np.concatenate([self.pairs, self.pairs[:, ::-1]])
        if not len(self.pairs):
            raise ValueError("TwoTower needs a user with two interactions or more to learn from")
        self.starts = np.searchsorted(train.users, train.users)  # rows are sorted by user
        count = np.bincount(train.items[self.pairs[:, 1]], minlength=train.n_items)
        self.key_log_q = torch.from_numpy(np.log(np.maximum(count, 1) / len(self.pairs))).float()
        sizes = self.ids, self.hidden, self.dimensions, self.dropout
        towers = {"item": Tower(text, torch.from_numpy(met), *sizes)}
        if self.query == "history":
            towers["user"] = towers["item"] if self.shared else Tower(text, torch.from_numpy(met), *sizes)
        return nn.ModuleDict(towers)

    def losses(self, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yield the in-batch softmax loss of ``steps`` batches of pairs (query, item that follows)."""
        for _ in range(self.steps):
            rows = self.pairs[rng.integers(len(self.pairs), size=self.batch_size)]
            keys = torch.from_numpy(self.train.items[rows[:, 1]])
            if self.query == "item":
                queries = self.network["item"].items(torch.from_numpy(self.train.items[rows[:, 0]]))
            else:
                queries = self.network["user"].lists(self._histories(rows[:, 0]))
            yield info_nce(
                queries,
                self.network["item"].items(keys),
                self.temperature,
                log_q=self.log_q * self.key_log_q[keys],
                key_ids=keys,
            )

    def user_scores(self, users: NDArray[np.int64]) -> Tensor:
        """Return cosines of the users' and all items' vectors; users without history score 0 everywhere."""
        items = F.normalize(self.network["item"].items(torch.arange(self.train.n_items)))
        profiles = profile_matrix(self.observed, self.decay, self.last)[users]
        weights = torch.from_numpy(profiles.toarray())
        if self.query == "item":
            return F.normalize(weights @ items) @ items.T
        total = weights.sum(dim=1, keepdim=True)
        queries = F.normalize(self.network["user"].lists(weights / total.clamp(min=1e-12)))
        return (queries * (total > 0)) @ items.T

    def _histories(self, ends: NDArray[np.int64]) -> Tensor:
        """Weights (n, n_items) of the histories that end at these rows: decay^steps back, summing to 1."""
        start = self.starts[ends]
        steps = np.arange(min(self.last or len(self.train), int((ends - start).max()) + 1))
        places = ends[:, None] - steps
        inside = places >= start[:, None]
        weights = np.where(inside, self.decay**steps, 0.0)
        weights /= weights.sum(axis=1, keepdims=True)
        row = np.broadcast_to(np.arange(len(ends))[:, None], places.shape)
        cells = weights[inside], (row[inside], self.train.items[places[inside]])
        matrix = sp.csr_matrix(cells, shape=(len(ends), self.train.n_items), dtype=np.float32)
        return torch.from_numpy(matrix.toarray())


def _pairs(train: Interactions, window: int) -> NDArray[np.int64]:
    """Rows of the data (n, 2) that one user has at most ``window`` steps apart, the earlier one first."""
    users = train.users
    parts = []
    for step in range(1, window + 1):
        first = np.flatnonzero(users[step:] == users[:-step])
        parts.append(np.stack([first, first + step], axis=1))
    return np.concatenate(parts)
