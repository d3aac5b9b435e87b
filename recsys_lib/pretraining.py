"""Small language models from scratch, and contrastive tuning of an encoder. Needs torch.

Masked and causal language models of ordinary transformers classes are pre-trained on the texts of a domain;
an encoder is tuned with pairs of texts that belong together: the same text twice (SimCSE), two reviews of
one item, or two items that the same users took close in time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers.decoders import WordPiece
from torch import Tensor, nn
from tqdm import tqdm
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedTokenizerFast,
)

from recsys_lib.datasets import Interactions
from recsys_lib.encoders import TextEncoder, pool
from recsys_lib.objectives import IGNORED, full_softmax, info_nce, mask_tokens

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
OBJECTIVES = ("masked", "causal")
MASKINGS = ("dynamic", "static")
MODES = ("whole", "top", "adapter", "lora")


# --- Tokens ---


def train_tokenizer(texts: Iterable[str], vocabulary: int = 8000) -> PreTrainedTokenizerFast:
    """Learn a lower-case WordPiece vocabulary from texts; every text becomes [CLS] … [SEP] ([bert]).

    Parameters
    ----------
    texts : iterable of str
    vocabulary : int
        Most entries, the five special ones included.

    Raises
    ------
    ValueError
        If there is no text, or `vocabulary` is below 50.
    """
    rows = list(texts)
    if not rows or vocabulary < 50:
        raise ValueError(f"at least one text and 50 entries, please: {len(rows)} texts, {vocabulary} entries")
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # type: ignore[call-arg]
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)  # type: ignore[assignment]
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    tokenizer.decoder = WordPiece()  # type: ignore[assignment]
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL), show_progress=False
    )
    tokenizer.train_from_iterator(rows, trainer)
    # Entries of equal frequency come in no fixed order: number them by the alphabet, so that equal texts give equal ids
    entries = list(SPECIAL) + sorted(set(tokenizer.get_vocab()) - set(SPECIAL))
    tokenizer.model = models.WordPiece({e: i for i, e in enumerate(entries)}, unk_token="[UNK]")  # type: ignore[call-arg,assignment]
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=ends
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="[CLS]",
        eos_token="[SEP]",
        **dict(zip(names, SPECIAL, strict=True)),
    )


def token_blocks(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str], length: int = 64) -> Tensor:
    """Write all texts one after the other and cut them into blocks: nothing is padded.

    Parameters
    ----------
    length : int
        Tokens a block, at least 2; what is left at the end is dropped.

    Returns
    -------
    int64 tensor (blocks, length)

    Raises
    ------
    ValueError
        If the texts do not fill one block.
    """
    rows = tokenizer(list(texts), add_special_tokens=True, verbose=False)["input_ids"]
    ids = np.fromiter((token for row in rows for token in row), dtype=np.int64)
    if length < 2 or len(ids) < length:
        raise ValueError(f"{len(ids)} tokens do not fill a block of {length} (at least 2)")
    return torch.from_numpy(ids[: len(ids) // length * length].reshape(-1, length))


def unigram_loss(train: Tensor, held_out: Tensor, vocabulary: int) -> float:
    """Cross-entropy, in nats per token, of guessing from the frequencies of `train` (one added to each count).

    Tensors of any shape. A masked model guesses words only: compare it with tokens[tokens >= len(SPECIAL)].
    """
    counts = torch.bincount(train.flatten(), minlength=vocabulary).double() + 1
    return float(-(counts / counts.sum()).log()[held_out.flatten()].mean())


# --- Models ---


def masked_model(
    tokenizer: PreTrainedTokenizerFast,
    layers: int = 3,
    width: int = 128,
    heads: int = 4,
    max_length: int = 128,
    dropout: float = 0.0,
    seed: int = 0,
) -> ModernBertForMaskedLM:
    """Return an untrained ModernBERT: every token sees all others; layers normalised first, rotary positions.

    Parameters
    ----------
    layers, width, heads : int
        `heads` divides `width`; the feed-forward part is twice as wide.
    max_length : int
        Most tokens per text.
    dropout : float in [0, 1)
        SimCSE needs some; language-model pre-training on little text for minutes does not.
    seed : int
        Of the weights; torch's own random state is left as it was.
    """
    config = ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        layer_types=["full_attention"] * layers,
        max_position_embeddings=max_length,
        decoder_bias=False,
        embedding_dropout=dropout,
        mlp_dropout=dropout,
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        **_special_ids(tokenizer),
    )
    return _seeded(lambda: ModernBertForMaskedLM(config), seed)


def causal_model(
    tokenizer: PreTrainedTokenizerFast,
    layers: int = 2,
    width: int = 128,
    heads: int = 4,
    max_length: int = 128,
    dropout: float = 0.0,
    seed: int = 0,
) -> GPT2LMHeadModel:
    """Return an untrained GPT-2, where every token sees only those before it [gpt2]; arguments as above."""
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        n_positions=max_length,
        embd_pdrop=dropout,
        resid_pdrop=dropout,
        attn_pdrop=dropout,
        **_special_ids(tokenizer),
    )
    return _seeded(lambda: GPT2LMHeadModel(config), seed)


def parameters(model: nn.Module) -> int:
    """Count the parameters that would be trained."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


