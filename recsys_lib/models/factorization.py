"""Matrix factorisation: BPR-MF, trained on pairs, and iALS, solved in turns (through ``implicit``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from recsys_lib.datasets import Interactions
from recsys_lib.models.base import Scores, fitted_users
from recsys_lib.models.training import NegativeSampler, TrainedModel, batches
from recsys_lib.objectives import bpr


class Factors(nn.Module):
    """A vector for each user and each item, and a bias for each item."""

    def __init__(self, n_users: int, n_items: int, dimensions: int) -> None:
        super().__init__()
        self.users = nn.Embedding(n_users, dimensions)
        self.items = nn.Embedding(n_items, dimensions)
        self.bias = nn.Embedding(n_items, 1)
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=0.1)
        nn.init.zeros_(self.bias.weight)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Return the scores of pairs of user and item, in the shape of ``items``."""
        return (self.users(users) * self.items(items)).sum(-1) + self.bias(items).squeeze(-1)


class BPRMF(TrainedModel):
    """Matrix factorisation with the BPR loss: an item taken should score above one not taken [bpr].

    Parameters
    ----------
    dimensions : int
    regularization : float
        Weight of the squared vectors of a batch, per pair.
    epochs, learning_rate, batch_size, ...
        See ``TrainedModel``.
    """

    def __init__(
        self,
        dimensions: int = 64,
        regularization: float = 0.001,
        *,
        learning_rate: float = 0.01,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        if dimensions < 1 or regularization < 0:
            raise ValueError("dimensions must be at least 1, regularization at least 0")
        self.dimensions, self.regularization = dimensions, regularization

    def build(self, train: Interactions) -> nn.Module:
        """Return new factors."""
        self.sampler = NegativeSampler(train)
        return Factors(train.n_users, train.n_items, self.dimensions)

    def losses(self, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yield the loss of each batch: every interaction with one new negative."""
        users, items = self.train.users, self.train.items
        for rows in batches(len(users), self.batch_size, rng):
            others = self.sampler.sample(users[rows], rng)
            user, taken, other = (torch.from_numpy(codes) for codes in (users[rows], items[rows], others))
            squares = sum(
                part.pow(2).sum()
                for part in (self.network.users(user), self.network.items(taken), self.network.items(other))
            )
            loss = bpr(self.network(user, taken), self.network(user, other))
            yield loss + self.regularization * squares / len(rows)

    def user_scores(self, users: NDArray[np.int64]) -> Tensor:
        """Return inner products plus the items' biases."""
        vectors = self.network.users.weight[torch.from_numpy(users)]
        return vectors @ self.network.items.weight.T + self.network.bias.weight.T

    @property
    def item_factors(self) -> NDArray[np.float32]:
        """Item vectors with the bias as a last column, (n_items, dimensions + 1)."""
        parts = [self.network.items.weight, self.network.bias.weight]
        return torch.cat(parts, dim=1).detach().numpy()

    @property
    def user_factors(self) -> NDArray[np.float32]:
        """User vectors with a last column of ones, so that user_factors @ item_factors.T are the scores."""
        weight = self.network.users.weight
        return torch.cat([weight, torch.ones(len(weight), 1)], dim=1).detach().numpy()


class IALS:
    """Weighted matrix factorisation for implicit feedback by alternating least squares [ials], from ``implicit``.

    Parameters
    ----------
    dimensions : int
    regularization : float, > 0
    alpha : float, > 0
        An interaction counts alpha times, an absent one once.
    iterations : int
    seed : int
    """

    def __init__(
        self,
        dimensions: int = 32,
        regularization: float = 0.1,
        alpha: float = 1.0,
        iterations: int = 15,
        seed: int = 0,
    ) -> None:
        if dimensions < 1 or iterations < 1 or not (regularization > 0 and alpha > 0):
            raise ValueError("dimensions and iterations must be at least 1, regularization and alpha above 0")
        self.dimensions, self.regularization, self.alpha = dimensions, regularization, alpha
        self.iterations, self.seed = iterations, seed
        self.n_users: int | None = None

    def fit(self, train: Interactions) -> IALS:
        """Solve for the users' and the items' factors in turns."""
        if len(train) == 0:
            raise ValueError("IALS needs interactions to learn from; there are none")
        with threadpool_limits(
            1, "blas"
        ):  # implicit has threads of its own; with BLAS threads inside it crawls
            from implicit.cpu.als import AlternatingLeastSquares

            model = AlternatingLeastSquares(
                factors=self.dimensions,
                regularization=self.regularization,
                alpha=self.alpha,
                iterations=self.iterations,
                random_state=self.seed,
                num_threads=1,  # so that equal seeds give equal results
                use_cg=False,  # exact steps
            )
            model.fit(train.matrix(), show_progress=False)
        self.user_factors, self.item_factors = np.asarray(model.user_factors), np.asarray(model.item_factors)
        self.n_users = train.n_users
        return self

    def score(self, users: ArrayLike) -> Scores:
        """Return inner products: (len(users), n_items)."""
        codes = fitted_users(self, users, self.n_users)
        return (self.user_factors[codes] @ self.item_factors.T).astype(np.float32)
