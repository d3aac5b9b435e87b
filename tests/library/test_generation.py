"""Generation and likelihood against plain loops over a tiny causal model with random weights."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

from recsys_lib import resources
from recsys_lib.generation import TextGenerator

WORDS = [
    "<pad>",
    "<bos>",
    "<eos>",
    "<unk>",
    *("red", "blue", "green", "tea", "cup", "shoe", "warm", "cold", "big", "small", "stop", "."),
]
PROMPTS = ["red tea", "red tea cup warm big", "red tea cup", "red tea cold cold cold small"]


def tokenizer():
    core = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>")
    )
    core.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    core.post_processor = tokenizers.processors.TemplateProcessing("<bos> $A", special_tokens=[("<bos>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )


def model(kind):
    torch.manual_seed(3)
    sizes = {
        "vocab_size": len(WORDS),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 64,
        "initializer_range": 0.5,
    }
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    if kind == "gemma":
        config = transformers.Gemma3TextConfig(**sizes, **tokens, sliding_window=32)
        return transformers.Gemma3ForCausalLM(config)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, **tokens))


@pytest.fixture(scope="module", params=["llama", "gemma"])
def generator(request):
    return TextGenerator(model(request.param), tokenizer())


def one_by_one(generator, prompt, steps, stop, end=2):
    """The most likely tokens, each from a forward pass over everything so far."""
    ids, new = generator.tokenizer(prompt)["input_ids"], []
    for _ in range(steps):
        with torch.no_grad():
            token = int(generator.model(torch.tensor([ids + new])).logits[0, -1].argmax())
        if token == end:
            break
        new.append(token)
        if stop and stop in generator.tokenizer.decode(new, skip_special_tokens=True):
            break
    text = generator.tokenizer.decode(new, skip_special_tokens=True)
    return text.split(stop)[0] if stop else text


@pytest.mark.parametrize("stop", ["", "cup"])
def test_greedy_equals_one_by_one(generator, stop):
    expected = [one_by_one(generator, prompt, 8, stop) for prompt in PROMPTS]
    assert len(set(expected)) > 1
    assert generator.generate(PROMPTS, 8, stop=stop) == expected
    assert generator.generate([PROMPTS[2]], 8, stop=stop) == [expected[2]]
    assert generator.generate([PROMPTS[0]] * 2, 8, stop=stop) == [expected[0]] * 2


def test_the_end_token_ends_only_its_row(generator, monkeypatch):
    free = generator.generate(PROMPTS, 8, stop="")
    last = WORDS.index(max(free, key=len).split()[2])
    monkeypatch.setattr(generator, "_end", last)
    expected = [one_by_one(generator, prompt, 8, "", end=last) for prompt in PROMPTS]
    assert expected != free
    assert generator.generate(PROMPTS, 8, stop="") == expected


def test_likelihood_equals_one_by_one(generator):
    continuations = ["blue", "shoe warm cold .", "tea tea", "small small small small small", "cup"]
    found = generator.log_likelihood("red tea", continuations, batch_size=3)
    start = generator.tokenizer("red tea")["input_ids"]
    for value, text in zip(found, continuations, strict=True):
        total, ids = 0.0, list(start)
        for token in generator.tokenizer(text, add_special_tokens=False)["input_ids"]:
            with torch.no_grad():
                logits = generator.model(torch.tensor([ids])).logits[0, -1]
            total += float(torch.log_softmax(logits.double(), dim=0)[token])
            ids.append(token)
        assert value == pytest.approx(total, abs=1e-4)
    assert generator.log_likelihood("", ["blue"])[0] < 0  # <bos> alone


def test_likelihoods_of_all_words_sum_to_one(generator):
    one = np.exp(generator.log_likelihood("big shoe", WORDS[4:]))
    with torch.no_grad():
        ids = torch.tensor([generator.tokenizer("big shoe")["input_ids"]])
        special = torch.softmax(generator.model(ids).logits[0, -1], dim=0)[:4].sum()
    assert one.sum() == pytest.approx(1 - float(special), abs=1e-5)


def test_drawing_follows_the_seed_and_the_temperature(generator):
    def draw(seed, temperature=5.0):
        return generator.generate(["red tea"] * 6, 8, stop="", seed=seed, temperature=temperature)

    assert draw(0) == draw(0)
    assert draw(0) != draw(1)
    assert len(set(draw(0))) > 1
    assert draw(0, temperature=1e-3) == generator.generate(["red tea"] * 6, 8, stop="")


def test_drawn_words_have_the_models_frequencies(generator):
    drawn = generator.generate(["warm"] * 4000, 1, stop="", seed=0)
    shares = np.array([np.mean([word == text for text in drawn]) for word in WORDS[4:]])
    expected = np.exp(generator.log_likelihood("warm", WORDS[4:]))
    assert np.abs(shares - expected).max() < 5 * np.sqrt(0.25 / 4000)


@pytest.mark.parametrize(
    "call",
    [
        lambda g: g.generate("red tea"),
        lambda g: g.generate([]),
        lambda g: g.generate(["red"], 0),
        lambda g: g.generate(["red"], temperature=0),
        lambda g: g.log_likelihood("red", ["blue", ""]),
        lambda g: TextGenerator.from_pretrained("anything", dtype="int4"),
    ],
)
def test_wrong_arguments(generator, call):
    with pytest.raises(ValueError):
        call(generator)


def test_a_saved_model_is_loaded(generator, tmp_path):
    generator.model.save_pretrained(tmp_path)
    generator.tokenizer.save_pretrained(tmp_path)
    again = TextGenerator.from_pretrained(tmp_path, dtype="float32")
    assert again.generate(PROMPTS, 5) == generator.generate(PROMPTS, 5)


def test_the_packaged_model_asks_for_acceptance(monkeypatch):
    monkeypatch.delenv("RECSYS_LIB_ACCEPT", raising=False)
    with pytest.raises(resources.TermsNotAccepted, match=r"Gemma Terms of Use.*RECSYS_LIB_ACCEPT=gemma"):
        TextGenerator.from_pretrained("gemma-3-270m")


@pytest.mark.skipif(not resources.is_accepted("gemma-3-270m"), reason="the Gemma terms are not accepted")
def test_the_packaged_model_writes_both_languages():
    pytest.importorskip("gguf")
    packaged = TextGenerator.from_pretrained("gemma-3-270m")
    assert packaged.model.dtype == torch.bfloat16
    assert sum(weight.numel() for weight in packaged.model.parameters()) == 268_098_176
    english = packaged.log_likelihood("The capital of France is", [" Paris", " Rome", " blue"])
    chinese = packaged.log_likelihood("中国的首都是", ["北京", "罗马", "蓝色"])
    assert english.argmax() == chinese.argmax() == 0
