"""Smaller encoders and smaller vectors: eight-bit linear layers, fewer layers, binary codes, and what each costs.

The integers are held in int8; products of integers are summed as integers where the processor is quick at it,
elsewhere in float32: what is measured here is the damage, which is the same on every machine, and not the speed,
which is not. Needs torch.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from recsys_lib.encoders import TextEncoder, bfloat16_is_fast, pool

ACTIVATIONS = ("none", "dynamic", "static")
GRAINS = ("row", "tensor")


def _multiplies_integers() -> bool:
    """Whether torch has a quick product of int8 matrices here: from 2.4 on, with AVX-512."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    some = torch.ones((32, 32), dtype=torch.int8)
    try:
        return bool((torch._int_mm(some, some) == 32).all())
    except (AttributeError, NotImplementedError, RuntimeError):
        return False


INTEGER_PRODUCTS = _multiplies_integers()


def quantise(x: Tensor, rows: bool = False) -> tuple[Tensor, Tensor]:
    """Round to 255 levels, symmetric about zero.

    Parameters
    ----------
    x : float tensor (..., d)
    rows : bool
        One step for each row of the last dimension; otherwise one for the whole tensor.

    Returns
    -------
    codes : int8 tensor like x, in -127..127
    step : float tensor, (..., 1) or (): ``codes * step`` is within half a step of x
    """
    largest = x.abs().amax(dim=-1, keepdim=True) if rows else x.abs().amax()
    step = largest.clamp_min(1e-12) / 127
    return torch.round(x / step).to(torch.int8), step


class Int8Linear(nn.Module):
    """A linear layer with weights, and on request inputs, in eight bits.

    Parameters
    ----------
    layer : nn.Linear
    activations : {"none", "dynamic", "static"}
        Inputs left in float; rounded with a step found anew at each call; or with a step fixed beforehand,
        and clipped beyond its range.
    grain : {"row", "tensor"}
        One step per row of the weights (output) and, if dynamic, per token; or one for all.
    largest : float, optional
        For "static": the largest input the fixed step covers (`largest_inputs`).

    Raises
    ------
    ValueError
        If `activations` or `grain` is unknown, or "static" lacks a positive `largest`.
    """

    codes: Tensor
    step: Tensor

    def __init__(
        self, layer: nn.Linear, activations: str = "dynamic", grain: str = "row", largest: float | None = None
    ) -> None:
        super().__init__()
        if activations not in ACTIVATIONS or grain not in GRAINS:
            raise ValueError(
                f"activations must be one of {ACTIVATIONS} and grain of {GRAINS}, not {activations!r}, {grain!r}"
            )
        if activations == "static" and not (largest and largest > 0):
            raise ValueError("static activations need the largest input, measured beforehand")
        self.activations, self.rows = activations, grain == "row"
        codes, step = quantise(layer.weight.detach(), self.rows)
        self.register_buffer("codes", codes)
        self.register_buffer("step", step)
        self.bias = layer.bias
        self.largest = largest
        self._integers: Tensor | None = None  # the codes as float32, made at the first call

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., out) for x of shape (..., in)."""
        scale: Tensor | float = 1.0
        if self.activations == "dynamic":
            x, scale = quantise(x, self.rows)
        elif self.activations == "static":
            scale = float(self.largest or 0) / 127
            x = torch.round(x / scale).clamp(-127, 127).to(torch.int8)
        step = self.step.reshape(-1)
        y = self._product(x) * (scale * step)
        return y if self.bias is None else y + self.bias

    def _product(self, x: Tensor) -> Tensor:
        """Return x, integers or not, times the integer weights, in float32."""
        if INTEGER_PRODUCTS and x.dtype == torch.int8 and x.device.type == "cpu":
            return torch._int_mm(x.flatten(0, -2), self.codes.T).float().unflatten(0, x.shape[:-1])
        if self._integers is None:
            self._integers = self.codes.float()
        return x.float() @ self._integers.T


class Int8Embedding(nn.Module):
    """A table of vectors in eight bits, one step for each row."""

    codes: Tensor
    step: Tensor

    def __init__(self, table: nn.Embedding) -> None:
        super().__init__()
        codes, step = quantise(table.weight.detach(), rows=True)
        self.register_buffer("codes", codes)
        self.register_buffer("step", step)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the vectors of ids: (..., d)."""
        return self.codes[ids].float() * self.step[ids]


def linear_layers(model: nn.Module) -> dict[str, Any]:
    """Name → linear layer (ordinary or eight-bit) of a model, in its order."""
    return {name: m for name, m in model.named_modules() if isinstance(m, (nn.Linear, Int8Linear))}