# --- Language-model pre-training ---


def next_token_labels(ids: Tensor) -> Tensor:
    """Labels (n, length) of a causal model: the token that follows; -100 at the end of each block."""
    return torch.cat([ids[:, 1:], torch.full_like(ids[:, :1], IGNORED)], dim=1)


def language_model_outputs(model: Any, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return (vectors, targets) of the places that have a label: (n, width) before the output layer, and (n,).

    Logits are vectors @ model.get_output_embeddings().weight.T; only these places need them.
    """
    chosen = labels != IGNORED
    vectors = model.base_model(input_ids=inputs).last_hidden_state[chosen]
    if hasattr(model, "head"):  # the layer that ModernBERT has before its output
        vectors = model.head(vectors)
    return vectors, labels[chosen]


def pretrain(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    train: Tensor,
    held_out: Tensor,
    objective: str = "masked",
    *,
    masking: str = "dynamic",
    probability: float = 0.15,
    steps: int = 1000,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    warmup: float = 0.1,
    evaluate_every: int = 100,
    seed: int = 0,
    show_progress: bool = True,
) -> pd.DataFrame:
    """Train a language model in place on blocks of tokens.

    Parameters
    ----------
    model : transformers model with an output layer without bias (of `masked_model` or `causal_model`)
    train, held_out : int64 tensors (blocks, length)
        Of `token_blocks`.
    objective : {"masked", "causal"}
        Guess hidden tokens from both sides [bert] or each token from those before it [gpt1].
    masking : {"dynamic", "static"}
        Places drawn anew each time a block is seen ([roberta]), or once before training (as in [bert], which
        kept ten copies; here it is one).
    probability : float in (0, 1)
        Share of tokens to guess (masked only); 80% of them are shown as [MASK], 10% as another token.
    steps, batch_size : int
        Blocks are shuffled in each epoch.
    learning_rate : float
        Highest rate of AdamW: it rises over the share `warmup` of the steps, then falls linearly to zero.
    evaluate_every : int
        Steps between the rows of the curve; the held-out corruption is the same each time.

    Returns
    -------
    DataFrame with columns ``step``, ``tokens`` (seen so far), ``train_loss`` (mean since the last row; NaN at
    step 0), ``loss`` and ``accuracy`` (held-out, per guessed token; loss in nats)

    Raises
    ------
    ValueError
        If a name is unknown, a number out of range, or blocks are missing; or if the loss is not finite.
    """
    if objective not in OBJECTIVES or masking not in MASKINGS:
        raise ValueError(
            f"objective one of {OBJECTIVES} and masking one of {MASKINGS}, not {objective!r}, {masking!r}"
        )
    if min(steps, batch_size, evaluate_every, len(train), len(held_out)) < 1:
        raise ValueError("steps, batch_size, evaluate_every and the numbers of blocks must be at least 1")

    generator = torch.Generator().manual_seed(seed)

    def corrupt(ids: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
        if objective == "causal":
            return ids, next_token_labels(ids)
        never = ids < len(SPECIAL)
        return mask_tokens(
            ids, _mask_id(tokenizer), len(tokenizer), probability, special=never, generator=random
        )

    fixed = corrupt(train, torch.Generator().manual_seed(seed + 1)) if masking == "static" else None
    test = corrupt(held_out, torch.Generator().manual_seed(0))
    batches = _batches(len(train), batch_size, generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _triangle(steps, warmup))
    curve, losses = [_evaluated(model, *test, step=0, tokens=0)], []
    with torch.random.fork_rng(devices=[]), _bar(steps, show_progress) as bar:
        torch.manual_seed(seed)  # for dropout
        for step in range(1, steps + 1):
            rows = next(batches)
            inputs, labels = (
                corrupt(train[rows], generator) if fixed is None else (fixed[0][rows], fixed[1][rows])
            )
            model.train()
            vectors, targets = language_model_outputs(model, inputs, labels)
            loss = full_softmax(vectors, model.get_output_embeddings().weight, targets)
            _update(model, loss, optimizer)
            schedule.step()
            losses.append(loss.item())
            bar.update()
            if step % evaluate_every == 0 or step == steps:
                row = _evaluated(model, *test, step=step, tokens=step * batch_size * train.shape[1])
                curve.append(row | {"train_loss": float(np.mean(losses))})
                bar.set_postfix(held_out=f"{row['loss']:.2f}")
                losses = []
    model.eval()
    return pd.DataFrame(curve, columns=["step", "tokens", "train_loss", "loss", "accuracy"])


@torch.no_grad()
def _evaluated(model: Any, inputs: Tensor, labels: Tensor, step: int, tokens: int) -> dict[str, float]:
    """One row of the curve: loss (nats) and accuracy over all labelled places."""
    model.eval()
    loss, right, places = 0.0, 0, 0
    weight = model.get_output_embeddings().weight
    for some, wanted in zip(inputs.split(64), labels.split(64), strict=True):
        vectors, targets = language_model_outputs(model, some, wanted)
        for part, target in zip(vectors.split(256), targets.split(256), strict=True):
            logits = part @ weight.T
            loss += float(nn.functional.cross_entropy(logits, target, reduction="sum"))
            right += int((logits.argmax(1) == target).sum())
            places += len(target)
    if not places:
        raise ValueError("no held-out token to guess: more blocks or a larger probability, please")
    return {"step": step, "tokens": tokens, "loss": loss / places, "accuracy": right / places}


@torch.no_grad()
def fill_mask(model: Any, tokenizer: PreTrainedTokenizerFast, text: str, k: int = 5) -> pd.Series:
    """Return the `k` likeliest tokens for the first [MASK] of a text, with their probabilities.

    Raises
    ------
    ValueError
        If the text holds no [MASK].
    """
    inputs = tokenizer(text, return_tensors="pt")["input_ids"]
    places = (inputs[0] == tokenizer.mask_token_id).nonzero()
    if not len(places):
        raise ValueError(f"no [MASK] in {text!r}")
    model.eval()
    chances = model(input_ids=inputs).logits[0, places[0, 0]].softmax(0)
    top = chances.topk(k)
    tokens = [str(tokenizer.convert_ids_to_tokens(index)) for index in top.indices.tolist()]
    return pd.Series(top.values.numpy(), index=tokens, name="probability")


def generate(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    prompt: str = "",
    n: int = 1,
    max_tokens: int = 40,
    temperature: float = 0.8,
    top_k: int = 40,
    seed: int = 0,
) -> list[str]:
    """Continue a prompt `n` times with a causal model: draw among the `top_k` likeliest tokens until [SEP]."""
    start = tokenizer("[CLS] " + prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
    banned = [[id_] for id_ in (tokenizer.unk_token_id, tokenizer.mask_token_id, tokenizer.cls_token_id)]
    model.eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        rows = model.generate(
            start,
            attention_mask=torch.ones_like(start),
            do_sample=True,
            num_return_sequences=n,
            max_new_tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            bad_words_ids=banned,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.sep_token_id,
        )
    return [str(tokenizer.decode(row, skip_special_tokens=True)) for row in rows]


def save_language_model(model: Any, tokenizer: PreTrainedTokenizerFast, folder: str | Path) -> None:
    """Write an ordinary transformers folder (safetensors): AutoModel… and TextEncoder read it back."""
    tokenizer.model_max_length = model.config.max_position_embeddings
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)


# --- Pairs ---


def interaction_pairs(
    interactions: Interactions, window: int = 3, n: int | None = None, seed: int = 0
) -> np.ndarray:
    """Pairs of different items that one user took at most `window` places apart.

    Parameters
    ----------
    window : int, >= 1
        1 pairs neighbours in time only.
    n : int, optional
        Draw this many without replacement (all if there are fewer).
    seed : int
        Of the draw and of the order of the rows, and of who comes first in a pair.

    Returns
    -------
    int64 array (pairs, 2) of item codes, shuffled; a pair that several users took stands there several times.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1, not {window}")
    found = [np.empty((0, 2), dtype=np.int64)]
    for history in interactions.histories():
        for step in range(1, window + 1):
            found.append(np.column_stack([history[:-step], history[step:]]))
    pairs = np.concatenate(found)
    random = np.random.default_rng(seed)
    pairs = random.permutation(pairs)[:n]
    return random.permuted(pairs, axis=1)


def group_pairs(groups: Sequence[Any] | np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    """Pairs of different rows of one group (two reviews of one item); each group is equally likely.

    Parameters
    ----------
    groups : sequence (rows,)
        Group of each row, of any hashable kind; groups of one row are left out.

    Returns
    -------
    int64 array (n, 2) of row numbers

    Raises
    ------
    ValueError
        If no group has two rows.
    """
    by_group = pd.Series(range(len(groups))).groupby(np.asarray(groups)).indices
    members = [rows for rows in by_group.values() if len(rows) > 1]
    if not members:
        raise ValueError("no group has two rows: there is nothing to pair")
    random = np.random.default_rng(seed)
    chosen = random.integers(len(members), size=n)
    return np.array([random.choice(members[group], 2, replace=False) for group in chosen], dtype=np.int64)


def pair_log_q(pairs: np.ndarray, n: int) -> np.ndarray:
    """Log of each row's share among both ends of the pairs, (n,); rows in no pair count as one half [twotower]."""
    counts = np.bincount(np.asarray(pairs).ravel(), minlength=n)
    return np.log(np.maximum(counts, 0.5) / counts.sum())


# --- Contrastive tuning ---


class AdaptedEncoder(TextEncoder):
    """A frozen encoder with a small trained head on its vectors."""

    def __init__(self, encoder: TextEncoder, head: nn.Sequential) -> None:
        self.__dict__.update(encoder.__dict__)
        self.head = head.eval()

    @property
    def dimension(self) -> int:
        """Length d of the frozen vectors; `encode` returns the head's width."""
        return int(self.model.config.hidden_size)

    def adapt(self, vectors: np.ndarray) -> np.ndarray:
        """Apply the head to frozen vectors (n, d)."""
        with torch.no_grad():
            return self.head(torch.as_tensor(vectors, dtype=torch.float32)).numpy()

    def encode(
        self,
        texts: Iterable[str],
        batch_size: int = 32,
        normalize: bool = False,
        show_progress: bool = True,
        cache: bool = True,
    ) -> np.ndarray:
        """Encode as `TextEncoder` does (the frozen vectors are what is cached), then apply the head."""
        vectors = self.adapt(super().encode(texts, batch_size, False, show_progress, cache))
        if normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors


def contrastive_tune(
    encoder: TextEncoder,
    texts: Sequence[str],
    pairs: np.ndarray | None = None,
    mode: str = "whole",
    *,
    groups: np.ndarray | None = None,
    log_q: np.ndarray | None = None,
    temperature: float = 0.05,
    steps: int = 200,
    batch_size: int = 32,
    learning_rate: float | None = None,
    layers: int = 2,
    rank: int = 8,
    head: tuple[int, int] = (512, 128),
    head_dropout: float = 0.0,
    seed: int = 0,
    show_progress: bool = True,
) -> TextEncoder:
    """Tune an encoder so that the two texts of a pair come close and others do not; the given one is not changed.

    The loss is InfoNCE with the other pairs of the batch as negatives, in both directions ([infonce],
    [twotower] for the correction).

    Parameters
    ----------
    encoder : TextEncoder
    texts : sequence of str (n,)
    pairs : int array (p, 2), optional
        Row numbers of texts that belong together. Without them each text is paired with itself: dropout makes
        the two vectors differ (SimCSE, [simcse]), so the model must have some.
    mode : {"whole", "top", "adapter", "lora"}
        Train all weights, the last `layers` layers, a small head on frozen vectors (quick: the texts are encoded
        once), or additions of rank `rank` to the attention weights [lora], merged into them at the end.
    groups : int array (n,), optional
        Texts of one group are never each other's negatives; by default each text is a group.
    log_q : float array (n,), optional
        Log probability that a text enters a batch (`pair_log_q`).
    temperature : float, > 0
    learning_rate : float, optional
        By default 5e-5 ("whole", "top"), 1e-3 ("lora"), 2e-3 ("adapter"); a model from scratch wants more.
    head, head_dropout
        Hidden and output width of the adapter (hidden 0: one linear layer), and dropout on its input.

    Raises
    ------
    ValueError
        If the mode is unknown, pairs point outside the texts, or SimCSE meets a model without dropout.
    """
    if mode not in MODES:
        raise ValueError(f"mode must be one of {MODES}, not {mode!r}")
    simcse = pairs is None
    pairs = np.repeat(np.arange(len(texts))[:, None], 2, axis=1) if pairs is None else np.asarray(pairs)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs):
        raise ValueError(f"pairs must be (p, 2) with p >= 1, not {pairs.shape}")
    if pairs.min() < 0 or pairs.max() >= len(texts):
        raise ValueError(f"pairs must hold row numbers in 0..{len(texts) - 1}")
    group_ids = torch.as_tensor(np.arange(len(texts)) if groups is None else np.asarray(groups))
    correction = None if log_q is None else torch.as_tensor(log_q, dtype=torch.float32)

    with torch.random.fork_rng(devices=[]), _bar(steps, show_progress) as bar:
        torch.manual_seed(seed)
        tuned, trained, embed = _tunable(encoder, list(texts), mode, layers, rank, head, head_dropout)
        if simcse and not any(isinstance(m, nn.Dropout) and m.p > 0 for m in trained.modules()):
            raise ValueError(
                "SimCSE needs dropout, and this model has none: give pairs or a model with dropout"
            )
        rate = learning_rate or {"adapter": 2e-3, "lora": 1e-3}.get(mode, 5e-5)
        optimizer = torch.optim.AdamW([p for p in trained.parameters() if p.requires_grad], lr=rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _triangle(steps, 0.1))
        batches = _batches(len(pairs), batch_size, torch.Generator().manual_seed(seed))
        trained.train()
        for _ in range(steps):
            left, right = pairs[next(batches)].T
            first, second = embed(left), embed(right)
            losses = [
                info_nce(
                    a,
                    b,
                    temperature,
                    key_ids=group_ids[keys],
                    log_q=None if correction is None else correction[keys],
                )
                for a, b, keys in ((first, second, right), (second, first, left))
            ]
            _update(trained, torch.stack(losses).mean(), optimizer)
            schedule.step()
            bar.update()
        trained.eval()
    if mode == "lora":
        tuned.model = trained.merge_and_unload().eval()  # type: ignore[operator]
    for p in tuned.model.parameters():
        p.requires_grad_(True)
    return tuned


def _tunable(
    encoder: TextEncoder,
    texts: list[str],
    mode: str,
    layers: int,
    rank: int,
    head: tuple[int, int],
    dropout: float,
) -> tuple[TextEncoder, nn.Module, Callable[[np.ndarray], Tensor]]:
    """Return the new encoder, the module with the weights to train, and a function from rows to vectors."""
    if mode == "adapter":
        frozen = torch.from_numpy(encoder.encode(texts, show_progress=False))
        width, (hidden, out) = frozen.shape[1], head
        body = (
            [nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, out)]
            if hidden
            else [nn.Linear(width, out)]
        )
        module = nn.Sequential(nn.Dropout(dropout), *body)
        return AdaptedEncoder(encoder, module), module, lambda rows: module(frozen[rows])
    tuned = copy.copy(encoder)
    tuned.model = model = copy.deepcopy(encoder.model).float()
    tuned.dtype = "float32"
    trained: nn.Module = model
    if mode == "top":
        for p in model.parameters():
            p.requires_grad_(False)
        for p in _layers(model)[-layers:].parameters():
            p.requires_grad_(True)
    elif mode == "lora":
        from peft import LoraConfig, get_peft_model

        targets = {"modernbert": ["Wqkv"]}.get(model.config.model_type)  # others: what peft suggests
        trained = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets))
    ids = tuned._token_ids(texts)
    return tuned, trained, lambda rows: _embed(trained, tuned, [ids[row] for row in rows])


