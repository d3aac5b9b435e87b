"""Semantic ids: items as short sequences of digits, and a model that generates the next item's. Needs torch.

Digits come from residual k-means over item vectors, in the place of the residual autoencoder of [tiger].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import KMeans
from torch import Tensor, nn

from recsys_lib.datasets import Interactions
from recsys_lib.evaluation import Result
from recsys_lib.models.base import check_rows, checked_vectors
from recsys_lib.models.sequential import SequentialModel, Transformer, padded

FILE = Path(__file__).resolve().parent.parent / "semantic_ids.csv"
USERS = 64  # scored at a time, so that memory stays bounded


@dataclass(frozen=True)
class ResidualQuantizer:
    """Codebooks of residual k-means, one a level: array (levels, codes, d)."""

    codebooks: NDArray[np.float64]

    @classmethod
    def fit(cls, vectors: ArrayLike, levels: int = 3, codes: int = 32, seed: int = 0) -> ResidualQuantizer:
        """Cluster the vectors, then what each centre leaves over, and so on.

        Parameters
        ----------
        vectors : array (n, d)
        levels, codes : int
            Digits of an id, and values of a digit; ``codes`` at most n.
        seed : int
            Of k-means, plus the level.
        """
        rest = checked_vectors(vectors).astype(np.float64)
        if levels < 1 or not 1 <= codes <= len(rest):
            raise ValueError(f"levels >= 1 and 1 <= codes <= {len(rest)}, please: got {levels} and {codes}")
        books = []
        for level in range(levels):
            means = KMeans(codes, n_init=1, random_state=seed + level).fit(rest)
            books.append(means.cluster_centers_)
            rest = rest - means.cluster_centers_[means.predict(rest)]
        return cls(np.stack(books))

    def encode(self, vectors: ArrayLike) -> NDArray[np.int64]:
        """Return digits (n, levels): at each level the centre nearest to what is left."""
        rest = checked_vectors(vectors).astype(np.float64)
        digits = []
        for book in self.codebooks:
            squared = (book**2).sum(axis=1) - 2 * rest @ book.T
            digits.append(squared.argmin(axis=1))
            rest = rest - book[digits[-1]]
        return np.stack(digits, axis=1)

    def decode(self, digits: ArrayLike) -> NDArray[np.float64]:
        """Return the sums of the centres (n, d) that the first digits (n, up to levels) name."""
        digits = np.asarray(digits)
        return sum(book[column] for book, column in zip(self.codebooks, digits.T, strict=False))


def with_tie_breaker(digits: ArrayLike) -> NDArray[np.int64]:
    """Add a digit that numbers items of equal digits 0, 1, … in their order: ids (n, levels + 1), all different."""
    digits = np.asarray(digits)
    _, group = np.unique(digits, axis=0, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")
    sizes = np.bincount(group.ravel())
    last = np.empty(len(digits), dtype=np.int64)
    last[order] = np.arange(len(digits)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.column_stack([digits, last]).astype(np.int64)


class Trie:
    """The prefixes that exist: what may be generated after each. Ids (n, levels) must differ.

    ``prefixes[l]`` holds the different prefixes of l digits (m_l, l), sorted; ``parent[l]`` (m_{l+1},) the number
    of each longer prefix's own beginning, and ``digit[l]`` its last digit. ``items`` (n,) are the items of the
    whole ids in that order.
    """

    def __init__(self, ids: ArrayLike, items: ArrayLike | None = None) -> None:
        ids = np.asarray(ids)
        if ids.ndim != 2 or not len(ids) or ids.min() < 0:
            raise ValueError(f"ids must be digits >= 0 of shape (n, levels), got shape {ids.shape}")
        numbers = np.arange(len(ids)) if items is None else np.asarray(items)
        self.prefixes = [np.unique(ids[:, :level], axis=0) for level in range(1, ids.shape[1] + 1)]
        if len(self.prefixes[-1]) < len(ids):
            raise ValueError("two items have the same id: add a tie-breaking digit")
        self.prefixes.insert(0, np.empty((1, 0), dtype=ids.dtype))
        self.parent, self.digit = [], []
        for shorter, longer in zip(self.prefixes, self.prefixes[1:], strict=False):
            known = {tuple(prefix): number for number, prefix in enumerate(shorter.tolist())}
            self.parent.append(np.array([known[tuple(prefix)] for prefix in longer[:, :-1].tolist()]))
            self.digit.append(longer[:, -1].astype(np.int64))
        self.items = numbers[np.lexsort(ids.T[::-1])]

    def allowed(self, prefix: ArrayLike) -> NDArray[np.int64]:
        """Return the digits that may follow a prefix; none if the prefix does not exist or is a whole id."""
        prefix = np.asarray(prefix, dtype=np.int64)
        if len(prefix) >= len(self.prefixes) - 1:
            return np.empty(0, dtype=np.int64)
        own = (self.prefixes[len(prefix)] == prefix).all(axis=1)
        return self.digit[len(prefix)][own[self.parent[len(prefix)]]]


class Digits(nn.Module):
    """Items as sums of their digits' vectors: a table (size, d) a level, in the place of one row an item."""

    digits: Tensor

    def __init__(self, ids: Tensor, sizes: list[int], d: int) -> None:
        super().__init__()
        self.register_buffer("digits", ids, persistent=False)
        tables = [nn.Embedding(size, d) for size in sizes]
        for table in tables:
            nn.init.normal_(table.weight, std=0.1 / len(sizes) ** 0.5)
        self.tables = nn.ModuleList(tables)

    def forward(self) -> Tensor:
        """Return the vectors of all items (n_items, d)."""
        return torch.stack([table(self.digits[:, i]) for i, table in enumerate(self.tables)]).sum(dim=0)


