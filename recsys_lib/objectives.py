"""Losses and corruptions of self-supervised learning: InfoNCE, BPR, full softmax, masking. Needs torch."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = -100  # label of the places that a loss leaves out
ROWS = 256  # rows of logits that full_softmax holds at a time


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Bayesian personalised ranking: mean of -log sigmoid(positive - negative) [bpr].

    Parameters
    ----------
    positive, negative : tensors of one shape
        Scores of an item that the user took and of one that she did not.

    Returns
    -------
    scalar tensor, >= 0

    Raises
    ------
    ValueError
        If the shapes differ, nothing is given or a score is not finite. So do all losses here.
    """
    if positive.shape != negative.shape:
        raise ValueError(f"one negative a positive, please: {_size(positive)} and {_size(negative)}")
    _check(positive=positive, negative=negative)
    return -F.logsigmoid(positive - negative).mean()


def sampled_softmax(positive: Tensor, negatives: Tensor) -> Tensor:
    """Cross-entropy of the positive among itself and n negatives; with n = 1 this is BPR.

    Parameters
    ----------
    positive : tensor (batch,)
    negatives : tensor (batch, n)
    """
    if positive.ndim != 1 or negatives.ndim != 2 or len(positive) != len(negatives):
        raise ValueError(f"shapes (batch,) and (batch, n), please: {_size(positive)}, {_size(negatives)}")
    _check(positive=positive, negatives=negatives)
    return (torch.logsumexp(torch.cat([positive[:, None], negatives], dim=1), dim=1) - positive).mean()