def largest_inputs(encoder: TextEncoder, texts: Iterable[str], quantile: float = 1.0) -> dict[str, float]:
    """Range of each linear layer's inputs over some texts, to fix the steps of "static".

    Parameters
    ----------
    quantile : float in (0, 1]
        1 is the largest absolute value of all; less clips rare large ones: the quantile within each batch,
        the largest of the batches.

    Returns
    -------
    dict
        Name of the layer to the range, as for the ``largest`` of `int8_encoder`.

    Raises
    ------
    ValueError
        If `quantile` is outside (0, 1].
    """
    if not 0 < quantile <= 1:
        raise ValueError(f"quantile must lie in (0, 1], not {quantile}")
    found: dict[str, float] = {}

    def watch(name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            values = inputs[0].detach().abs().flatten().float()
            rank = max(1, int(np.ceil(quantile * len(values))))
            found[name] = max(found.get(name, 0.0), float(values.kthvalue(rank).values))

        return hook

    hooks = [m.register_forward_pre_hook(watch(name)) for name, m in linear_layers(encoder.model).items()]
    try:
        encoder.encode(texts, show_progress=False, cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return found


class CompressedEncoder(TextEncoder):
    """A text encoder whose model was changed; its vectors are not kept on disk."""

    def encode(
        self,
        texts: Iterable[str],
        batch_size: int = 32,
        normalize: bool = False,
        show_progress: bool = True,
        cache: bool = False,
    ) -> NDArray[np.float32]:
        """Encode as `TextEncoder` does, but never from the cache, whatever ``cache`` says."""
        return super().encode(texts, batch_size, normalize, show_progress, cache=False)


def _changed(encoder: TextEncoder) -> CompressedEncoder:
    new = copy.copy(encoder)
    new.__class__ = CompressedEncoder
    new.model = copy.deepcopy(encoder.model)
    return new  # type: ignore[return-value]


def int8_encoder(
    encoder: TextEncoder,
    activations: str = "dynamic",
    grain: str = "row",
    largest: dict[str, float] | None = None,
    embeddings: bool = False,
) -> CompressedEncoder:
    """Return a copy with every linear layer in eight bits (`Int8Linear`); norms and biases stay as they are.

    Parameters
    ----------
    activations, grain
        As for `Int8Linear`.
    largest : dict, optional
        For "static": from `largest_inputs`.
    embeddings : bool
        The tables of embeddings too.

    Raises
    ------
    ValueError
        As for `Int8Linear`; "static" needs the range of every layer.
    """
    new = _changed(encoder)
    tables = {name: m for name, m in new.model.named_modules() if isinstance(m, nn.Embedding)}
    for name, table in tables.items() if embeddings else ():
        parent, _, child = name.rpartition(".")
        setattr(new.model.get_submodule(parent), child, Int8Embedding(table))
    for name, layer in linear_layers(new.model).items():
        parent, _, child = name.rpartition(".")
        limit = None if largest is None else largest.get(name)
        setattr(new.model.get_submodule(parent), child, Int8Linear(layer, activations, grain, limit))  # type: ignore[arg-type]
    return new


def bfloat16_encoder(encoder: TextEncoder) -> CompressedEncoder:
    """Return a copy with all weights rounded to bfloat16.

    The arithmetic is bfloat16 too where the CPU is faster in it, else float32 on the rounded weights.
    """
    new = _changed(encoder)
    new.model = new.model.to(torch.bfloat16)
    if not bfloat16_is_fast():
        new.model = new.model.float()
    return new


def first_layers(encoder: TextEncoder, layers: int) -> CompressedEncoder:
    """Return a copy that stops after its first `layers` layers (BERT-like encoders; 0 leaves the embeddings).

    ValueError if there are not so many.
    """
    stack = encoder.model.encoder.layer
    if not 0 <= layers <= len(stack):
        raise ValueError(f"layers must lie in 0..{len(stack)}, not {layers}")
    new = _changed(encoder)
    new.model.encoder.layer = new.model.encoder.layer[:layers]
    return new


def multiply_adds(model: nn.Module) -> int:
    """Multiply-adds a token of all linear layers: one for each weight."""
    layers = linear_layers(model).values()
    return sum(int((m.codes if isinstance(m, Int8Linear) else m.weight).numel()) for m in layers)


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all weights, in the types they are held in (int8 codes with their steps, float32, bfloat16)."""
    rounded = [m for m in model.modules() if isinstance(m, (Int8Linear, Int8Embedding))]
    tensors: list[Any] = [*model.parameters(), *(t for m in rounded for t in (m.codes, m.step))]
    return sum(t.numel() * t.element_size() for t in tensors)


# --- Vectors ---


def int8_codes(vectors: ArrayLike) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Eight bits a number, one step for each row: codes (n, d) and steps (n, 1); codes * steps ≈ vectors."""
    codes, steps = quantise(torch.as_tensor(np.asarray(vectors, dtype=np.float32)), rows=True)
    return codes.numpy(), steps.numpy()


def binary_codes(vectors: ArrayLike) -> NDArray[np.uint8]:
    """One bit a number: the signs of vectors (n, d), eight to a byte, (n, ceil(d / 8)). Centre them first."""
    return np.packbits(np.asarray(vectors) > 0, axis=1)


def hamming(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count the bits in which each row of a (n, bytes) differs from each of b (m, bytes): (n, m).

    ValueError if the widths differ.
    """
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"codes must have the same width, not {a.shape[1]} and {b.shape[1]} bytes")
    return np.stack([np.bitwise_count(row ^ b).sum(axis=1, dtype=np.int64) for row in a])


def neighbours_kept(vectors: ArrayLike, reference: ArrayLike, k: int = 10) -> float:
    """Share of each row's `k` nearest rows by cosine in `reference` that are among its nearest in `vectors`.

    1 if the lists agree, about k / n for unrelated vectors. Both (n, any width); the rows' own place is left out.
    ValueError if the numbers of rows differ or `k` is not in 1..n - 1.
    """
    lists = []
    for some in (vectors, reference):
        rows = np.asarray(some, dtype=np.float64)
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        alike = rows @ rows.T
        np.fill_diagonal(alike, -np.inf)
        lists.append(np.argsort(-alike, axis=1, kind="stable")[:, :k])
    if lists[0].shape != lists[1].shape or not 1 <= k < len(lists[0]):
        raise ValueError("both need the same number of rows, and k less than that")
    shared = (lists[0][:, :, None] == lists[1][:, None, :]).any(axis=2)
    return float(shared.mean())


# --- Static token vectors ---


def token_vectors(
    encoder: TextEncoder, entries: ArrayLike | None = None, batch_size: int = 128
) -> NDArray[np.float32]:
    """Encode entries of the vocabulary one by one, as [CLS] entry [SEP]: (entries, d); all of them by default.

    ValueError if the tokenizer has no [CLS] or [SEP].
    """
    tokenizer = encoder.tokenizer
    start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
    if start is None or end is None:
        raise ValueError("the tokenizer has no [CLS] and [SEP]")
    ids = torch.arange(len(tokenizer)) if entries is None else torch.as_tensor(np.asarray(entries))
    inputs = torch.stack([torch.full_like(ids, start), ids, torch.full_like(ids, end)], dim=1)
    parts = []
    with torch.inference_mode():
        for some in inputs.split(batch_size):
            hidden = encoder.model(input_ids=some, attention_mask=torch.ones_like(some)).last_hidden_state
            parts.append(pool(hidden.float(), torch.ones_like(some), encoder.pooling))
    return torch.cat(parts).numpy()


def frequency_weights(n: int, a: float = 1e-4) -> NDArray[np.float64]:
    """Weights a / (a + p) of n tokens sorted by frequency, if the r-th has p proportional to 1 / (r + 1) (Zipf).

    ValueError unless n >= 1 and a > 0.
    """
    if n < 1 or not a > 0:
        raise ValueError(f"at least one token and a positive `a`, please: {n}, {a}")
    p = 1 / np.arange(2, n + 2)
    return a / (a + p / p.sum())


def static_model(
    encoder: TextEncoder, dims: int = 256, a: float = 1e-4, texts: Iterable[str] | None = None
) -> Any:
    """Distil an encoder to one vector a token ([model2vec]); a text is the mean of its tokens' vectors.

    Every entry of the vocabulary is encoded by itself, reduced by PCA and weighted by how rare it must be (the
    vocabulary is taken to be sorted by frequency, as BERT's is). Needs the package model2vec.

    Parameters
    ----------
    dims : int
        Width after PCA, at most the encoder's.
    a : float, > 0
        See `frequency_weights`; the smaller, the less a frequent token weighs.
    texts : iterable of str, optional
        Encode only the entries that occur in these texts; the rest get zeros. By default all.

    Returns
    -------
    model2vec.StaticModel, with float16 vectors; its output has length 1
    """
    from model2vec import StaticModel
    from sklearn.decomposition import PCA

    size = len(encoder.tokenizer)
    entries = np.arange(size)
    if texts is not None:
        ids = encoder.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        entries = np.unique(np.concatenate(ids)).astype(np.int64)
    table = np.zeros((size, dims), dtype=np.float16)
    reduced = PCA(dims, svd_solver="covariance_eigh").fit_transform(token_vectors(encoder, entries))
    table[entries] = reduced * frequency_weights(size, a)[entries, None]
    return StaticModel(table, encoder.tokenizer.backend_tokenizer, normalize=True)