class Generator(nn.Module):
    """A Transformer reads the history; a small net a level writes the next item's digits, each given those before."""

    def __init__(self, ids: Tensor, sizes: list[int], d: int, encoder: nn.Module, dropout: float) -> None:
        super().__init__()
        self.items, self.encoder = Digits(ids, sizes, d), encoder
        self.before = nn.ModuleList(nn.Embedding(size, d) for size in sizes[:-1])
        self.nets = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(d), nn.Linear(d, d), nn.GELU(), nn.Dropout(dropout)) for _ in sizes
        )
        self.out = nn.ModuleList(nn.Linear(d, size) for size in sizes)
        for name, weight in self.named_parameters():
            if weight.ndim == 2 and not name.startswith("items"):
                nn.init.normal_(weight, std=0.02)

    def logits(self, states: Tensor, prefixes: Tensor) -> Tensor:
        """Return logits of the next digit: states (..., d) and prefixes (..., l) give (..., size of level l)."""
        level = prefixes.shape[-1]
        x = states
        for i in range(level):
            x = x + self.before[i](prefixes[..., i])
        return self.out[level](x + self.nets[level](x))


class SemanticIdModel(SequentialModel):
    """Generates the next item's id digit by digit, after the items of the history, each the sum of its digits.

    The history is read by SASRec's Transformer, item by item; the digits of one item by a small net a level, as
    in [rqtransformer], where [tiger] has one Transformer over all digits. One level with a digit for each item is
    a model of plain item ids. Its score of an item is the log-probability of its whole id, so that cold items,
    whose ids share digits with warm ones, have scores too.

    Parameters
    ----------
    ids : array (n_items, levels)
        Digits, all rows different; see `ResidualQuantizer` and `with_tie_breaker`.
    layers, heads : int
        Of the Transformer; the other options are `SequentialModel`'s.
    """

    network: Any

    def __init__(self, ids: ArrayLike, *, layers: int = 2, heads: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.ids = np.asarray(ids, dtype=np.int64)
        self.trie = Trie(self.ids)
        self.layers, self.heads = layers, heads

    def encoder(self) -> nn.Module:
        """Return the Transformer that reads the history."""
        return Transformer(self.d, self.length, self.layers, self.heads, self.dropout)

    def build(self, train: Interactions) -> Any:
        """Return the network."""
        check_rows(self.ids, train)
        sizes = [int(column.max()) + 1 for column in self.ids.T]
        return Generator(torch.from_numpy(self.ids), sizes, self.d, self.encoder(), self.dropout)

    def states(self, items: Tensor, sequences: list[NDArray[np.int64]], causal: bool = True) -> Tensor:
        """Return the states (batch, longest, d) of sequences of item codes."""
        codes, lengths = padded(sequences)
        return self.network.encoder(F.embedding(codes, items), lengths, causal)

    def losses(self, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yield the mean over places of the next id's negative log-probability."""
        ids = torch.from_numpy(self.ids)
        for windows in self._windows(rng, self.length + 1, 2):
            states = self.states(self.network.items(), [window[:-1] for window in windows])
            targets, lengths = padded([window[1:] for window in windows])
            real = torch.arange(targets.shape[1]) < lengths[:, None]
            digits, x = ids[targets[real]], states[real]
            yield torch.stack(
                [
                    F.cross_entropy(self.network.logits(x, digits[:, :i]), digits[:, i])
                    for i in range(ids.shape[1])
                ]
            ).sum()

    def user_states(self, users: NDArray[np.int64]) -> Tensor:
        """Return the states after the histories (len(users), d); zeros where there is none."""
        histories = self.observed.histories()
        return self._last(self.network.items(), [histories[user] for user in users])

    def user_scores(self, users: NDArray[np.int64]) -> Tensor:
        """Return log-probabilities of all ids (len(users), n_items), by one walk over the trie."""
        states = self.user_states(users)
        return torch.cat([self._all(states[i : i + USERS]) for i in range(0, len(users), USERS)])

    def _all(self, states: Tensor) -> Tensor:
        total = states.new_zeros(len(states), 1)
        for prefixes, parent, digit in zip(
            self.trie.prefixes, self.trie.parent, self.trie.digit, strict=False
        ):
            known = torch.from_numpy(prefixes).expand(len(states), -1, -1)
            logits = self.network.logits(states[:, None].expand(-1, len(prefixes), -1), known)
            total = total[:, parent] + logits.log_softmax(dim=2)[:, parent, digit]
        return torch.empty_like(total).index_copy_(1, torch.from_numpy(self.trie.items), total)

    def beam_search(
        self, user: int, width: int = 10, trie: Trie | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Generate ids for one user, keeping the ``width`` likeliest prefixes that exist at each level.

        Returns
        -------
        items, log-probabilities : arrays (up to width,)
            Likeliest first. ``trie`` may hold some of the items only, say those that are for sale.
        """
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        trie = self.trie if trie is None else trie
        self.network.eval()
        with torch.no_grad():
            state = self.user_states(np.array([user]))
            beam, total = np.zeros(1, dtype=np.int64), np.zeros(1)
            for prefixes, parent, digit in zip(trie.prefixes, trie.parent, trie.digit, strict=False):
                known = torch.from_numpy(prefixes[beam])
                logits = (
                    self.network.logits(state.expand(len(beam), -1), known)
                    .log_softmax(dim=1)
                    .double()
                    .numpy()
                )
                place = np.full(len(prefixes), -1)
                place[beam] = np.arange(len(beam))
                children = np.flatnonzero(place[parent] >= 0)
                row = place[parent[children]]
                scores = total[row] + logits[row, digit[children]]
                best = np.argsort(-scores, kind="stable")[:width]
                beam, total = children[best], scores[best]
        return trie.items[beam], total


def results_by_seed() -> dict[str, list[Result]]:
    """The results that ``python -m benchmarks.bench_semantic_ids`` stored, for section 6.8.

    Returns
    -------
    dict
        For "semantic", "shuffled" and "plain" ids one `Result` a seed (0, 1, 2), at 10, leave-one-out on
        MovieLens-100K. Rows are users in random order, the same in all; ``ranks`` has those within the ten only.
    """
    found: dict[str, list[Result]] = {}
    for column, rank in pd.read_csv(FILE).items():
        hit = rank > 0
        place = rank.where(hit, np.inf)
        one = {"hit": hit * 1.0, "ndcg": 1 / np.log2(place + 1), "mrr": 1 / place, "recall": hit * 1.0}
        ranks = pd.DataFrame({"user": rank.index[hit], "rank": rank[hit]})
        name = str(column).split("_")[0]
        found.setdefault(name, []).append(Result(str(column), 10, pd.DataFrame(one), ranks))
    return found
