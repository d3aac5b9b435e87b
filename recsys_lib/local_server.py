"""A language model behind an OpenAI-compatible server on this machine (vLLM, llama.cpp, Ollama …).

It has the methods of `recsys_lib.generation.TextGenerator`, so `open_model` chooses between the two by a name. Requests
go through the package ``openai``, but to the address given only: no key, no proxy, no redirect, no retry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np

LOCAL = ("localhost", "127.0.0.1", "::1")
NO_ECHO = (
    "the server does not tell the log-probabilities of a given text (echo with logprobs): use vLLM or load the model "
    "with TextGenerator.from_pretrained, or ask for a choice (llm_ranking.slot_probabilities does so by itself)"
)
VERSION = "(does base_url end in /v1?)"


class ServerError(RuntimeError):
    """The server cannot be reached, refuses the request, or answers something else than expected."""


class LikelihoodNotSupported(ServerError):
    """The server does not say how likely a given text is; ask it for a choice instead."""


def _bare(request: Any) -> None:
    """Send nothing of the environment: ``openai`` makes headers of its variables (organisation, keys, others)."""
    for name in set(request.headers) - {"host", "content-type", "content-length"}:
        del request.headers[name]


class LocalServer:
    """A model of a server that speaks the OpenAI completions protocol.

    Parameters
    ----------
    base_url : str
        With the version, as in ``"http://localhost:8000/v1"`` (vLLM; llama.cpp: port 8080, Ollama: 11434).
    model : str, optional
        As the server names it; None takes the first of its list.
    timeout : float
        Seconds to wait for a reply.
    allow_remote : bool
        Histories are personal data: another machine's address is refused unless this is true.

    Raises
    ------
    ValueError
        If the address is not http(s), is not local, or the time is not positive.
    ImportError
        If the package ``openai`` is not there.
    ServerError
        If `model` is None and the server does not list any.
    """

    def __init__(
        self,
        base_url: str = "http://localhost:8000/v1",
        model: str | None = None,
        *,
        timeout: float = 60.0,
        allow_remote: bool = False,
    ) -> None:
        address = urlsplit(base_url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise ValueError(f"base_url must look like http://localhost:8000/v1, not {base_url!r}")
        if address.hostname not in LOCAL and not allow_remote:
            raise ValueError(
                f"{address.hostname} is not this machine, and the prompts hold people's histories: "
                "pass allow_remote=True if they may go there"
            )
        if timeout <= 0:
            raise ValueError("timeout must be positive")
        try:
            import openai
        except ImportError as error:
            raise ImportError("asking a server needs the package openai: pip install openai") from error
        http = openai.DefaultHttpxClient(
            timeout=timeout, trust_env=False, follow_redirects=False, event_hooks={"request": [_bare]}
        )
        self._client = openai.OpenAI(base_url=base_url, api_key="none", max_retries=0, http_client=http)
        self.base_url, self.model = base_url, model
        if model is None:
            listed = getattr(self._ask(self._client.models.list), "data", None)
            if not listed:
                raise ServerError(f"{base_url} lists no model: load one there, or pass model=… {VERSION}")
            self.model = listed[0].id

    def generate(
        self,
        prompts: Sequence[str],
        max_new_tokens: int = 30,
        *,
        stop: str = "\n",
        seed: int | None = None,
        temperature: float = 1.0,
    ) -> list[str]:
        """Continue each prompt; see `TextGenerator.generate`. Equal seeds give equal texts if the server keeps its word."""
        if isinstance(prompts, str):
            raise ValueError("prompts must be a list of texts")
        wish = {
            "max_tokens": max_new_tokens,
            "temperature": 0.0 if seed is None else temperature,
            "seed": seed,
            "stop": stop or None,
        }
        return [self._completions(prompt, **wish)[0].text for prompt in prompts]  # Ollama takes one at a time

    def log_likelihood(
        self, prompt: str, continuations: Sequence[str], *, batch_size: int = 16
    ) -> np.ndarray:
        """Log-probability of each continuation, from ``echo`` and ``logprobs``; see `TextGenerator.log_likelihood`.

        Prompt and continuation are tokenised together here; a token that straddles the two is counted.

        Raises
        ------
        LikelihoodNotSupported
            If the server refuses to echo, or its reply lacks the prompt's log-probabilities.
        """
        if not prompt or not all(continuations):
            raise ValueError("the prompt and each continuation need at least one token")
        result: list[float] = []
        for first in range(0, len(continuations), batch_size):
            some = continuations[first : first + batch_size]
            try:
                replies = self._completions(
                    [prompt + text for text in some], echo=True, logprobs=1, max_tokens=1, temperature=0.0
                )
            except ServerError as error:
                if getattr(error.__cause__, "status_code", None) in (400, 422, 501):
                    raise LikelihoodNotSupported(NO_ECHO) from error
                raise
            result += [self._sum(reply, text) for reply, text in zip(replies, some, strict=True)]
        return np.array(result)

    def _sum(self, reply: Any, continuation: str) -> float:
        """Sum over the continuation's tokens, counted from the end (a start token may stand before the prompt)."""
        found = reply.logprobs
        tokens, each = (found.tokens or [], found.token_logprobs or []) if found else ([], [])
        for cut in (1, 0):  # with the one token generated after the echo, or without any
            kept = tokens[: len(tokens) - cut]
            text, total = "", 0.0
            for token, value in zip(reversed(kept), reversed(each[: len(kept)]), strict=True):
                if value is None:
                    break
                text, total = token + text, total + float(value)
                if len(text) >= len(continuation):
                    break
            if text.endswith(continuation):
                return total
        raise LikelihoodNotSupported(NO_ECHO)

    def _completions(self, prompt: str | list[str], **wish: Any) -> list[Any]:
        reply = self._ask(self._client.completions.create, model=self.model, prompt=prompt, **wish)
        choices = getattr(reply, "choices", None) or []
        if len(choices) != (1 if isinstance(prompt, str) else len(prompt)):
            raise ServerError(f"{self.base_url} did not answer with a completion for each prompt {VERSION}")
        return sorted(choices, key=lambda choice: choice.index)

    def _ask(self, call: Callable[..., Any], **wish: Any) -> Any:
        import openai

        try:
            return call(**wish)
        except (openai.APIError, ValueError) as error:
            said = getattr(error, "body", None) or ""
            raise ServerError(
                f"{self.base_url}, model {self.model!r}: {error} {said} (start the server, such as `vllm serve MODEL` or "
                "`llama-server -m MODEL.gguf`, or correct base_url or model)"
            ) from error


def open_model(name: str, **options: Any) -> Any:
    """The model of that name: an address (http…) is a `LocalServer`, any other name a `TextGenerator`.

    ``options`` go to `LocalServer` or to `TextGenerator.from_pretrained`.
    """
    if name.startswith(("http://", "https://")):
        return LocalServer(name, **options)
    from recsys_lib.generation import TextGenerator

    return TextGenerator.from_pretrained(name, **options)