def info_nce(
    queries: Tensor,
    keys: Tensor,
    temperature: float = 0.1,
    *,
    log_q: Tensor | None = None,
    key_ids: Tensor | None = None,
    normalize: bool = True,
) -> Tensor:
    """InfoNCE with in-batch negatives: row i of ``queries`` belongs to row i of ``keys`` [infonce].

    -log( exp(s_ii / T - log_q_i) / sum_j exp(s_ij / T - log_q_j) ), averaged over i; s is the cosine.

    Parameters
    ----------
    queries, keys : tensors (batch, d)
    temperature : float, > 0
    log_q : tensor (batch,), optional
        Log of the probability that a key enters the batch. Popular keys are negatives more often; the
        correction takes that out again [twotower].
    key_ids : tensor (batch,), optional
        Keys of one id are the same thing and not each other's negatives.
    normalize : bool
        False: s is the inner product.

    Returns
    -------
    scalar tensor, >= 0
    """
    if queries.ndim != 2 or queries.shape != keys.shape:
        raise ValueError(f"queries and keys must both be (batch, d): {_size(queries)}, {_size(keys)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    _check(queries=queries, keys=keys)
    if normalize:
        queries, keys = F.normalize(queries, dim=1), F.normalize(keys, dim=1)
    logits = queries @ keys.T / temperature
    if log_q is not None:
        logits = logits - log_q
    if key_ids is not None:
        same = key_ids[:, None] == key_ids[None, :]
        logits = logits.masked_fill(same & ~torch.eye(len(keys), dtype=torch.bool), -torch.inf)
    return F.cross_entropy(logits, torch.arange(len(keys)))


def nt_xent(first: Tensor, second: Tensor, temperature: float = 0.1) -> Tensor:
    """NT-Xent: two views of each thing; every other view in the batch, of either kind, is a negative [simclr].

    Parameters
    ----------
    first, second : tensors (batch, d), batch >= 2
    temperature : float, > 0
    """
    if first.ndim != 2 or first.shape != second.shape or len(first) < 2:
        raise ValueError(f"two views (batch >= 2, d), please: {_size(first)}, {_size(second)}")
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    _check(first=first, second=second)
    views = F.normalize(torch.cat([first, second]), dim=1)
    logits = (views @ views.T / temperature).fill_diagonal_(-torch.inf)
    n = len(first)
    return F.cross_entropy(logits, torch.arange(2 * n).roll(n))


class _FullSoftmax(torch.autograd.Function):
    """Loss and both gradients, computed some rows at a time: the large matrix of logits never exists."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, items: Tensor, targets: Tensor, log_q: Tensor | None) -> Tensor:
        loss = queries.new_zeros(())
        for_queries, for_items = torch.empty_like(queries), torch.zeros_like(items)
        for start in range(0, len(queries), ROWS):
            rows, wanted = queries[start : start + ROWS], targets[start : start + ROWS, None]
            logits = rows @ items.T
            if log_q is not None:
                logits -= log_q
            log_p = torch.log_softmax(logits, dim=1)
            loss -= log_p.gather(1, wanted).sum()
            error = log_p.exp_()
            error.scatter_add_(1, wanted, torch.full_like(wanted, -1, dtype=error.dtype))
            for_queries[start : start + ROWS] = error @ items
            for_items += error.T @ rows
        n = len(queries)
        ctx.save_for_backward(for_queries / n, for_items / n)
        return loss / n

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        for_queries, for_items = ctx.saved_tensors
        return grad * for_queries, grad * for_items, None, None


def full_softmax(queries: Tensor, items: Tensor, targets: Tensor, log_q: Tensor | None = None) -> Tensor:
    """Cross-entropy of the target among all items, with logits queries @ items.T (minus ``log_q``).

    The same as ``F.cross_entropy(queries @ items.T, targets)``, but some rows at a time, which is faster on a
    CPU: large temporary arrays are otherwise asked from and given back to the system at every step.

    Parameters
    ----------
    queries : tensor (n, d)
    items : tensor (n_items, d)
    targets : integer tensor (n,)
    log_q : tensor (n_items,), optional
    """
    if queries.ndim != 2 or items.ndim != 2 or queries.shape[1] != items.shape[1]:
        raise ValueError(f"shapes (n, d) and (n_items, d), please: {_size(queries)}, {_size(items)}")
    if targets.shape != queries.shape[:1]:
        raise ValueError(f"one target a query, please: {_size(targets)} for {_size(queries)}")
    _check(queries=queries, items=items)
    if targets.min() < 0 or targets.max() >= len(items):
        raise ValueError(f"targets must lie in 0..{len(items) - 1}")
    return _FullSoftmax.apply(queries, items, targets, log_q)


def mask_tokens(
    ids: Tensor,
    mask_id: int,
    vocabulary: int,
    probability: float = 0.15,
    *,
    special: Tensor | None = None,
    replace: tuple[float, float] = (0.8, 0.1),
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Corrupt tokens (or items) for a masked model: some places are to be guessed from the rest [bert].

    Parameters
    ----------
    ids : integer tensor of any shape
    mask_id : int
    vocabulary : int
        Random replacements come from 0..vocabulary-1.
    probability : float in (0, 1)
        Chance of each place to be chosen.
    special : bool tensor like ``ids``, optional
        Places never chosen (padding, [CLS], ...).
    replace : (masked, random)
        Shares of the chosen places that become ``mask_id`` and a random token; the rest stay as they are.
    generator : torch.Generator, optional

    Returns
    -------
    inputs, labels : tensors like ``ids``; labels are -100 where nothing is to be guessed.
    """
    if not 0 < probability < 1:
        raise ValueError(f"probability must lie in (0, 1), got {probability}")
    if min(replace) < 0 or sum(replace) > 1:
        raise ValueError(f"the shares in replace must be >= 0 and sum to at most 1, got {replace}")
    chosen = torch.rand(ids.shape, generator=generator) < probability
    if special is not None:
        chosen &= ~special
    how = torch.rand(ids.shape, generator=generator)
    other = torch.randint(vocabulary, ids.shape, generator=generator, dtype=ids.dtype)
    inputs = torch.where(chosen & (how < replace[0]), mask_id, ids)
    inputs = torch.where(chosen & (how >= replace[0]) & (how < sum(replace)), other, inputs)
    return inputs, torch.where(chosen, ids, IGNORED)


def _size(tensor: Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)


def _check(**tensors: Tensor) -> None:
    """Raise ValueError if a tensor is empty or holds NaN or infinite values."""
    for name, tensor in tensors.items():
        if tensor.numel() == 0:
            raise ValueError(f"{name} is empty: a loss needs at least one row")
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} holds NaN or infinite values: a smaller learning rate may help")
