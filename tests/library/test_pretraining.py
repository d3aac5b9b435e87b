"""Pre-training against transformers' own losses, counts by hand, and what a tiny model must be able to learn."""

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.models import WordPiece
from transformers import AutoModelForMaskedLM, AutoTokenizer, BertConfig, BertModel

from recsys_lib import pretraining as pre
from recsys_lib.datasets import Interactions
from recsys_lib.encoders import TextEncoder
from recsys_lib.objectives import IGNORED, mask_tokens

TEXTS = [f"the {color} {thing} is {word}" for color in ("red", "blue", "green", "grey")
         for thing in ("dress", "coat", "skirt", "shoe") for word in ("soft", "large", "small", "nice")]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer():
    """Whole words, numbered by the alphabet: a learned vocabulary of so few words breaks ties at random."""
    learned = pre.train_tokenizer(TEXTS, vocabulary=80)
    words = sorted({word for text in TEXTS for word in text.split()})
    entries = {entry: i for i, entry in enumerate([*pre.SPECIAL, *words])}
    learned.backend_tokenizer.model = WordPiece(entries, unk_token="[UNK]")
    return learned


@pytest.fixture(scope="module")
def blocks(tokenizer):
    return pre.token_blocks(tokenizer, TEXTS, length=8)


def small(make, tokenizer, **options):
    return make(tokenizer, **({"layers": 2, "width": 16, "heads": 2, "max_length": 16} | options))


def train(model, tokenizer, blocks, objective="masked", **options):
    usual = {"steps": 20, "batch_size": 8, "evaluate_every": 10, "show_progress": False}
    return pre.pretrain(model, tokenizer, blocks, blocks, objective, **(usual | options))


