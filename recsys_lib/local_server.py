"""A language model behind an OpenAI-compatible server on this machine (vLLM, llama.cpp, Ollama …).

It has the methods of `recsys_lib.generation.TextGenerator`, so `open_model` chooses between the two by a name. Only the
standard library is used: no key, no proxy, no redirect; nothing goes anywhere but to the address given.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

import numpy as np

LOCAL = ("localhost", "127.0.0.1", "::1")
LARGEST_REPLY = 64_000_000  # bytes


class ServerError(RuntimeError):
    """The server cannot be reached, refuses the request, or answers something else than expected."""


class LikelihoodNotSupported(ServerError):
    """The server does not say how likely a given text is; ask it for a choice instead."""


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


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
        self.base_url, self.timeout = base_url.rstrip("/"), timeout
        self._opener = build_opener(ProxyHandler({}), _NoRedirect())
        self.model = model if model is not None else self._first_model()

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
        if isinstance(prompts, str) or not prompts:
            raise ValueError("prompts must be a list of at least one text")
        if max_new_tokens < 1 or temperature <= 0:
            raise ValueError("max_new_tokens and temperature must be positive")
        wish: dict[str, Any] = {
            "max_tokens": max_new_tokens,
            "temperature": 0.0 if seed is None else temperature,
        }
        wish |= {"seed": seed} if seed is not None else {}
        wish |= {"stop": [stop]} if stop else {}
        replies = [self._completions([prompt], **wish)[0] for prompt in prompts]
        texts = [str(reply.get("text", "")) for reply in replies]
        return [text.split(stop)[0] if stop else text for text in texts]

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
                if isinstance(error.__cause__, HTTPError) and error.__cause__.code in (400, 422, 501):
                    raise LikelihoodNotSupported(_remedy(self.base_url)) from error
                raise
            result += [self._sum(reply, text) for reply, text in zip(replies, some, strict=True)]
        return np.array(result)

    def _sum(self, reply: dict[str, Any], continuation: str) -> float:
        """Sum over the continuation's tokens, counted from the end (a start token may stand before the prompt)."""
        found = reply.get("logprobs") or {}
        tokens, each = found.get("tokens") or [], found.get("token_logprobs") or []
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
        raise LikelihoodNotSupported(_remedy(self.base_url))

    def _first_model(self) -> str:
        listed = self._ask("/models").get("data")
        if not isinstance(listed, list) or not listed or "id" not in listed[0]:
            raise ServerError(f"{self.base_url} lists no model: load one there, or pass model=…")
        return str(listed[0]["id"])

    def _completions(self, prompts: list[str], **wish: Any) -> list[dict[str, Any]]:
        choices = self._ask("/completions", {"model": self.model, "prompt": prompts} | wish).get("choices")
        if not isinstance(choices, list) or len(choices) != len(prompts):
            raise ServerError(f"{self.base_url} did not answer with one completion for each prompt")
        return sorted(choices, key=lambda choice: int(choice.get("index", 0)))

    def _ask(self, path: str, wish: dict[str, Any] | None = None) -> dict[str, Any]:
        body = None if wish is None else json.dumps(wish).encode()
        request = Request(self.base_url + path, data=body, headers={"Content-Type": "application/json"})
        try:
            with self._opener.open(request, timeout=self.timeout) as reply:
                raw = reply.read(LARGEST_REPLY + 1)
        except HTTPError as error:
            said = error.read(300).decode(errors="replace")
            raise ServerError(
                f"{self.base_url}{path} answered {error.code}: {said} (is {self.__dict__.get('model')!r} its model?)"
            ) from error
        except (URLError, TimeoutError, OSError) as error:
            raise ServerError(
                f"no answer from {self.base_url} within {self.timeout:g} s ({error}): start the server, such as "
                "`vllm serve MODEL` or `llama-server -m MODEL.gguf`, or correct base_url"
            ) from error
        try:
            found = json.loads(raw) if len(raw) <= LARGEST_REPLY else None
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ServerError(
                f"{self.base_url}{path} did not answer with a JSON object: does base_url end in /v1?"
            )
        return found


def _remedy(base_url: str) -> str:
    return (
        f"{base_url} does not tell the log-probabilities of a given text (echo with logprobs): use vLLM or load the "
        "model with TextGenerator.from_pretrained, or ask for a choice (llm_ranking.slot_probabilities does so by itself)"
    )


def open_model(name: str, **options: Any) -> Any:
    """The model of that name: an address (http…) is a `LocalServer`, any other name a `TextGenerator`.

    ``options`` go to `LocalServer` or to `TextGenerator.from_pretrained`.
    """
    if name.startswith(("http://", "https://")):
        return LocalServer(name, **options)
    from recsys_lib.generation import TextGenerator

    return TextGenerator.from_pretrained(name, **options)
