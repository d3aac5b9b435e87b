"""Models of the order of a user's items: SASRec, GRU4Rec, BERT4Rec, with item text and contrast. Needs torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from recsys_lib.datasets import Interactions
from recsys_lib.models.base import check_rows, checked_vectors
from recsys_lib.models.training import TrainedModel, batches
from recsys_lib.objectives import full_softmax, info_nce, nt_xent

MODES = ("start", "adaptor", "both")
CONTRASTS = ("cl4srec", "dropout", "duorec")
BLOCK = 256  # users scored at a time
STD = 0.1  # of the entries of item vectors at the start


class ItemTable(nn.Module):
    """Item vectors (n_items, d): learned for each id, made from text, or the sum of both.

    Parameters
    ----------
    n_items, d : int
    vectors : tensor (n_items, width), optional
        Of the items' texts. They are centred and scaled as a whole to entries of mean square 1.
    mode : "start", "adaptor" or "both"
        "start": the learned vectors begin as the first ``d`` principal components of ``vectors``.
        "adaptor": a small network maps ``vectors`` to d; there are no ids, so items nobody met have vectors too.
        "both": the adaptor's output is added to a learned vector.
    """

    def __init__(self, n_items: int, d: int, vectors: Tensor | None = None, mode: str = "start") -> None:
        super().__init__()
        self.ids: nn.Parameter | None = None
        self.adaptor: nn.Module | None = None
        self.mask = nn.Parameter(torch.randn(d) * STD)  # stands where an item is hidden
        if vectors is None or mode != "adaptor":
            self.ids = nn.Parameter(torch.randn(n_items, d) * STD)
        if vectors is None:
            return
        vectors = vectors - vectors.mean(dim=0)
        vectors = vectors / vectors.square().mean().sqrt().clamp(min=1e-12)
        if mode == "start":
            assert self.ids is not None
            _, _, axes = torch.linalg.svd(vectors.double(), full_matrices=False)
            start = (vectors.double() @ axes[:d].T).float()
            # the sign of an axis is arbitrary: its largest entry is positive, whatever the order of items
            start = start * start.gather(0, start.abs().argmax(dim=0, keepdim=True)).sign()
            self.ids.data = start * STD / start.square().mean().sqrt().clamp(min=1e-12)
        else:
            self.register_buffer("text", vectors, persistent=False)
            self.adaptor = nn.Sequential(nn.Linear(vectors.shape[1], 2 * d), nn.GELU(), nn.Linear(2 * d, d))

    def forward(self) -> Tensor:
        """Return the vectors of all items."""
        if self.adaptor is None:
            return self.ids  # type: ignore[return-value]
        made = self.adaptor(self.text)
        return made if self.ids is None else self.ids + made


class Attention(nn.Module):
    """A layer of a transformer: self-attention and a feed-forward net, each normalised first and added back."""

    def __init__(self, d: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm, self.qkv, self.out = nn.LayerNorm(d), nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.feed = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, d), nn.GELU(), nn.Linear(d, d))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Return new states (batch, length, d); without ``mask`` a place sees itself and what came before."""
        q, k, v = self.qkv(self.norm(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        x = x + F.dropout(self.out(seen.transpose(1, 2).flatten(2)), self.dropout, self.training)
        return x + F.dropout(self.feed(x), self.dropout, self.training)


class Transformer(nn.Module):
    """Item vectors in the order taken -> a state after each; padding stands at the end, so nothing sees it.

    Positions count back from the newest item, which is always at position ``length`` - 1.
    """

    def __init__(self, d: int, length: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.length, self.dropout = length, dropout
        self.position = nn.Parameter(torch.randn(length, d) * 0.02)
        self.layers = nn.ModuleList(Attention(d, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(d)

    def forward(self, vectors: Tensor, lengths: Tensor, causal: bool = True) -> Tensor:
        """Return states like ``vectors`` (batch, length, d); not ``causal``: each place sees all the others."""
        places = torch.arange(vectors.shape[1])
        position = (self.length - lengths[:, None] + places).clamp(max=self.length - 1)
        mask = None if causal else (places < lengths[:, None])[:, None, None, :]
        x = F.dropout(vectors + self.position[position], self.dropout, self.training)
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)


class GRU(nn.Module):
    """A recurrent network in the place of the transformer."""

    def __init__(self, d: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.gru = nn.GRU(d, width, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.out = nn.Linear(width, d)

    def forward(self, vectors: Tensor, lengths: Tensor, causal: bool = True) -> Tensor:
        """Return states (batch, length, d)."""
        states, _ = self.gru(F.dropout(vectors, self.dropout, self.training))
        return self.out(F.dropout(states, self.dropout, self.training))


class Network(nn.Module):
    """Item vectors and the network that reads them."""

    def __init__(self, items: ItemTable, encoder: nn.Module) -> None:
        super().__init__()
        self.items, self.encoder = items, encoder
        for name, weight in encoder.named_parameters():
            if weight.ndim == 2 and not name.startswith("gru"):
                nn.init.normal_(weight, std=0.02)

    def forward(self, items: Tensor, ids: Tensor, lengths: Tensor, causal: bool = True) -> Tensor:
        """Return states (batch, longest, d); code n_items is a hidden item."""
        table = torch.cat([items, self.items.mask[None]])
        return self.encoder(F.embedding(ids, table), lengths, causal)


class SequentialModel(TrainedModel):
    """What the three have in common: item vectors, windows of the histories, scores state @ item vectors.

    A user without a history gets the same score for every item.
    """

    network: Network

    def __init__(
        self,
        *,
        d: int = 64,
        length: int = 50,
        dropout: float = 0.3,
        item_vectors: ArrayLike | None = None,
        mode: str = "start",
        windows: str = "random",
        **training: Any,
    ) -> None:
        defaults: dict[str, Any] = {
            "epochs": 60,
            "learning_rate": 2e-3,
            "weight_decay": 0.01,
            "batch_size": 32,
        }
        defaults |= {"every": 5, "patience": 3, "averaging": 0.995}
        super().__init__(**(defaults | training))
        if d < 1 or length < 1:
            raise ValueError(f"d and length must be at least 1, got {d} and {length}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        if windows not in ("last", "random"):
            raise ValueError(f"windows must be 'last' or 'random', got {windows!r}")
        self.item_vectors = None if item_vectors is None else checked_vectors(item_vectors)
        if self.item_vectors is not None and mode == "start" and self.item_vectors.shape[1] < d:
            raise ValueError(f"item_vectors have {self.item_vectors.shape[1]} columns, fewer than d = {d}")
        self.d, self.length, self.dropout, self.mode, self.windows = d, length, dropout, mode, windows

    def encoder(self) -> nn.Module:
        """Return the network that turns item vectors into states."""
        raise NotImplementedError

    def build(self, train: Interactions) -> Network:
        """Return the item vectors (``items``) and what reads them (``encoder``)."""
        vectors = None
        if self.item_vectors is not None:
            check_rows(self.item_vectors, train)
            vectors = torch.from_numpy(self.item_vectors)
        return Network(ItemTable(train.n_items, self.d, vectors, self.mode), self.encoder())

    def states(self, items: Tensor, sequences: list[NDArray[np.int64]], causal: bool = True) -> Tensor:
        """Return the states (batch, longest, d) of sequences of item codes; code n_items is a hidden item."""
        return self.network(items, *padded(sequences), causal)

    def losses(self, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yield the cross-entropy of the next item at every place."""
        for windows in self._windows(rng, self.length + 1, 2):
            yield self._next_item(windows)[0]

    def _next_item(self, windows: list[NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
        items = self.network.items()
        states = self.states(items, [window[:-1] for window in windows])
        targets, lengths = padded([window[1:] for window in windows])
        real = torch.arange(targets.shape[1]) < lengths[:, None]
        return full_softmax(states[real], items, targets[real]), states[
            torch.arange(len(lengths)), lengths - 1
        ]

    def user_scores(self, users: NDArray[np.int64]) -> Tensor:
        """Return last state @ item vectors."""
        items, histories = self.network.items(), self.observed.histories()
        blocks = [users[start : start + BLOCK] for start in range(0, len(users), BLOCK)]
        return torch.cat([self._last(items, [histories[u] for u in block]) @ items.T for block in blocks])

    def _last(self, items: Tensor, histories: list[NDArray[np.int64]]) -> Tensor:
        """State after the last item, (n, d); zeros where the history is empty."""
        last = items.new_zeros(len(histories), self.d)
        some = [i for i, history in enumerate(histories) if len(history)]
        if some:
            sequences = [histories[i][-self.length :] for i in some]
            last[some] = _newest(self.states(items, sequences), sequences)
        return last

    def _windows(self, rng: np.random.Generator, size: int, least: int) -> Iterator[list[NDArray[np.int64]]]:
        """Yield batches of windows of at most ``size`` items, one for each user with ``least`` items or more."""
        histories = [history for history in self.train.histories() if len(history) >= least]
        if not histories:
            raise ValueError(f"{type(self).__name__} needs users with {least} items or more; there are none")
        for some in batches(len(histories), self.batch_size, rng):
            yield [self._window(histories[i], size, rng) for i in some]

    def _window(self, history: NDArray[np.int64], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        spare = len(history) - size
        if self.windows == "last" or spare <= 0:
            return history[-size:]
        start = rng.integers(spare + 1)
        return history[start : start + size]


class SASRec(SequentialModel):
    """Self-attention over the items taken before predicts the next one [sasrec], with full cross-entropy [dross].

    Parameters
    ----------
    d, length, layers, heads : int
        Width, items read at most, layers of attention and heads in each.
    dropout : float in [0, 1)
        On the inputs and on what each layer adds.
    item_vectors : array (n_items, width), optional
        Of the items' texts.
    mode : "start", "adaptor" or "both"
        What the text is for, see `ItemTable`: the start of the item vectors [harte], their only source, so that
        items nobody met can be ranked, as in [unisrec], or a part of them.
    contrast : "cl4srec", "dropout" or "duorec", optional
        A second loss, that two views of a user are nearer than views of different users. "cl4srec": crops, masks
        and reorderings of the sequence [cl4srec]; "dropout": the same sequence under other dropout; "duorec":
        that, and a sequence of another user whose next item is the same (DuoRec).
    contrast_weight, contrast_temperature : float
    pretrain_epochs : int
        First learn this long to guess hidden items from both sides, as in [s3rec].
    windows : "last" or "random"
        Train on each user's newest ``length`` items, or on as many from a random place, drawn anew each epoch.
    **training
        Of `TrainedModel`: epochs, learning_rate, weight_decay, batch_size (users), patience, every, averaging,
        seed.
    """

    def __init__(
        self,
        *,
        layers: int = 2,
        heads: int = 1,
        contrast: str | None = None,
        contrast_weight: float = 0.1,
        contrast_temperature: float = 0.2,
        pretrain_epochs: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        _check_heads(self.d, layers, heads)
        if contrast is not None and contrast not in CONTRASTS:
            raise ValueError(f"contrast must be None or one of {', '.join(CONTRASTS)}, got {contrast!r}")
        if contrast_weight < 0 or not contrast_temperature > 0 or pretrain_epochs < 0:
            raise ValueError("contrast_weight and pretrain_epochs must be >= 0, contrast_temperature above 0")
        self.layers, self.heads, self.pretrain_epochs = layers, heads, pretrain_epochs
        self.contrast, self.contrast_weight = contrast, contrast_weight
        self.contrast_temperature = contrast_temperature

    def encoder(self) -> nn.Module:
        """Return the transformer."""
        return Transformer(self.d, self.length, self.layers, self.heads, self.dropout)

    def pretrain(self, optimizer: torch.optim.Optimizer, rng: np.random.Generator) -> None:
        """Guess hidden items for ``pretrain_epochs``."""
        for _ in range(self.pretrain_epochs):
            for windows in self._windows(rng, self.length, 1):
                self._step(_masked_loss(self, windows, 0.2, rng), optimizer)

    def losses(self, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yield the cross-entropy of the next item at every place, and the contrast if there is one."""
        same_target = _SameTarget(self.train) if self.contrast == "duorec" else None
        for windows in self._windows(rng, self.length + 1, 2):
            loss, last = self._next_item(windows)
            if self.contrast is not None and len(windows) > 1:
                loss = loss + self.contrast_weight * self._contrast(windows, last, same_target, rng)
            yield loss

    def _contrast(
        self,
        windows: list[NDArray[np.int64]],
        last: Tensor,
        same_target: _SameTarget | None,
        rng: np.random.Generator,
    ) -> Tensor:
        """Return the contrastive loss; ``last`` (batch, d) are states after the items before the last one."""
        items, before = self.network.items(), [window[:-1] for window in windows]
        if self.contrast == "cl4srec":
            both = self._last(items, [augment(s, len(items), rng) for s in before + before])
            return nt_xent(both[: len(before)], both[len(before) :], self.contrast_temperature)
        targets = torch.tensor([window[-1] for window in windows])
        others = [before] if same_target is None else [before, same_target.sample(windows, rng)]
        views = [self._last(items, [s[-self.length :] for s in other]) for other in others]
        losses = [info_nce(last, view, self.contrast_temperature, key_ids=targets) for view in views]
        return torch.stack(losses).mean()


class GRU4Rec(SequentialModel):
    """A recurrent network predicts the next item [gru4rec], with full cross-entropy.

    Parameters are those of `SASRec` without contrast and pre-training, and ``width``, that of the hidden state.
    """

    def __init__(self, *, width: int = 128, layers: int = 1, **options: Any) -> None:
        super().__init__(**options)
        if width < 1 or layers < 1:
            raise ValueError(f"width and layers must be at least 1, got {width} and {layers}")
        self.width, self.layers = width, layers

    def encoder(self) -> nn.Module:
        """Return the recurrent network."""
        return GRU(self.d, self.width, self.layers, self.dropout)


class BERT4Rec(SequentialModel):
    """Hidden items are guessed from both sides; the next item is one hidden at the end [bert4rec].

    Parameters
    ----------
    masked : float in (0, 1)
        Share of the items hidden in training; the newest is always among them, as in scoring.
    layers, heads : int
    **options
        d, length, dropout, item_vectors, mode, windows and those of training, as in `SASRec`.
    """

    def __init__(self, *, layers: int = 2, heads: int = 1, masked: float = 0.3, **options: Any) -> None:
        super().__init__(**options)
        _check_heads(self.d, layers, heads)
        if not 0 < masked < 1:
            raise ValueError(f"masked must lie in (0, 1), got {masked}")
        self.layers, self.heads, self.masked = layers, heads, masked

    def encoder(self) -> nn.Module:
        """Return the transformer."""
        return Transformer(self.d, self.length, self.layers, self.heads, self.dropout)

    def losses(self, rng: np.random.Generator) -> Iterator[Tensor]:
        """Yield the cross-entropy of the hidden items."""
        for windows in self._windows(rng, self.length, 1):
            yield _masked_loss(self, windows, self.masked, rng)

    def _last(self, items: Tensor, histories: list[NDArray[np.int64]]) -> Tensor:
        hidden = len(items)
        sequences = [np.append(h[len(h) - min(len(h), self.length - 1) :], hidden) for h in histories]
        return _newest(self.states(items, sequences, causal=False), sequences)


def padded(sequences: list[NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
    """Return item codes (batch, longest), zeros after the end of the shorter ones, and the lengths (batch,)."""
    lengths = np.array([len(sequence) for sequence in sequences])
    ids = np.zeros((len(sequences), lengths.max()), dtype=np.int64)
    ids[np.arange(ids.shape[1]) < lengths[:, None]] = np.concatenate(sequences)
    return torch.from_numpy(ids), torch.from_numpy(lengths)


def augment(
    sequence: NDArray[np.int64],
    hidden: int,
    rng: np.random.Generator,
    crop: float = 0.6,
    mask: float = 0.3,
    reorder: float = 0.6,
) -> NDArray[np.int64]:
    """One view of a sequence, by one of three changes drawn at random [cl4srec].

    Crop: a run of ``crop`` of its items; mask: ``mask`` of them become ``hidden``; reorder: a run
    of ``reorder`` of them is shuffled. Shares are rounded, a crop keeps at least one item.
    """
    n, kind = len(sequence), rng.integers(3)
    if kind == 1:
        view = sequence.copy()
        view[rng.choice(n, round(mask * n), replace=False)] = hidden
        return view
    size = max(1, round((crop if kind == 0 else reorder) * n))
    start = rng.integers(n - size + 1)
    run = sequence[start : start + size]
    return (
        run
        if kind == 0
        else np.concatenate([sequence[:start], rng.permutation(run), sequence[start + size :]])
    )


class _SameTarget:
    """Draws, for the target of a sequence, what another user took before the same item."""

    def __init__(self, train: Interactions) -> None:
        self.histories = train.histories()
        self.places: dict[int, list[tuple[int, int]]] = {}
        for user, history in enumerate(self.histories):
            for place, item in enumerate(history.tolist()):
                if place:
                    self.places.setdefault(item, []).append((user, place))

    def sample(self, windows: list[NDArray[np.int64]], rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """Return one sequence a window (the window's own items where nobody else took the target)."""
        found = []
        for window in windows:
            places = self.places[int(window[-1])]
            user, place = places[rng.integers(len(places))]
            found.append(self.histories[user][:place])
        return found


def _masked_loss(
    model: SequentialModel, windows: list[NDArray[np.int64]], masked: float, rng: np.random.Generator
) -> Tensor:
    """Cross-entropy of hidden items given the others, the newest always hidden."""
    items = model.network.items()
    inputs, targets = [], []
    for window in windows:
        chosen = rng.random(len(window)) < masked
        chosen[-1] = True
        inputs.append(np.where(chosen, len(items), window))
        targets.append(np.where(chosen, window, -1))
    states, labels = model.states(items, inputs, causal=False), padded(targets)
    wanted = (labels[0] >= 0) & (torch.arange(labels[0].shape[1]) < labels[1][:, None])
    return full_softmax(states[wanted], items, labels[0][wanted])


def _newest(states: Tensor, sequences: list[NDArray[np.int64]]) -> Tensor:
    """State of each sequence's last item."""
    return states[torch.arange(len(sequences)), torch.tensor([len(s) - 1 for s in sequences])]


def _check_heads(d: int, layers: int, heads: int) -> None:
    if layers < 1 or heads < 1 or d % heads:
        raise ValueError(f"layers must be at least 1 and heads divide d, got {layers}, {heads} and d = {d}")
