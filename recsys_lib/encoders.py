"""Turn texts into vectors with a pre-trained language model.

``TextEncoder`` is a thin layer over ``transformers``: it batches texts of similar length together, pools
the last hidden states into one vector per text, says what it truncated, and remembers vectors on disk.
It needs torch.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

from recsys_lib import resources

PACKAGED = ("all-MiniLM-L6-v2", "multilingual-e5-small")
DEFAULT_PREFIX = {"multilingual-e5-small": "query: "}
POOLINGS = ("mean", "cls", "last")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CACHE_FROM = 16  # fewer texts are encoded sooner than the weights are hashed


class EncoderError(RuntimeError):
    """A language model could not be loaded; the message says what to do."""


class Truncated(NamedTuple):
    """How many texts of a call were cut, and the length in tokens of its longest text before the cut."""

    texts: int
    longest: int


class TextEncoder:
    """A pre-trained language model that maps texts to vectors.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Encoder or decoder whose output has ``last_hidden_state`` of shape (texts, tokens, d).
    tokenizer : transformers.PreTrainedTokenizerBase
    pooling : {"mean", "cls", "last"}
        Mean over the tokens ([sbert]), first token ([bert]), or last token (for causal models).
    dtype : {"float32", "bfloat16"}
        Type of the weights. On a CPU that is no faster in bfloat16, float32 is used and a warning given.
    prefix : str
        Put before every text.
    max_length : int
        Most tokens per text, special tokens included; never more than the model has positions for.

    Attributes
    ----------
    last_truncated : Truncated
        Of the latest call of ``encode``: how many ``texts`` were cut, and the ``longest`` length in tokens.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        pooling: str = "mean",
        dtype: str = "float32",
        prefix: str = "",
        max_length: int = 256,
    ) -> None:
        if pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {POOLINGS}, not {pooling!r}")
        if max_length < 3:
            raise ValueError(f"max_length must be at least 3, not {max_length}")
        self.dtype = _usable_dtype(dtype)
        if getattr(model, "pooler", None) is not None:
            model.pooler = None  # trained for BERT's next-sentence task, unused here
        self.model = model.to(DTYPES[self.dtype]).eval()
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.prefix = prefix
        self.max_length = min(max_length, _positions(model, tokenizer))
        self.last_truncated = Truncated(0, 0)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        pooling: str = "mean",
        dtype: str = "float32",
        prefix: str | None = None,
        max_length: int = 256,
    ) -> TextEncoder:
        """Load a packaged model, a local folder, or a model of the Hugging Face hub.

        Parameters
        ----------
        name_or_path : str or Path
            ``"all-MiniLM-L6-v2"`` or ``"multilingual-e5-small"`` (packaged: fetched once with pip), a folder
            in the format of ``save_pretrained``, or a hub id such as ``"bert-base-uncased"``.
        prefix : str, optional
            By default ``""``, but ``"query: "`` for multilingual-e5-small, which was trained with it.
        pooling, dtype, max_length
            As for the class.

        Raises
        ------
        EncoderError
            If there is no such model, or it is on the hub and the hub cannot be reached.
        recsys_lib.resources.ResourceError
            If a packaged model cannot be fetched.
        """
        name = str(name_or_path)
        folder = str(resources.fetch(name)) if name in PACKAGED else name
        if prefix is None:
            prefix = DEFAULT_PREFIX.get(Path(name).name, "")
        try:
            with _quiet_transformers():
                tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
                model = AutoModel.from_pretrained(folder, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise EncoderError(_cannot_load(name)) from error
        return cls(model, tokenizer, pooling=pooling, dtype=dtype, prefix=prefix, max_length=max_length)

    @classmethod
    def random_bert(
        cls,
        seed: int,
        size: str = "base",
        like: str | Path = "all-MiniLM-L6-v2",
        pooling: str = "cls",
        max_length: int = 256,
    ) -> TextEncoder:
        """Return a BERT that learned nothing: the tokenizer of `like`, weights drawn at random ([bert]).

        Parameters
        ----------
        seed : int
            Seed of the weights; torch's own random state is left as it was.
        size : {"base", "mini"}
            ``"base"`` has the shape of bert-base (12 layers, d = 768), ``"mini"`` of MiniLM (6, d = 384).
        like : str or Path
            Packaged name, folder or hub id whose tokenizer is used.
        pooling, max_length
            As for the class.
        """
        shapes = {"base": (768, 12, 12, 3072), "mini": (384, 6, 12, 1536)}
        if size not in shapes:
            raise ValueError(f"size must be one of {tuple(shapes)}, not {size!r}")
        name = str(like)
        folder = str(resources.fetch(name)) if name in PACKAGED else name
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        hidden, layers, heads, inner = shapes[size]
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=inner,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = BertModel(config, add_pooling_layer=False)
        return cls(model, tokenizer, pooling=pooling, max_length=max_length)

    @property
    def dimension(self) -> int:
        """Length d of the vectors."""
        return int(self.model.config.hidden_size)

    def tokens(self, text: str, special: bool = False) -> list[str]:
        """Return the tokens of `text` without the prefix; ``special=True`` adds [CLS], [SEP] and the like."""
        ids = self.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
        return self.tokenizer.convert_ids_to_tokens(ids)

    def encode(
        self,
        texts: Iterable[str],
        batch_size: int = 32,
        normalize: bool = False,
        show_progress: bool = True,
        cache: bool = True,
    ) -> np.ndarray:
        """Encode texts, in the order given.

        Parameters
        ----------
        texts : iterable of str
            None may be missing or blank.
        batch_size : int
            Texts per batch; batches hold texts of similar length, so little is padded.
        normalize : bool
            Scale the vectors to length 1.
        show_progress : bool
            Draw a progress bar on standard error (the environment variable TQDM_DISABLE=1 switches all off).
        cache : bool
            From 16 texts up: keep the vectors on disk, under the hash of the weights and of the tokens.

        Returns
        -------
        ndarray of float32, shape (texts, d)

        Raises
        ------
        ValueError
            If texts are missing, blank or not strings (says which rows), or `batch_size` is below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        ids = self._token_ids(_checked(texts))
        file = self._cache_file(ids) if cache and len(ids) >= CACHE_FROM else None
        vectors = _read(file, (len(ids), self.dimension)) if file else None
        if vectors is None:
            vectors = self._forward(ids, batch_size, show_progress)
            if file:
                _write(file, vectors)
        if normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors

    def _token_ids(self, texts: list[str]) -> list[list[int]]:
        """Tokenize, cut to `max_length` keeping the special tokens, and report what was cut."""
        if not texts:
            self.last_truncated = Truncated(0, 0)
            return []
        texts = [self.prefix + text for text in texts]
        ids = self.tokenizer(texts, truncation=False, verbose=False)["input_ids"]
        long = [row for row, tokens in enumerate(ids) if len(tokens) > self.max_length]
        self.last_truncated = Truncated(len(long), max(map(len, ids)))
        if long:
            some = [texts[row] for row in long]
            cut = self.tokenizer(some, truncation=True, max_length=self.max_length)["input_ids"]
            for row, tokens in zip(long, cut, strict=True):
                ids[row] = tokens
            warnings.warn(
                f"{len(long)} of {len(texts)} texts were cut to {self.max_length} tokens; the "
                f"longest has {self.last_truncated.longest}.",
                stacklevel=3,
            )
        return ids

    def _forward(self, ids: list[list[int]], batch_size: int, show_progress: bool) -> np.ndarray:
        """Run the model over batches of similar length, longest first."""
        vectors = np.empty((len(ids), self.dimension), dtype=np.float32)
        order = np.argsort([-len(tokens) for tokens in ids], kind="stable")
        quiet: dict[str, Any] = {} if show_progress else {"disable": True}
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.inference_mode(), tqdm(total=len(ids), unit="text", file=sys.stderr, **quiet) as bar:
                for start in range(0, len(ids), batch_size):
                    rows = order[start : start + batch_size]
                    vectors[rows] = self._pooled([ids[row] for row in rows])
                    bar.update(len(rows))
        finally:
            self.model.train(was_training)
        return vectors

    def _pooled(self, ids: list[list[int]]) -> np.ndarray:
        """Vectors of one batch. Padding is on the right; segment ids are left to the model (all zero)."""
        device = next(self.model.parameters()).device
        lengths = torch.tensor([len(tokens) for tokens in ids], device=device)
        pad = self.tokenizer.pad_token_id or 0
        width = max(map(len, ids))
        inputs = torch.tensor([tokens + [pad] * (width - len(tokens)) for tokens in ids], device=device)
        mask = (torch.arange(width, device=device) < lengths[:, None]).long()
        hidden = self.model(input_ids=inputs, attention_mask=mask).last_hidden_state.float()
        return pool(hidden, mask, self.pooling).cpu().numpy()

    def _cache_file(self, ids: list[list[int]]) -> Path:
        """Cache file named by the hash of the model's exact state and input."""
        about = f"1 {self.pooling} {self.dtype} {self.model.config.to_json_string()}"
        digest = hashlib.sha256(about.encode())
        for name, tensor in self.model.state_dict().items():
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        digest.update(repr(ids).encode())
        return resources.cache_folder() / "vectors" / f"{digest.hexdigest()[:40]}.npz"

    def __repr__(self) -> str:
        return (
            f"TextEncoder({type(self.model).__name__}, d={self.dimension}, pooling={self.pooling!r}, "
            f"dtype={self.dtype!r}, prefix={self.prefix!r}, max_length={self.max_length})"
        )


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Reduce hidden states (n, tokens, d) to (n, d); `mask` (n, tokens): 1 on tokens, 0 on right padding."""
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(1) - 1]
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


@lru_cache(maxsize=1)
def bfloat16_is_fast() -> bool:
    """Tell, from a matrix product timed once (some ms), whether this CPU is faster in bfloat16 than in float32.

    The names of its instruction sets do not tell: AMX is, AVX512-BF16 alone may not be.
    """
    best = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = torch.ones(128, 384, dtype=dtype), torch.ones(1536, 384, dtype=dtype)
        seconds = []
        for _ in range(8):
            start = time.perf_counter()
            torch.nn.functional.linear(left, right)
            seconds.append(time.perf_counter() - start)
        best[dtype] = min(seconds)
    return best[torch.bfloat16] < best[torch.float32]


def _usable_dtype(dtype: str) -> str:
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {tuple(DTYPES)}, not {dtype!r}")
    if dtype == "bfloat16" and not bfloat16_is_fast():
        warnings.warn("On this CPU bfloat16 is no faster than float32, which is used instead.", stacklevel=4)
        return "float32"
    return dtype


def _positions(model: Any, tokenizer: Any) -> int:
    """Longest input, in tokens, that the model and its tokenizer accept."""
    positions = getattr(model.config, "max_position_embeddings", None) or sys.maxsize
    if getattr(model.config, "model_type", "") in ("roberta", "xlm-roberta", "camembert", "mpnet"):
        positions -= 2  # these count positions from the padding id + 1
    return min(positions, tokenizer.model_max_length)


def _checked(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, str):
        raise ValueError("texts must be a list of strings, not one string: write encode([text])")
    rows = list(texts)
    wrong = [row for row, text in enumerate(rows) if not isinstance(text, str) or not text.strip()]
    if wrong:
        some = ", ".join(f"{row} ({rows[row]!r})" for row in wrong[:5])
        raise ValueError(
            f"{len(wrong)} of {len(rows)} texts are missing, blank or not strings: rows {some}"
            f"{' ...' if len(wrong) > 5 else ''}. Fill them in or leave these rows out."
        )
    return [str(text) for text in rows]


def _cannot_load(name: str) -> str:
    return (
        f"No language model could be loaded from {name!r}. A folder must hold config.json, the weights and "
        "the tokenizer. For a model of the Hugging Face hub, check the spelling and the network "
        f"(HF_HUB_OFFLINE must not be set). Packaged models need no hub: {', '.join(PACKAGED)}."
    )


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence the loading report (unused pooler weights and the like) and put the setting back."""
    level = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)
        if bars:
            transformers.logging.enable_progress_bar()


def _read(file: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """Cached vectors, or None if there are none or the file is damaged (zip archives carry checksums)."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            vectors = archive["vectors"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return vectors if vectors.shape == shape and vectors.dtype == np.float32 else None


def _write(file: Path, vectors: np.ndarray) -> None:
    """Write atomically; a cache that cannot be written is no reason to fail."""
    temporary = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=file.parent, suffix=".part")
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, vectors=vectors)
        os.replace(temporary, file)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        warnings.warn(f"The vectors were not cached: {error}", stacklevel=3)
