"""Graph models: LightGCN on the graph of users and items, with contrast between views and with item text."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from recsys_lib.datasets import Interactions
from recsys_lib.geometry import center, normalize
from recsys_lib.models.base import check_rows, checked_vectors
from recsys_lib.models.training import NegativeSampler, TrainedModel
from recsys_lib.objectives import bpr, info_nce

LOSSES = ("softmax", "bpr")
CONTRASTS = (None, "sgl", "simgcl", "xsimgcl")
TEXTS = ("start", "map")
SPREAD = 0.1  # standard deviation of the initial vectors


class BipartiteGraph:
    """Users and items as nodes, interactions as edges: users are nodes 0..n_users-1, items come after them.

    Parameters
    ----------
    interactions : Interactions
        An edge joins a user and an item however often they met.
    """

    def __init__(self, interactions: Interactions) -> None:
        self.taken = interactions.matrix()
        self.n_users, self.n_items = self.taken.shape
        user, item = (codes.astype(np.int64) for codes in self.taken.nonzero())
        item = item + self.n_users
        self.rows, self.columns = np.concatenate([user, item]), np.concatenate([item, user])
        order = np.lexsort((self.columns, self.rows))
        self.rows, self.columns = self.rows[order], self.columns[order]
        self.edge = order % max(len(user), 1)  # each edge stands in the matrix twice

    def adjacency(self, keep: NDArray[np.bool_] | None = None) -> Tensor:
        """Return the normalised adjacency matrix, sparse and symmetric: 1 / sqrt(degree * degree) at an edge.

        Parameters
        ----------
        keep : bool array (n_edges,), optional
            False drops an edge; the degrees are those of what is left.
        """
        n = self.n_users + self.n_items
        there = np.ones(len(self.rows)) if keep is None else keep[self.edge].astype(float)
        degree = np.bincount(self.rows, weights=there, minlength=n)
        scale = np.divide(1.0, np.sqrt(degree), out=np.zeros(n), where=degree > 0)
        values = there * scale[self.rows] * scale[self.columns]
        starts = np.concatenate([[0], np.cumsum(np.bincount(self.rows, minlength=n))])
        parts = (torch.from_numpy(starts), torch.from_numpy(self.columns), torch.from_numpy(values).float())
        with warnings.catch_warnings():  # torch calls this format a beta
            warnings.filterwarnings("ignore", message="Sparse CSR")
            return torch.sparse_csr_tensor(*parts, (n, n), check_invariants=False)


class _Product(torch.autograd.Function):
    """Symmetric sparse matrix times dense matrix; being symmetric, it also carries the gradient back."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, dense: Tensor) -> Tensor:
        ctx.matrix = matrix
        return matrix @ dense

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:  # type: ignore[override]
        return None, ctx.matrix @ grad.contiguous()


def propagate(adjacency: Tensor, start: Tensor, layers: int, noise: float = 0.0) -> list[Tensor]:
    """Return each layer's vectors, 0 (``start`` itself) to ``layers``: adjacency @ the last layer [lightgcn].

    Parameters
    ----------
    adjacency : sparse tensor (n, n)
        Symmetric, as ``BipartiteGraph.adjacency`` returns it.
    start : tensor (n, d)
    layers : int, >= 0
    noise : float
        Length of a random vector added to each row at each layer, in the row's orthant [simgcl].
    """
    vectors = [start]
    for _ in range(layers):
        new = _Product.apply(adjacency, vectors[-1])
        if noise:
            new = new + noise * new.detach().sign() * F.normalize(torch.rand_like(new), dim=1)
        vectors.append(new)
    return vectors


def softmax_over_items(users: Tensor, items: Tensor, taken: Tensor) -> Tensor:
    """Cross-entropy of each taken item among all items, averaged over the interactions.

    The same as ``full_softmax(users[u], items[i], i)`` over all interactions (u, i), but a user's logits are
    computed once, however many items she took.

    Parameters
    ----------
    users, items : tensors (n_users, d), (n_items, d)
        Logits are their inner products.
    taken : tensor (n_users, n_items)
        1 where the user took the item, else 0.
    """
    logits = users @ items.T
    count = taken.sum(dim=1)
    return ((count * torch.logsumexp(logits, dim=1)).sum() - (taken * logits).sum()) / count.sum()