def test_tokenizer_and_blocks_lose_nothing(tokenizer):
    rows = [tokenizer(text)["input_ids"] for text in TEXTS]
    assert tokenizer.convert_ids_to_tokens(rows[0]) == [
        "[CLS]", "the", "red", "dress", "is", "soft", "[SEP]",
    ]  # fmt: skip
    assert (
        tokenizer.decode(tokenizer("The RED dress")["input_ids"], skip_special_tokens=True) == "the red dress"
    )
    flat = [token for row in rows for token in row]
    blocks = pre.token_blocks(tokenizer, TEXTS, length=10)
    assert blocks.shape == (len(flat) // 10, 10)
    assert blocks.flatten().tolist() == flat[: len(flat) // 10 * 10]


def test_unigram_loss_by_hand():
    train, held_out = torch.tensor([[0, 0, 1]]), torch.tensor([[0, 2]])
    assert pre.unigram_loss(train, held_out, 3) == pytest.approx(-(np.log(3 / 6) + np.log(1 / 6)) / 2)


@pytest.mark.parametrize("make", [pre.masked_model, pre.causal_model])
def test_losses_are_those_of_transformers(make, tokenizer, blocks):
    model = small(make, tokenizer, seed=3)
    if make is pre.causal_model:
        inputs, labels = blocks, pre.next_token_labels(blocks)
        expected = model(input_ids=blocks, labels=blocks).loss  # shifts the labels itself
    else:
        generator = torch.Generator().manual_seed(0)
        inputs, labels = mask_tokens(blocks, tokenizer.mask_token_id, len(tokenizer), generator=generator)
        expected = model(input_ids=inputs, labels=labels).loss
    row = pre._evaluated(model, inputs, labels, step=0, tokens=0)
    assert row["loss"] == pytest.approx(expected.item(), abs=1e-5)
    vectors, targets = pre.language_model_outputs(model, inputs, labels)
    logits = vectors @ model.get_output_embeddings().weight.T
    assert torch.nn.functional.cross_entropy(logits, targets).item() == pytest.approx(
        float(expected), abs=1e-5
    )
    assert row["accuracy"] == pytest.approx(float((logits.argmax(1) == targets).float().mean()))
    assert len(targets) == int((labels != IGNORED).sum())


def test_a_causal_model_does_not_see_what_follows_and_a_masked_one_does(tokenizer, blocks):
    changed = blocks[:4].clone()
    changed[:, -1] = 7
    for make, sees in ((pre.causal_model, False), (pre.masked_model, True)):
        model = small(make, tokenizer)
        with torch.no_grad():
            before, after = (model(input_ids=ids).logits[:, :-1] for ids in (blocks[:4], changed))
        assert torch.allclose(before, after, atol=1e-6) != sees


def test_pretraining_learns_and_equal_seeds_agree(tokenizer, blocks):
    for objective, make in (("masked", pre.masked_model), ("causal", pre.causal_model)):
        curves = []
        for _ in range(2):
            model = small(make, tokenizer, width=32)
            torch.manual_seed(int(1e6 * np.random.default_rng().random()))  # must not matter
            curves.append(
                train(
                    model,
                    tokenizer,
                    blocks,
                    objective,
                    steps=400,
                    learning_rate=0.005,
                    batch_size=16,
                    probability=0.3,
                )
            )
        pd.testing.assert_frame_equal(*curves)
        assert curves[0]["step"].iloc[[0, 1, -1]].tolist() == [0, 10, 400]
        assert curves[0]["tokens"].iloc[-1] == 400 * 16 * 8
        assert curves[0]["loss"].iloc[0] == pytest.approx(np.log(len(tokenizer)), abs=0.5)
        guessed = blocks if objective == "causal" else blocks[blocks >= len(pre.SPECIAL)]
        assert curves[0]["loss"].iloc[-1] < pre.unigram_loss(guessed, guessed, len(tokenizer)) - 0.5


def test_static_masking_corrupts_once(tokenizer, blocks, monkeypatch):
    calls = []

    def count(ids, *args, **options):
        calls.append(len(ids))
        return mask_tokens(ids, *args, **options)

    monkeypatch.setattr(pre, "mask_tokens", count)
    train(small(pre.masked_model, tokenizer), tokenizer, blocks, masking="static", steps=5)
    assert calls == [len(blocks), len(blocks)]  # the training blocks, then the held-out ones
    calls.clear()
    train(small(pre.masked_model, tokenizer), tokenizer, blocks, masking="dynamic", steps=5)
    assert calls == [len(blocks)] + [8] * 5


def test_special_tokens_are_never_masked(tokenizer, blocks, monkeypatch):
    seen = []

    def keep(ids, *args, **options):
        inputs, labels = mask_tokens(ids, *args, **options)
        seen.append((ids, labels))
        return inputs, labels

    monkeypatch.setattr(pre, "mask_tokens", keep)
    train(small(pre.masked_model, tokenizer), tokenizer, blocks, probability=0.9, steps=3)
    ids, labels = (torch.cat(parts) for parts in zip(*seen, strict=True))
    assert (labels[ids < len(pre.SPECIAL)] == IGNORED).all()
    assert ((labels != IGNORED)[ids >= len(pre.SPECIAL)]).float().mean() > 0.8


def test_saved_model_is_an_ordinary_folder(tokenizer, blocks, tmp_path):
    model = small(pre.masked_model, tokenizer)
    train(model, tokenizer, blocks)
    pre.save_language_model(model, tokenizer, tmp_path)
    assert (tmp_path / "model.safetensors").exists() and not list(tmp_path.glob("*.bin"))
    again = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(again(input_ids=blocks).logits, model(input_ids=blocks).logits)
    assert (
        AutoTokenizer.from_pretrained(tmp_path)(TEXTS[:3])["input_ids"] == tokenizer(TEXTS[:3])["input_ids"]
    )
    vectors = TextEncoder.from_pretrained(tmp_path).encode(TEXTS[:4], show_progress=False, cache=False)
    assert vectors.shape == (4, 16) and np.isfinite(vectors).all()


def test_fill_mask_reads_the_place_of_the_mask(tokenizer):
    masked = small(pre.masked_model, tokenizer).eval()
    text = "the red [MASK] is [MASK]"
    filled = pre.fill_mask(masked, tokenizer, text, k=len(tokenizer))
    with torch.no_grad():
        logits = masked(**tokenizer(text, return_tensors="pt", return_token_type_ids=False)).logits
    chances = logits[0, 3].softmax(0)  # [CLS] the red [MASK]
    assert filled.is_monotonic_decreasing and len(filled) == len(tokenizer)
    for token, chance in filled.items():
        assert chance == pytest.approx(float(chances[tokenizer.convert_tokens_to_ids(token)]))
    with pytest.raises(ValueError, match="MASK"):
        pre.fill_mask(masked, tokenizer, "the red dress")


def test_generate_continues_the_prompt(tokenizer, blocks):
    causal = small(pre.causal_model, tokenizer)
    train(causal, tokenizer, blocks, "causal", steps=150, learning_rate=0.02)
    texts = pre.generate(causal, tokenizer, "the", n=6, max_tokens=10, seed=1)
    assert texts == pre.generate(causal, tokenizer, "the", n=6, max_tokens=10, seed=1)
    assert len(set(texts)) > 1 and all(text.startswith("the ") for text in texts)
    ids = tokenizer("[CLS] the red", add_special_tokens=False, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        for _ in range(3):  # one candidate at each step: the likeliest token
            ids = torch.cat([ids, causal(input_ids=ids).logits[:, -1].argmax(1, keepdim=True)], dim=1)
    greedy = tokenizer.decode(ids[0], skip_special_tokens=True)
    assert pre.generate(causal, tokenizer, "the red", max_tokens=3, top_k=1) == [greedy]


def test_wrong_arguments(tokenizer, blocks):
    model = small(pre.masked_model, tokenizer)
    for options in ({"objective": "both"}, {"masking": "often"}, {"steps": 0}):
        with pytest.raises(ValueError):
            train(model, tokenizer, blocks, **options)
    with pytest.raises(ValueError, match="fill"):
        pre.token_blocks(tokenizer, ["red"], length=50)
    with pytest.raises(ValueError, match="text"):
        pre.train_tokenizer([])


# --- Pairs ---

histories = st.lists(st.lists(st.integers(0, 9), unique=True, max_size=8), min_size=1, max_size=4)


@settings(max_examples=50, deadline=None)
@given(histories, st.integers(1, 4))
def test_interaction_pairs_against_a_loop(rows, window):
    frame = pd.DataFrame(
        [(u, i, t) for u, row in enumerate(rows) for t, i in enumerate(row)],
        columns=["user", "item", "timestamp"],
        dtype=int,
    )
    pairs = pre.interaction_pairs(Interactions(frame, len(rows), 10), window)
    by_hand = sorted(
        tuple(sorted((row[a], row[b])))
        for row in rows
        for a in range(len(row))
        for b in range(a + 1, min(a + window, len(row) - 1) + 1)
    )
    assert sorted(map(tuple, np.sort(pairs, axis=1).tolist())) == by_hand
    assert len(pre.interaction_pairs(Interactions(frame, len(rows), 10), window, n=2)) == min(2, len(by_hand))


def test_group_pairs():
    groups = np.array(["a", "b", "a", "c", "b", "b"])
    pairs = pre.group_pairs(groups, 400, seed=0)
    assert (groups[pairs[:, 0]] == groups[pairs[:, 1]]).all() and (pairs[:, 0] != pairs[:, 1]).all()
    assert np.mean(groups[pairs[:, 0]] == "a") == pytest.approx(0.5, abs=0.1)  # not 2 rows of 5
    assert set(pairs.ravel()) == {0, 1, 2, 4, 5}
    with pytest.raises(ValueError, match="two rows"):
        pre.group_pairs([1, 2, 3], 5)


def test_pair_log_q():
    assert np.exp(pre.pair_log_q(np.array([[0, 1], [0, 2]]), 4)) == pytest.approx([0.5, 0.25, 0.25, 0.125])


# --- Contrastive tuning ---


@pytest.fixture(scope="module")
def encoder(tokenizer):
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
                        intermediate_size=32, max_position_embeddings=32)  # fmt: skip
    tokenizer.model_max_length = 32
    return TextEncoder(BertModel(config, add_pooling_layer=False), tokenizer)


COLORS = np.repeat(np.arange(4), 16)


def separation(encoder):
    """Mean cosine of texts of one colour minus that of all others."""
    vectors = encoder.encode(TEXTS, show_progress=False, cache=False, normalize=True)
    same = COLORS[:, None] == COLORS[None, :]
    similarity = vectors @ vectors.T
    return similarity[same & ~np.eye(len(TEXTS), dtype=bool)].mean() - similarity[~same].mean()


@pytest.mark.parametrize("mode", pre.MODES)
def test_tuning_brings_pairs_together(mode, encoder):
    if mode == "lora":
        pytest.importorskip("peft")
    before = {name: tensor.clone() for name, tensor in encoder.model.state_dict().items()}
    pairs = pre.group_pairs(COLORS, 500)
    rate = 0.05 if mode == "lora" else 0.01
    options = {"groups": COLORS, "steps": 40, "batch_size": 16, "learning_rate": rate, "show_progress": False}
    tuned, again = (pre.contrastive_tune(encoder, TEXTS, pairs, mode, **options) for _ in range(2))
    assert all(torch.equal(before[name], tensor) for name, tensor in encoder.model.state_dict().items())
    assert separation(tuned) > separation(encoder) + 0.05
    vectors = [model.encode(TEXTS, show_progress=False, cache=False) for model in (tuned, again)]
    assert np.array_equal(*vectors)
    changed = {n for n, tensor in tuned.model.state_dict().items() if not torch.equal(before[n], tensor)}
    assert before.keys() == tuned.model.state_dict().keys()
    if mode == "adapter":
        assert not changed and vectors[0].shape == (len(TEXTS), 128)
    elif mode == "top":
        assert changed and all(".layer.1." in name or ".layer.2." in name for name in changed)
    elif mode == "lora":
        assert changed and all("attention" in name and name.endswith("weight") for name in changed)
    else:
        assert "embeddings.word_embeddings.weight" in changed


def test_simcse_needs_dropout(tokenizer, encoder):
    tuned = pre.contrastive_tune(encoder, TEXTS, steps=3, batch_size=8, show_progress=False)
    assert not torch.equal(
        tuned.model.encoder.layer[0].output.dense.weight, encoder.model.encoder.layer[0].output.dense.weight
    )
    still = TextEncoder(small(pre.masked_model, tokenizer).base_model, tokenizer)
    with pytest.raises(ValueError, match="dropout"):
        pre.contrastive_tune(still, TEXTS, steps=3, show_progress=False)


def test_tuning_passes_groups_and_log_q_on(encoder, monkeypatch):
    seen = []

    def keep(first, second, temperature, *, key_ids, log_q):
        seen.append((key_ids, log_q))
        return (first - second).square().sum()

    monkeypatch.setattr(pre, "info_nce", keep)
    pairs, log_q = np.array([[0, 17], [33, 50]]), np.linspace(-3, -1, len(TEXTS))
    options = {"steps": 1, "batch_size": 2, "groups": COLORS, "log_q": log_q, "show_progress": False}
    pre.contrastive_tune(encoder, TEXTS, pairs, "adapter", **options)
    (right, right_q), (left, left_q) = seen
    assert sorted(right.tolist()) == [1, 3] and sorted(left.tolist()) == [0, 2]
    assert sorted(right_q.tolist()) == pytest.approx(sorted(log_q[[17, 50]]))
    assert sorted(left_q.tolist()) == pytest.approx(sorted(log_q[[0, 33]]))


def test_wrong_pairs(encoder):
    for pairs, mode in (([[0, 999]], "whole"), ([[0, 1, 2]], "whole"), ([[0, 1]], "half")):
        with pytest.raises(ValueError):
            pre.contrastive_tune(encoder, TEXTS, np.array(pairs), mode, show_progress=False)
