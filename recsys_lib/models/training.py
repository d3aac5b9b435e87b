"""What trained models share: the loop with early stopping, saving, negative sampling. Needs torch."""

from __future__ import annotations

import copy
import hashlib
import inspect
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm.auto import trange

from recsys_lib.datasets import Interactions
from recsys_lib.evaluation import evaluate
from recsys_lib.models.base import Scores, fitted_users


class TrainedModel:
    """A model that learns by gradient steps. A subclass says what is learned, how it errs and how it scores:

    - ``build(train)`` returns the network;
    - ``losses(rng)`` yields one loss a batch, for one epoch;
    - ``user_scores(users)`` returns scores (len(users), n_items).

    Parameters
    ----------
    epochs : int
        At most; with a validation part training stops ``patience`` evaluations after the best NDCG@10, and the
        best weights are kept.
    learning_rate, weight_decay : float
        Of AdamW.
    batch_size : int
    patience, every : int
        Evaluate every so many epochs, stop after so many evaluations without a better one.
    averaging : float in [0, 1)
        Above 0, evaluate and keep a running mean of the weights, which after each step moves by 1 - averaging
        towards the new ones: steadier than the weights themselves.
    seed : int
        Of the initial weights, the order of batches and the negatives; torch's global state is left alone.
    """

    network: Any  # an nn.Module
    train: Interactions
    observed: Interactions

    def __init__(
        self,
        *,
        epochs: int = 100,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        batch_size: int = 1024,
        patience: int = 5,
        every: int = 1,
        averaging: float = 0.0,
        seed: int = 0,
    ) -> None:
        for name, value in (
            ("epochs", epochs),
            ("batch_size", batch_size),
            ("patience", patience),
            ("every", every),
        ):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= averaging < 1:
            raise ValueError(f"averaging must lie in [0, 1), got {averaging}")
        self.averaging = averaging
        self.epochs, self.patience, self.every, self.seed = epochs, patience, every, seed
        self.learning_rate, self.weight_decay, self.batch_size = learning_rate, weight_decay, batch_size
        self.n_users: int | None = None
        self.best_epoch = epochs

    def build(self, train: Interactions) -> nn.Module:
        """Return a new network for this data."""
        raise NotImplementedError

    def losses(self, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yield one loss a batch, for one epoch over ``self.train``."""
        raise NotImplementedError

    def pretrain(self, optimizer: torch.optim.Optimizer, rng: np.random.Generator) -> None:
        """Do what comes before the epochs, once; nothing, unless a subclass says so."""

    def user_scores(self, users: NDArray[np.int64]) -> Tensor:
        """Return scores (len(users), n_items), from what the users did in ``self.observed``."""
        raise NotImplementedError

    def fit(self, train: Interactions, validation: Interactions | None = None) -> Any:
        """Learn from ``train``; with ``validation`` stop early and keep the best epoch's weights.

        Sets ``best_epoch`` and ``history`` (one dict an epoch: epoch, loss, and ndcg where it was evaluated).

        Raises
        ------
        ValueError
            If ``train`` is empty or the loss is no longer finite.
        """
        self.best_epoch = self._loop(train, validation, self.epochs)
        return self

    def refit(self, train: Interactions) -> Any:
        """Learn anew from ``train`` (usually train and validation together) for ``best_epoch`` epochs."""
        self._loop(train, None, self.best_epoch)
        return self

    def observe(self, interactions: Interactions) -> Any:
        """Score from these interactions from now on; the weights stay. Users and items must be the same ones."""
        if (interactions.n_users, interactions.n_items) != (self.train.n_users, self.train.n_items):
            raise ValueError("the interactions must have the users and items that the model was fitted on")
        self.observed = interactions
        return self

    def _loop(self, train: Interactions, validation: Interactions | None, epochs: int) -> int:
        if len(train) == 0:
            raise ValueError(f"{type(self).__name__} needs interactions to learn from; there are none")
        rng = np.random.default_rng(self.seed)
        best, best_epoch, kept = -np.inf, epochs, None
        self.history: list[dict[str, float]] = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.train = self.observed = train
            self.network = self.build(train)
            self.n_users = train.n_users
            optimizer = torch.optim.AdamW(
                self.network.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
            )
            self.network.train()
            self.pretrain(optimizer, rng)
            mean = _RunningMean(self.network, self.averaging)
            for epoch in trange(1, epochs + 1, desc=type(self).__name__, leave=False):
                self.network.train()
                total = []
                for loss in self.losses(rng):
                    total.append(self._step(loss, optimizer))
                    mean.update()
                self.history.append({"epoch": epoch, "loss": float(np.mean(total))})
                if validation is None or epoch % self.every:
                    continue
                mean.swap()
                ndcg = evaluate(self, validation, seen=train).mean("ndcg")
                self.history[-1]["ndcg"] = ndcg
                if ndcg > best:
                    best, best_epoch = ndcg, epoch
                    kept = copy.deepcopy(self.network.state_dict())
                mean.swap()
                if epoch - best_epoch >= self.patience * self.every:
                    break
        if kept is None:
            mean.swap()
        else:
            self.network.load_state_dict(kept)
        self.network.eval()
        return best_epoch

    def _step(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> float:
        value = float(loss.detach())
        if not np.isfinite(value):
            raise ValueError(f"{type(self).__name__}: the loss is {value}; a smaller learning rate may help")
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return value

    def score(self, users: ArrayLike) -> Scores:
        """Return scores of all items: (len(users), n_items)."""
        codes = fitted_users(self, users, self.n_users)
        if not len(codes):
            return np.empty((0, self.train.n_items), np.float32)
        training = self.network.training
        self.network.eval()
        with torch.no_grad():
            scores = self.user_scores(codes).float().numpy()
        self.network.train(training)
        return scores

    def save(self, folder: str | Path) -> None:
        """Write the fitted model into a new ``folder``: model.safetensors and model.json; all or nothing.

        The interactions it was fitted on and the ones observed are in it, as codes in their order.

        Raises
        ------
        FileExistsError
            If ``folder`` exists.
        RuntimeError
            If the model was not fitted.
        """
        fitted_users(self, [], self.n_users)
        folder = Path(folder)
        if folder.exists():
            raise FileExistsError(f"{folder} exists: remove it or choose another name")
        tensors = {f"network.{name}": value.contiguous() for name, value in self.network.state_dict().items()}
        parameters: dict[str, Any] = {}
        for name, value in self._parameters().items():
            if isinstance(value, np.ndarray):
                tensors[f"parameter.{name}"] = torch.from_numpy(np.ascontiguousarray(value))
            else:
                parameters[name] = value
        for part in ("train", "observed"):
            rows = getattr(self, part)
            tensors[f"{part}.user"] = torch.tensor(rows.users)
            tensors[f"{part}.item"] = torch.tensor(rows.items)
        facts = {"class": type(self).__name__, "parameters": parameters, "best_epoch": self.best_epoch}
        facts |= {"n_users": self.train.n_users, "n_items": self.train.n_items}
        folder.parent.mkdir(parents=True, exist_ok=True)
        new = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            # a copy each: tied weights share memory, which the format does not allow
            save_file({name: value.clone() for name, value in tensors.items()}, new / "model.safetensors")
            facts["sha256"] = _sha256(new / "model.safetensors")
            (new / "model.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
            os.chmod(new, 0o755)
            new.rename(folder)
        finally:
            shutil.rmtree(new, ignore_errors=True)

    @classmethod
    def load(cls, folder: str | Path) -> Any:
        """Return the model that ``save`` wrote; ValueError if it is another class's or damaged."""
        folder = Path(folder)
        facts = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        if facts["class"] != cls.__name__:
            raise ValueError(f"{folder} holds a {facts['class']}, not a {cls.__name__}")
        if _sha256(folder / "model.safetensors") != facts["sha256"]:
            raise ValueError(f"{folder / 'model.safetensors'} is damaged: fit and save the model again")
        tensors = load_file(folder / "model.safetensors")
        arrays: dict[str, Any] = {k[10:]: v.numpy() for k, v in tensors.items() if k.startswith("parameter.")}
        model = cls(**facts["parameters"], **arrays)
        sizes = facts["n_users"], facts["n_items"]
        model.train, model.observed = (_interactions(tensors, part, *sizes) for part in ("train", "observed"))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(model.seed)
            model.network = model.build(model.train)
        model.network.load_state_dict({k[8:]: v for k, v in tensors.items() if k.startswith("network.")})
        model.network.eval()
        model.n_users, model.best_epoch = facts["n_users"], facts["best_epoch"]
        return model

    def _parameters(self) -> dict[str, Any]:
        """Arguments of the constructor, as the model's attributes of the same names hold them."""
        names = [
            name
            for cls in type(self).__mro__
            if "__init__" in vars(cls) and cls is not object
            for name, kind in inspect.signature(vars(cls)["__init__"]).parameters.items()
            if name != "self" and kind.kind != inspect.Parameter.VAR_KEYWORD
        ]
        return {name: getattr(self, name) for name in dict.fromkeys(names)}


class _RunningMean:
    """A running mean of a network's weights; its memory is short at first. Rate 0: there is none."""

    def __init__(self, network: nn.Module, rate: float) -> None:
        self.rate, self.steps = rate, 0
        self.weights = [weight.data for weight in network.parameters()] if rate else []
        self.means = [weight.clone() for weight in self.weights]

    def update(self) -> None:
        """Move the means towards the weights."""
        rate = min(self.rate, self.steps / (self.steps + 10))
        self.steps += 1
        if self.means:
            torch._foreach_lerp_(self.means, self.weights, 1 - rate)

    def swap(self) -> None:
        """Exchange weights and means."""
        for weight, mean in zip(self.weights, self.means, strict=True):
            kept = weight.clone()
            weight.copy_(mean)
            mean.copy_(kept)


class NegativeSampler:
    """Draws items that the user has not taken, uniformly.

    Parameters
    ----------
    train : Interactions
        A user who took every item raises ValueError: nothing is left to draw.
    """

    def __init__(self, train: Interactions) -> None:
        full = np.flatnonzero(np.bincount(train.users, minlength=train.n_users) >= train.n_items)
        if len(full):
            raise ValueError(f"users {full[:5].tolist()} took all items: there is no negative for them")
        self.n_items = train.n_items
        self.taken = np.sort(train.users * train.n_items + train.items)

    def sample(self, users: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Return one item for each entry of ``users``, same shape."""
        items = rng.integers(self.n_items, size=users.shape)
        wrong = self._is_taken(users, items)
        while wrong.any():
            items[wrong] = rng.integers(self.n_items, size=int(wrong.sum()))
            wrong = self._is_taken(users, items)
        return items

    def _is_taken(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.bool_]:
        keys = users * self.n_items + items
        place = np.minimum(np.searchsorted(self.taken, keys), len(self.taken) - 1)
        return self.taken[place] == keys


def batches(n: int, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """Yield 0..n-1 in a random order, ``size`` at a time."""
    order = rng.permutation(n)
    for start in range(0, n, size):
        yield order[start : start + size]


def _interactions(tensors: dict[str, Tensor], part: str, n_users: int, n_items: int) -> Interactions:
    codes = {name: tensors[f"{part}.{name}"].numpy() for name in ("user", "item")}
    return Interactions(pd.DataFrame(codes), n_users, n_items)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