def _embed(model: nn.Module, encoder: TextEncoder, ids: list[list[int]]) -> Tensor:
    """Pooled vectors of one batch of token ids, with gradients."""
    width = max(map(len, ids))
    pad = encoder.tokenizer.pad_token_id or 0
    inputs = torch.tensor([row + [pad] * (width - len(row)) for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids])
    return pool(model(input_ids=inputs, attention_mask=mask).last_hidden_state, mask, encoder.pooling)


def _layers(model: nn.Module) -> nn.ModuleList:
    """Return the stack of layers of a transformer: its longest list of modules."""
    stacks = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    if not stacks:
        raise ValueError(f"no stack of layers found in {type(model).__name__}: use mode='whole'")
    return max(stacks, key=len)


# --- Shared parts of the loops ---


def _batches(n: int, size: int, generator: torch.Generator) -> Any:
    """Yield row numbers for ever: every row once an epoch, in a new order each time; batches are always full."""
    rows = torch.empty(0, dtype=torch.int64)
    while True:
        while len(rows) < size:
            rows = torch.cat([rows, torch.randperm(n, generator=generator)])
        yield rows[:size]
        rows = rows[size:]


def _triangle(steps: int, warmup: float) -> Callable[[int], float]:
    """Factor of the learning rate: up over the share `warmup` of the steps, then down to zero."""
    rise = max(1, round(steps * warmup))
    return lambda step: min((step + 1) / rise, max(0.0, (steps - step) / max(1, steps - rise)))


def _update(model: nn.Module, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    if not torch.isfinite(loss):
        raise ValueError("the loss is not finite: a smaller learning rate may help")
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def _bar(steps: int, show: bool) -> tqdm:
    quiet: dict[str, Any] = {} if show else {"disable": True}
    return tqdm(total=steps, unit="step", **quiet)


def _seeded(build: Callable[[], Any], seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().eval()


def _special_ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def _mask_id(tokenizer: PreTrainedTokenizerFast) -> int:
    if tokenizer.mask_token_id is None:
        raise ValueError("the tokenizer has no mask token: use objective='causal'")
    return int(tokenizer.mask_token_id)
