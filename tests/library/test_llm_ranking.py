"""Ranking by likelihood against a loop over single tokens of a tiny random model; a real server on this machine."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from recsys_lib.llm_ranking import (
    HEADER,
    average_rotations,
    history_prompt,
    next_line_ranks,
    pmi,
    sample_candidates,
    slot_probabilities,
    target_ranks,
    title_log_likelihood,
)
from recsys_lib.local_server import LikelihoodNotSupported, LocalServer, ServerError, open_model

TITLES = ["red tea", "cup", "blue shoe cold", "tea tea"]


@pytest.fixture(scope="module")
def tiny():
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    from recsys_lib.generation import TextGenerator

    words = ["<pad>", "<bos>", "<unk>", "\n", "red", "blue", "tea", "cup", "shoe", "cold", "A", "B", "C", ":"]
    core = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>")
    )
    core.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex(r"\w+|\n"), "removed", invert=True)
    core.post_processor = tokenizers.processors.TemplateProcessing("<bos> $A", special_tokens=[("<bos>", 1)])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<bos>", unk_token="<unk>"
    )
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(words), n_positions=64, n_embd=16, n_layer=2, n_head=2, initializer_range=0.6
    )
    return TextGenerator(transformers.GPT2LMHeadModel(config), tokenizer)


def one_by_one(generator, prompt, text):
    """Log-probability of the text, each token from a forward pass over everything before it."""
    import torch

    ids = generator.tokenizer(prompt)["input_ids"]
    total = 0.0
    for token in generator.tokenizer(text, add_special_tokens=False)["input_ids"]:
        with torch.no_grad():
            total += float(
                torch.log_softmax(generator.model(torch.tensor([ids])).logits[0, -1].double(), 0)[token]
            )
        ids = [*ids, token]
    return total


def test_titles_equal_one_token_after_the_other(tiny):
    prompt = history_prompt(["red cup", "shoe"], [["tea"]])
    assert prompt == f"{HEADER}tea\n\n{HEADER}red cup\nshoe\n"
    found = title_log_likelihood(tiny, prompt, TITLES, batch_size=3)
    np.testing.assert_allclose(found, [one_by_one(tiny, prompt, t + "\n") for t in TITLES], atol=1e-5)
    assert len(set(np.round(found, 3))) == len(TITLES)
    for wrong in ([], ["tea", ""], "tea"):
        with pytest.raises(ValueError, match="titles"):
            title_log_likelihood(tiny, prompt, wrong)


def test_pmi():
    np.testing.assert_allclose(pmi([-3.0, -5.0], [-2.0, -8.0]), [-1.0, 3.0])
    np.testing.assert_allclose(pmi([-3.0], [-2.0], 0.5), [-2.0])
    with pytest.raises(ValueError, match="shape"):
        pmi([1.0, 2.0], [1.0])


def test_candidates_are_unseen_and_follow_the_weights():
    weights = np.array([1.0, 1, 1, 8, 8, 8, 0, 1])
    seen = [np.array([0, 3])] * 400
    found = sample_candidates(seen, [3] * 400, weights, n=3, seed=1)
    assert found.shape == (400, 3) and (found[:, 0] == 3).all()
    assert not np.isin(found[:, 1:], [0, 3, 6]).any() and (found[:, 1] != found[:, 2]).all()
    counts = np.bincount(found[:, 1], minlength=8)
    assert abs(counts[4] / 400 - 8 / 19) < 0.08
    assert (found == sample_candidates(seen, [3] * 400, weights, n=3, seed=1)).all()
    with pytest.raises(ValueError, match="fewer"):
        sample_candidates(seen, [3] * 400, weights, n=8)


def test_ranks_share_ties():
    np.testing.assert_array_equal(target_ranks([[2, 1, 3, 0], [1, 1, 1, 0], [5, 1, 2, 3]]), [2.0, 2.0, 1.0])


class Fixed:
    """Likes the slot B, and the candidate 'tea' wherever it stands."""

    def log_likelihood(self, prompt, continuations):
        shown = prompt.split(",")
        return np.array(
            [
                (1.0 if s == 1 else 0.0) + (2.0 if shown[s] == "tea" else 0.0)
                for s in range(len(continuations))
            ]
        )


def test_rotations_average_the_slot_away():
    slots = slot_probabilities(Fixed(), ",".join, ["cup", "tea", "shoe"])
    np.testing.assert_allclose(slots.sum(axis=1), 1)
    brute = np.zeros(3)
    for r in range(3):
        for s in range(3):
            brute[(s + r) % 3] += slots[r, s] / 3
    np.testing.assert_allclose(average_rotations(slots), brute)
    assert np.isclose(brute[0], brute[2]) and brute[1] > brute[0]
    with pytest.raises(ValueError, match="between"):
        slot_probabilities(Fixed(), ",".join, ["cup"])


class Talker:
    """Writes, and tells no likelihood."""

    def __init__(self, answer):
        self.answer = answer

    def log_likelihood(self, prompt, continuations):
        raise LikelihoodNotSupported("no")

    def generate(self, prompts, max_new_tokens):
        return [self.answer] * len(prompts)


@pytest.mark.parametrize(
    ("answer", "row"),
    [(" b.", [0, 1, 0]), (" (C)", [0, 0, 1]), (" Blue", [1 / 3] * 3), ("", [1 / 3] * 3), (" E", [1 / 3] * 3)],
)
def test_only_a_letter_is_a_choice(answer, row):
    with pytest.warns(UserWarning, match="choice"):
        slots = slot_probabilities(Talker(answer), ",".join, ["cup", "tea", "shoe"])
    np.testing.assert_allclose(slots, [row] * 3)


class Counter:
    """Knows that numbers go up, and nothing else."""

    def log_likelihood(self, prompt, continuations, batch_size=16):
        last = int(prompt.split("\n")[-2].split(" ")[1])
        return np.array([0.0 if int(text) == last + 1 else -5.0 for text in continuations])


def test_order_is_known_in_one_direction():
    numbers = [str(k) for k in range(100, 160)]
    assert (next_line_ranks(Counter(), numbers, [0, 7, 30]) == 1).all()
    assert (next_line_ranks(Counter(), numbers[::-1], [0, 7, 30]) == 5.5).all()
    for start in (-1, 50):
        with pytest.raises(ValueError, match="too few"):
            next_line_ranks(Counter(), numbers, [start])


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def _send(self, value, code=200):
        self.server.headers.append(dict(self.headers))
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "text/html" if body == b"<html>" else "application/json")
        if code == 302:
            self.send_header("Location", "http://localhost:9/v1/completions")
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self._send({"data": [{"id": "tiny"}]})

    def do_POST(self):
        wish = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.wishes.append(wish)
        mode, generator = self.server.mode, self.server.generator
        if mode == "redirect":
            return self._send({}, 302)
        if mode in ("<html>", "{broken"):
            return self._send(mode.encode())
        if mode == "no such model":
            return self._send({"error": "The model does not exist"}, 404)
        if wish.get("echo") and mode == "refuses":
            return self._send({"error": "Only no echo is supported"}, 400)
        choices = []
        assert wish.get("echo") or isinstance(wish["prompt"], str)  # Ollama takes no list
        prompts = wish["prompt"] if wish.get("echo") else [wish["prompt"]]
        for k, prompt in enumerate(prompts):
            tokens, each = ["!"], [-0.5]
            if wish.get("echo") and mode == "echoes":
                ids = generator.tokenizer(prompt)["input_ids"]
                words = generator.tokenizer.convert_ids_to_tokens(ids)
                # like vLLM: the start token first, without a value; then each with its own log-probability
                values = [None] + [
                    one_by_one(generator, " ".join(words[1:j]), words[j]) for j in range(1, len(ids))
                ]
                tokens, each = words + tokens, values + each
            choices.append(
                {
                    "index": k,
                    "text": " B and more" + ("" if wish.get("stop") else "\nlost"),
                    "logprobs": {"tokens": tokens, "token_logprobs": each},
                }
            )
        return self._send({"choices": choices[::-1]})


@pytest.fixture
def server(tiny):
    pytest.importorskip("openai")
    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.mode, server.generator, server.wishes, server.headers = "echoes", tiny, [], []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def url(server):
    return f"http://127.0.0.1:{server.server_port}/v1"


def test_a_server_gives_the_same_likelihoods(server, tiny):
    model = open_model(url(server))
    assert isinstance(model, LocalServer) and model.model == "tiny"
    found = model.log_likelihood("red tea\n", ["cup", "shoe", "\n"], batch_size=2)
    np.testing.assert_allclose(found, tiny.log_likelihood("red tea\n", ["cup", "shoe", "\n"]), atol=1e-5)
    assert model.generate(["red", "blue"], 5) == [" B and more", " B and more"]
    assert server.wishes[-1]["temperature"] == 0 and server.wishes[-1]["prompt"] == "blue"
    assert model.generate(["red"], 5, stop="", seed=3, temperature=0.7) == [" B and more\nlost"]
    assert server.wishes[-1]["seed"] == 3 and server.wishes[-1]["temperature"] == 0.7


@pytest.mark.parametrize("mode", ["refuses", "forgets"])
def test_without_echo_it_asks_for_a_choice(server, mode):
    server.mode = mode
    model = LocalServer(url(server), "tiny")
    with pytest.raises(LikelihoodNotSupported, match="vLLM"):
        model.log_likelihood("red", ["cup"])
    with pytest.warns(UserWarning, match="choice"):
        slots = slot_probabilities(model, ",".join, ["cup", "tea", "shoe"])
    np.testing.assert_array_equal(slots, [[0, 1, 0]] * 3)


def test_errors_name_the_remedy(server):
    for address in ("ftp://localhost/v1", "localhost:8000"):
        with pytest.raises(ValueError, match="must look like"):
            LocalServer(address)
    with pytest.raises(ValueError, match="allow_remote"):
        LocalServer("http://example.org/v1")
    with pytest.raises(ValueError, match="timeout"):
        LocalServer(timeout=0)
    port = HTTPServer(("127.0.0.1", 0), Handler)
    free = port.server_port
    port.server_close()
    with pytest.raises(ServerError, match="start the server"):
        LocalServer(f"http://127.0.0.1:{free}/v1", timeout=2)
    model = LocalServer(url(server), "tiny")
    for server.mode, remedy in (("<html>", "end in /v1"), ("{broken", "correct base_url")):
        with pytest.raises(ServerError, match=remedy):
            model.generate(["red"])
    server.mode = "no such model"
    with pytest.raises(ServerError, match=r"'tiny'.*404.*does not exist") as found:
        model.log_likelihood("red", ["cup"])
    assert not isinstance(found.value, LikelihoodNotSupported)  # no choice to ask for either
    server.mode = "redirect"
    with pytest.raises(ServerError, match="302"):
        model.generate(["red"])
    with pytest.raises(ValueError, match="prompts"):
        model.generate("red")


def test_without_the_package_the_message_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ImportError, match="pip install openai"):
        LocalServer()


def test_the_environment_plays_no_part(server, monkeypatch):
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID"):
        monkeypatch.setenv(f"OPENAI_{name}", "secret")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway: secret\nAuthorization: secret")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    model = LocalServer(url(server))
    model.generate(["red"])
    names = [{name.lower() for name in each} for each in server.headers]
    assert names == [{"host"}, {"host", "content-type", "content-length"}]
