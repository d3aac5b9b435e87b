"""TextEncoder against sentence-transformers, hand loops and its own invariances."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model

from recsys_lib import encoders, resources
from recsys_lib.encoders import EncoderError, TextEncoder, Truncated

TEXTS = [
    "phone",
    "智能手机，支持5G网络",
    "Toy Story (1995). Animation, children's, comedy. Directed by John Lasseter.",
    "运动鞋，舒适透气",
    "a much longer text about shoes, bags, jackets and phones, and what people say of them. " * 4,
    "皮质包包，设计精美。" * 12,
    "Ünïcode, naïve café — 50 €",
    "x",
]
WORDS = st.text(alphabet="abcdefgh 手机鞋包", min_size=1, max_size=60).filter(lambda text: bool(text.strip()))


@pytest.fixture(scope="module")
def minilm():
    return TextEncoder.from_pretrained("all-MiniLM-L6-v2")


@pytest.fixture(scope="module")
def tiny(minilm):
    """A random two-layer BERT with MiniLM's tokenizer, quick enough for many examples."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30522, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    )
    return TextEncoder(BertModel(config), minilm.tokenizer)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RECSYS_LIB_CACHE", str(tmp_path))
    return tmp_path / "vectors"


def encode(encoder, texts, **options):
    return encoder.encode(texts, show_progress=False, **({"cache": False} | options))


def one_by_one(encoder, texts, pooling):
    """Pooling by a plain loop, without batches or padding."""
    vectors = []
    for text in texts:
        inputs = encoder.tokenizer(
            encoder.prefix + text, return_tensors="pt", truncation=True, max_length=encoder.max_length
        )
        with torch.no_grad():
            hidden = encoder.model(input_ids=inputs["input_ids"]).last_hidden_state[0]
        steps = [hidden[i] for i in range(len(hidden))]
        vectors.append({"cls": steps[0], "last": steps[-1], "mean": sum(steps) / len(steps)}[pooling].numpy())
    return np.array(vectors)


def test_equals_sentence_transformers(minilm):
    from sentence_transformers import SentenceTransformer

    peer = SentenceTransformer(str(resources.fetch("all-MiniLM-L6-v2")), device="cpu")
    ours = encode(minilm, TEXTS, normalize=True, batch_size=3)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, peer.encode(TEXTS, normalize_embeddings=True), atol=1e-5)
    assert peer.max_seq_length == minilm.max_length == 256


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_pooling_equals_a_plain_loop(tiny, pooling):
    encoder = TextEncoder(tiny.model, tiny.tokenizer, pooling=pooling, prefix="query: ")
    np.testing.assert_allclose(encode(encoder, TEXTS), one_by_one(encoder, TEXTS, pooling), atol=1e-5)


def test_causal_model_with_last_token(minilm):
    torch.manual_seed(0)
    model = GPT2Model(GPT2Config(vocab_size=30522, n_positions=64, n_embd=32, n_layer=2, n_head=2))
    encoder = TextEncoder(model, minilm.tokenizer, pooling="last")
    assert (encoder.max_length, encoder.dimension) == (64, 32)
    texts = [text[:40] for text in TEXTS]
    np.testing.assert_allclose(encode(encoder, texts), one_by_one(encoder, texts, "last"), atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.lists(WORDS, min_size=1, max_size=12), st.integers(1, 13), st.randoms())
def test_batches_and_order_do_not_matter(tiny, texts, batch_size, random):
    expected = encode(tiny, texts)
    np.testing.assert_allclose(encode(tiny, texts, batch_size=batch_size), expected, atol=1e-5)
    order = list(range(len(texts)))
    random.shuffle(order)
    np.testing.assert_allclose(encode(tiny, [texts[row] for row in order]), expected[order], atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_padding_is_ignored(pooling):
    hidden = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] + [0] * 6])
    changed = torch.where(mask[..., None] == 1, hidden, torch.tensor(1e6))
    torch.testing.assert_close(encoders.pool(hidden, mask, pooling), encoders.pool(changed, mask, pooling))


def test_normalize(tiny):
    raw, unit = encode(tiny, TEXTS), encode(tiny, TEXTS, normalize=True)
    np.testing.assert_allclose(unit, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-6)


def test_no_texts(tiny):
    tiny.last_truncated = Truncated(3, 300)
    vectors = encode(tiny, [])
    assert vectors.shape == (0, 32) and vectors.dtype == np.float32
    assert tiny.last_truncated == Truncated(0, 0)


def test_truncation_is_reported(tiny):
    encoder = TextEncoder(tiny.model, tiny.tokenizer, max_length=6)
    with pytest.warns(UserWarning, match=r"2 of 3 texts were cut to 6 tokens; the longest has 12") as caught:
        vectors = encode(encoder, ["a b", "a b c d e f g h i j", "a b c d e"])
    assert len(caught) == 1
    assert encoder.last_truncated == Truncated(texts=2, longest=12)
    np.testing.assert_allclose(vectors[1], encode(encoder, ["a b c d"])[0], atol=1e-5)  # [CLS] and [SEP] stay
    assert encoder.last_truncated == Truncated(texts=0, longest=6)