class Vectors(nn.Module):
    """The vectors of layer 0: a table of ids, or a network over text (``text`` (nodes, width) given)."""

    def __init__(self, start: Tensor, text: Tensor | None = None, hidden: int = 256) -> None:
        super().__init__()
        self.table: nn.Parameter | None = None
        if text is None:
            self.table = nn.Parameter(start)
        else:
            self.register_buffer("text", text, persistent=False)
            layers = nn.Linear(text.shape[1], hidden), nn.LeakyReLU(), nn.Linear(hidden, start.shape[1])
            self.map = nn.Sequential(*layers)

    def forward(self) -> Tensor:
        """Return vectors (nodes, dimensions)."""
        return self.map(self.text) if self.table is None else self.table


class LightGCN(TrainedModel):
    """Vectors of users and items, averaged over the neighbourhood in the graph of who took what [lightgcn].

    A step takes the whole graph, so an epoch is one step. Items without an interaction (cold items) have no
    neighbours; with ``text="map"`` they are placed by their text, otherwise nothing is learned about them.

    Parameters
    ----------
    dimensions, layers : int
        With 0 layers this is matrix factorisation.
    loss : "softmax" or "bpr"
        Full softmax over all items, with cosines divided by ``temperature``; or BPR on inner products with a
        new negative for each interaction at each step [bpr].
    temperature : float, > 0
    regularization : float
        With "bpr", weight of the mean squared length of the vectors of layer 0.
    contrast : None, "sgl", "simgcl" or "xsimgcl"
        InfoNCE between two views of each node: graphs with edges dropped [sgl], noise at each layer [simgcl],
        or layer 1 against the noisy mean of all layers in a single pass [xsimgcl]. All views keep layer 0.
    contrast_weight, contrast_temperature : float
    noise : float, >= 0
        Length of the noise of "simgcl" and "xsimgcl".
    drop : float in [0, 1)
        Share of the edges dropped in a view of "sgl".
    item_vectors : array (n_items, width), optional
        Text vectors; they are centred on the warm items' mean and scaled to length 1.
    text : "start" or "map"
        With ``item_vectors``: start the items at their first ``dimensions`` principal components, then learn
        freely; or have no ids at all, a network maps an item's text vector, and for a user the mean of her
        items' vectors, to layer 0 [alpharec].
    epochs, learning_rate, patience, every, seed, ...
        See ``TrainedModel``; .02 is a good learning rate for ids, .005 for "map".
    """

    network: Vectors

    def __init__(
        self,
        dimensions: int = 64,
        layers: int = 2,
        loss: str = "softmax",
        *,
        temperature: float = 0.15,
        regularization: float = 1e-4,
        contrast: str | None = None,
        contrast_weight: float = 0.02,
        contrast_temperature: float = 0.2,
        noise: float = 0.1,
        drop: float = 0.1,
        item_vectors: ArrayLike | None = None,
        text: str = "start",
        epochs: int = 400,
        learning_rate: float = 0.02,
        every: int = 10,
        **kwargs: Any,
    ) -> None:
        super().__init__(epochs=epochs, learning_rate=learning_rate, every=every, **kwargs)
        for name, value, known in (
            ("loss", loss, LOSSES),
            ("contrast", contrast, CONTRASTS),
            ("text", text, TEXTS),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {known}, got {value!r}")
        if dimensions < 1 or layers < 0:
            raise ValueError("dimensions must be at least 1, layers at least 0")
        if contrast == "xsimgcl" and layers < 1:
            raise ValueError("xsimgcl contrasts layer 1: layers must be at least 1")
        if not (temperature > 0 and contrast_temperature > 0):
            raise ValueError("temperatures must be above 0")
        if min(regularization, contrast_weight, noise) < 0 or not 0 <= drop < 1:
            raise ValueError("weights and noise must be at least 0, drop must lie in [0, 1)")
        self.dimensions, self.layers, self.loss, self.temperature = dimensions, layers, loss, temperature
        self.regularization, self.contrast, self.contrast_weight = regularization, contrast, contrast_weight
        self.contrast_temperature, self.noise, self.drop = contrast_temperature, noise, drop
        self.item_vectors = None if item_vectors is None else checked_vectors(item_vectors)
        self.text = text

    def build(self, train: Interactions) -> nn.Module:
        """Return the vectors of layer 0."""
        self.graph = BipartiteGraph(train)
        self.adjacency = self.graph.adjacency()
        self.taken = torch.from_numpy(self.graph.taken.toarray()).float()
        self.sampler = NegativeSampler(train) if self.loss == "bpr" else None
        start = torch.randn(train.n_users + train.n_items, self.dimensions) * SPREAD
        if self.item_vectors is None:
            return Vectors(start)
        check_rows(self.item_vectors, train)
        warm = self.graph.taken.getnnz(axis=0) > 0
        vectors = normalize(center(self.item_vectors, self.item_vectors[warm]))
        if self.text == "start":
            start[train.n_users :] = torch.from_numpy(self._components(vectors, warm)).float()
            return Vectors(start)
        count = np.maximum(self.graph.taken.getnnz(axis=1), 1)[:, None]
        users = normalize(self.graph.taken @ vectors / count)
        return Vectors(start, torch.from_numpy(np.concatenate([users, vectors])).float())

    def _components(self, vectors: NDArray[np.float64], warm: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return the first principal components of the warm items, scaled like random initial vectors."""
        if vectors.shape[1] < self.dimensions:
            raise ValueError(
                f"item_vectors of width {vectors.shape[1]} cannot start {self.dimensions} dimensions"
            )
        axes = np.linalg.eigh(vectors[warm].T @ vectors[warm])[1][:, ::-1][:, : self.dimensions]
        components = vectors @ axes
        return components * SPREAD / np.sqrt((components[warm] ** 2).mean())

    def layer_vectors(self, noise: float = 0.0, adjacency: Tensor | None = None) -> list[Tensor]:
        """Return the vectors of all nodes at each layer: a list of ``layers + 1`` tensors (nodes, dimensions)."""
        return propagate(
            self.adjacency if adjacency is None else adjacency, self.network(), self.layers, noise
        )

    def views(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return two random views of the nodes, (nodes, dimensions) each, as "sgl" or "simgcl" makes them."""
        if self.contrast == "sgl":
            kept = (rng.random(self.graph.taken.nnz) >= self.drop for _ in range(2))
            first, second = (_mean(self.layer_vectors(adjacency=self.graph.adjacency(k))) for k in kept)
        else:
            first, second = (_mean(self.layer_vectors(self.noise)) for _ in range(2))
        return first, second

    def contrastive_loss(self, first: Tensor, second: Tensor) -> Tensor:
        """InfoNCE between two views, among the users plus among the items."""
        cut = self.graph.n_users
        parts = ((first[:cut], second[:cut]), (first[cut:], second[cut:]))
        return torch.stack([info_nce(a, b, self.contrast_temperature) for a, b in parts]).sum()

    def losses(self, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yield the one loss of a full-batch step."""
        vectors = self.layer_vectors(self.noise if self.contrast == "xsimgcl" else 0.0)
        final = _mean(vectors)
        loss = self.ranking_loss(final, vectors[0], rng)
        if self.contrast and self.contrast_weight:
            views = (vectors[1], final) if self.contrast == "xsimgcl" else self.views(rng)
            loss = loss + self.contrast_weight * self.contrastive_loss(*views)
        yield loss

    def ranking_loss(self, final: Tensor, start: Tensor, rng: np.random.Generator) -> Tensor:
        """Return full softmax or BPR over all interactions, of final vectors (nodes, dimensions)."""
        if self.sampler is None:
            users, items = self._split(F.normalize(final, dim=1))
            return softmax_over_items(users / self.temperature, items, self.taken)
        users, items = self._split(final)
        user, item = self.train.users, self.train.items
        other = torch.from_numpy(self.sampler.sample(user, rng))
        at = torch.tensor(user), torch.tensor(item)
        # a row of scores is needed for all pairs of a user: one product is faster than a million small ones
        scores = users @ items.T
        loss = bpr(scores[at[0], at[1]], scores[at[0], other])
        return loss + self.regularization * start.pow(2).sum(dim=1).mean()

    def user_scores(self, users: NDArray[np.int64]) -> Tensor:
        """Return inner products of the final vectors; of the observed graph, if ``observe`` gave another."""
        user, item = self._final()
        return user[torch.from_numpy(users)] @ item.T

    @property
    def user_factors(self) -> NDArray[np.float32]:
        """User vectors (n_users, dimensions); user_factors @ item_factors.T are the scores."""
        return self._final()[0].detach().numpy()

    @property
    def item_factors(self) -> NDArray[np.float32]:
        """Item vectors (n_items, dimensions)."""
        return self._final()[1].detach().numpy()

    def _final(self) -> tuple[Tensor, Tensor]:
        adjacency = None
        if self.observed is not self.train:
            adjacency = BipartiteGraph(self.observed).adjacency()
        final = _mean(self.layer_vectors(adjacency=adjacency))
        return self._split(F.normalize(final, dim=1) if self.loss == "softmax" else final)

    def _split(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        return nodes[: self.graph.n_users], nodes[self.graph.n_users :]


def _mean(vectors: list[Tensor]) -> Tensor:
    return torch.stack(vectors).mean(dim=0)