def test_prefix_is_part_of_the_text(tiny):
    encoder = TextEncoder(tiny.model, tiny.tokenizer, prefix="query: ")
    np.testing.assert_allclose(encode(encoder, ["shoe"]), encode(tiny, ["query: shoe"]), atol=1e-6)


def test_tokens(minilm):
    assert minilm.tokens("Running shoes") == ["running", "shoes"]
    assert minilm.tokens("手机", special=True) == ["[CLS]", "手", "[UNK]", "[SEP]"]


@pytest.mark.parametrize("bad", ["", "  \n", None, float("nan"), 7])
def test_bad_texts_are_named_by_row(tiny, bad):
    with pytest.raises(ValueError, match=r"2 of 4 texts are missing, blank or not strings: rows 1 .* 3 "):
        encode(tiny, ["a", bad, "b", bad])


def test_many_bad_texts_and_bad_arguments(tiny):
    with pytest.raises(ValueError, match=r"9 of 9 .* 4 \(None\) \.\.\."):
        encode(tiny, [None] * 9)
    with pytest.raises(ValueError, match="not one string"):
        encode(tiny, "abc")
    with pytest.raises(ValueError, match="batch_size"):
        encode(tiny, ["a"], batch_size=0)
    for options in ({"pooling": "max"}, {"dtype": "float16"}, {"max_length": 2}):
        with pytest.raises(ValueError, match=next(iter(options))):
            TextEncoder(tiny.model, tiny.tokenizer, **options)
    with pytest.raises(ValueError, match="size"):
        TextEncoder.random_bert(0, size="large")


def test_texts_may_be_a_column(tiny):
    import pandas as pd

    np.testing.assert_array_equal(encode(tiny, pd.Series(TEXTS)), encode(tiny, np.array(TEXTS)))


def test_cache_hit_equals_miss_and_runs_no_model(tiny, cache, monkeypatch):
    texts = [f"text {row}" for row in range(20)]
    first = encode(tiny, texts, cache=True)
    (file,) = cache.iterdir()
    monkeypatch.setattr(tiny, "_forward", lambda *_: pytest.fail("the model ran"))
    np.testing.assert_array_equal(encode(tiny, texts, cache=True), first)
    unit = encode(tiny, texts, cache=True, normalize=True)  # also from the cache
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(encode(tiny, texts, cache=True), first)  # which stays as it was
    assert list(cache.iterdir()) == [file]


def test_cache_knows_what_it_depends_on(tiny, cache):
    texts = [f"text {row}" for row in range(20)]
    encode(tiny, texts, cache=True)
    encode(tiny, texts[::-1], cache=True)
    encode(TextEncoder(tiny.model, tiny.tokenizer, pooling="cls"), texts, cache=True)
    encode(TextEncoder(tiny.model, tiny.tokenizer, prefix="a "), texts, cache=True)
    with pytest.warns(UserWarning, match="cut"):
        encode(TextEncoder(tiny.model, tiny.tokenizer, max_length=3), texts, cache=True)
    assert len(list(cache.iterdir())) == 5
    weight = tiny.model.encoder.layer[1].output.dense.weight
    with torch.no_grad():
        weight[0, 0] += 1  # a model that was trained further must not get the old vectors
    try:
        np.testing.assert_array_equal(encode(tiny, texts, cache=True), encode(tiny, texts))
        assert len(list(cache.iterdir())) == 6
    finally:
        with torch.no_grad():
            weight[0, 0] -= 1


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "other shape", "garbage"])
def test_damaged_cache_is_ignored_and_rewritten(tiny, cache, damage):
    texts = [f"text {row}" for row in range(20)]
    expected = encode(tiny, texts, cache=True)
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    if damage == "other shape":
        np.savez(file, vectors=expected[:5])
    else:
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
        file.write_bytes(
            {"cut": whole[:middle], "flip": flipped, "empty": b"", "garbage": b"PK\3\4" * 99}[damage]
        )
    np.testing.assert_array_equal(encode(tiny, texts, cache=True), expected)
    assert file.read_bytes() == whole


def test_few_texts_are_not_cached(tiny, cache):
    encode(tiny, ["a"] * 15, cache=True)
    assert not cache.exists()


def test_cache_that_cannot_be_written(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RECSYS_LIB_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="not cached"):
        assert encode(tiny, ["a"] * 20, cache=True).shape == (20, 32)


def test_interrupted_write_leaves_nothing(tiny, cache, monkeypatch):
    def full_disk(stream, **_):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.warns(UserWarning, match="No space left"):
        encode(tiny, ["a"] * 20, cache=True)
    assert list(cache.iterdir()) == []


def test_training_mode_is_put_back(tiny):
    expected = encode(tiny, TEXTS)
    tiny.model.train()
    try:
        np.testing.assert_array_equal(encode(tiny, TEXTS), expected)  # no dropout
        assert tiny.model.training
    finally:
        tiny.model.eval()


def test_bfloat16_is_close(minilm, monkeypatch):
    monkeypatch.setattr(
        encoders, "bfloat16_is_fast", lambda: True
    )  # emulated where there is no hardware for it
    half = TextEncoder.from_pretrained("all-MiniLM-L6-v2", dtype="bfloat16")
    assert half.model.dtype == torch.bfloat16
    cosines = (encode(half, TEXTS, normalize=True) * encode(minilm, TEXTS, normalize=True)).sum(1)
    assert cosines.min() >= 0.999


def test_bfloat16_falls_back(tiny, monkeypatch):
    monkeypatch.setattr(encoders, "bfloat16_is_fast", lambda: False)
    with pytest.warns(UserWarning, match="no faster than float32"):
        encoder = TextEncoder(tiny.model, tiny.tokenizer, dtype="bfloat16")
    assert encoder.dtype == "float32" and encoder.model.dtype == torch.float32


@pytest.mark.parametrize(("slow", "expected"), [(torch.float32, True), (torch.bfloat16, False)])
def test_bfloat16_probe_compares_times(monkeypatch, slow, expected):
    clock = [0.0]
    monkeypatch.setattr(encoders.time, "perf_counter", lambda: clock[0])

    def linear(left, right):
        clock[0] += 2.0 if left.dtype == slow else 1.0

    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    assert encoders.bfloat16_is_fast.__wrapped__() is expected


def test_bfloat16_probe_runs_here():
    assert encoders.bfloat16_is_fast() in (True, False)


def test_random_bert_depends_on_its_seed_alone():
    state = torch.get_rng_state()
    one, same, other = (TextEncoder.random_bert(seed, size="mini") for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(encode(one, TEXTS[:2]), encode(same, TEXTS[:2]))
    assert np.abs(encode(one, TEXTS[:2]) - encode(other, TEXTS[:2])).max() > 0.1
    assert one.dimension == 384 and one.model.config.num_hidden_layers == 6 and one.pooling == "cls"


def test_random_bert_base_has_berts_shape():
    base = TextEncoder.random_bert(0)
    parameters = sum(parameter.numel() for parameter in base.model.parameters())
    assert base.dimension == 768
    # embeddings (words, positions, segments, normalisation), then twelve layers
    assert parameters == (30522 + 512 + 2 + 2) * 768 + 12 * (
        4 * 768 * 769 + 2 * 768 * 3072 + 3072 + 768 + 4 * 768
    )


def test_local_folder(tiny, tmp_path):
    folder = tmp_path / "multilingual-e5-small"
    tiny.model.save_pretrained(folder)
    tiny.tokenizer.save_pretrained(folder)
    loaded = TextEncoder.from_pretrained(folder)
    assert loaded.prefix == "query: "
    assert "prefix='query: '" in repr(loaded) and "d=32" in repr(loaded)
    plain = TextEncoder.from_pretrained(str(folder), prefix="")
    np.testing.assert_allclose(encode(plain, TEXTS), encode(tiny, TEXTS), atol=1e-6)


def test_unknown_model_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("no-such-owner/no-such-model", str(tmp_path)):
        with pytest.raises(EncoderError, match="Packaged models need no hub: all-MiniLM-L6-v2"):
            TextEncoder.from_pretrained(name)


def test_loading_is_quiet_and_puts_settings_back(capsys):
    import transformers

    before = transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()
    TextEncoder.from_pretrained("all-MiniLM-L6-v2")
    assert (transformers.logging.get_verbosity(), transformers.logging.is_progress_bar_enabled()) == before
    assert "".join(capsys.readouterr()) == ""


def test_progress_goes_to_standard_error(tiny, capsys, monkeypatch):
    monkeypatch.setattr(encoders, "tqdm", partial(encoders.tqdm, disable=False))  # whatever TQDM_DISABLE says
    tiny.encode(TEXTS, show_progress=True, cache=False)
    output, errors = capsys.readouterr()
    assert output == "" and "8/8" in errors
    encode(tiny, TEXTS)
    assert capsys.readouterr().err == ""


def test_roberta_counts_positions_from_its_padding(minilm):
    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(
        vocab_size=30522,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=34,
    )
    encoder = TextEncoder(RobertaModel(config), minilm.tokenizer)
    with pytest.warns(UserWarning, match="cut to 32 tokens"):
        assert encode(encoder, [TEXTS[4]]).shape == (1, 32)
