"""Compression against brute force, torch's own quantiser and hand-computed counts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

torch = pytest.importorskip("torch")

from recsys_lib import compression as c
from recsys_lib.encoders import TextEncoder

TEXTS = ["A comedy in space", "a war drama", "Two friends drive to Paris", "space war", "children and a dog"]


@pytest.fixture(scope="module")
def encoder():
    return TextEncoder.random_bert(seed=0, size="mini", pooling="mean")


@settings(max_examples=30, deadline=None)
@given(arrays(np.float32, (4, 6), elements=st.floats(-50, 50, width=32)), st.booleans())
def test_codes_are_within_half_a_step(x, rows):
    codes, step = c.quantise(torch.from_numpy(x), rows)
    assert codes.dtype == torch.int8 and codes.min() >= -127
    assert ((codes * step - torch.from_numpy(x)).abs() <= step * 0.5001 + 1e-12).all()


def test_quantise_is_torchs_rounding():
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))
    codes, step = c.quantise(x, rows=True)
    for row in range(5):
        theirs = torch.fake_quantize_per_tensor_affine(x[row], float(step[row]), 0, -127, 127)
        torch.testing.assert_close(theirs, codes[row] * step[row])


@pytest.mark.parametrize("grain", ["row", "tensor"])
@pytest.mark.parametrize("activations", ["none", "dynamic", "static"])
@pytest.mark.parametrize("integers", [True, False])
def test_linear_layer_is_integer_arithmetic(activations, grain, integers, monkeypatch):
    monkeypatch.setattr(c, "INTEGER_PRODUCTS", integers and c.INTEGER_PRODUCTS)
    torch.manual_seed(1)
    layer, x = torch.nn.Linear(16, 4), torch.randn(3, 2, 16)
    largest = float(x.abs().max()) * 0.8
    ours = c.Int8Linear(layer, activations, grain, largest)(x)
    W = layer.weight.detach().numpy().astype(float)
    top = np.abs(W).max(axis=1, keepdims=True) if grain == "row" else np.abs(W).max()
    Wq, a = np.round(W / (top / 127)), x.numpy().astype(float)
    if activations == "none":
        aq, sa = a, 1.0
    elif activations == "static":
        sa = largest / 127
        aq = np.clip(np.round(a / sa), -127, 127)
    else:
        sa = (np.abs(a).max(axis=-1, keepdims=True) if grain == "row" else np.abs(a).max()) / 127
        aq = np.round(a / sa)
    steps = (top / 127).ravel() if grain == "row" else top / 127
    expected = (aq @ Wq.T) * sa * steps + layer.bias.detach().numpy()
    np.testing.assert_allclose(ours.detach().numpy(), expected, atol=2e-3 if activations != "none" else 1e-5)


def test_wrong_requests_are_refused(encoder):
    layer = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="activations"):
        c.Int8Linear(layer, "sometimes")
    with pytest.raises(ValueError, match="largest"):
        c.Int8Linear(layer, "static")
    with pytest.raises(ValueError, match="quantile"):
        c.largest_inputs(encoder, TEXTS, 0)
    with pytest.raises(ValueError, match="layers"):
        c.first_layers(encoder, 7)


def test_the_given_encoder_is_not_changed(encoder):
    before = encoder.encode(TEXTS, show_progress=False)
    for new in (
        c.int8_encoder(encoder, embeddings=True),
        c.bfloat16_encoder(encoder),
        c.first_layers(encoder, 1),
    ):
        assert np.abs(new.encode(TEXTS, show_progress=False) - before).max() > 1e-5
    np.testing.assert_array_equal(encoder.encode(TEXTS, show_progress=False), before)


def test_rounding_changes_the_vectors_little(encoder):
    exact = encoder.encode(TEXTS, show_progress=False)
    for new in (c.int8_encoder(encoder, embeddings=True), c.bfloat16_encoder(encoder)):
        assert np.corrcoef(new.encode(TEXTS, show_progress=False).ravel(), exact.ravel())[0, 1] > 0.999
    halves = c.bfloat16_encoder(encoder).model.parameters()
    for half, whole in zip(halves, encoder.model.parameters(), strict=True):
        assert torch.equal(half.float(), whole.bfloat16().float())


def test_first_layers_are_the_hidden_states(encoder):
    ids = encoder.tokenizer(TEXTS[0], return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        states = encoder.model(input_ids=ids, output_hidden_states=True).hidden_states
    for layers in (0, 2, 6):
        ours = c.first_layers(encoder, layers).encode(TEXTS[:1], show_progress=False)[0]
        np.testing.assert_allclose(ours, states[layers][0].mean(0).numpy(), atol=1e-5)


def test_ranges_are_the_largest_inputs(encoder):
    found = c.largest_inputs(encoder, TEXTS)
    assert set(found) == set(c.linear_layers(encoder.model)) and len(found) == 36
    assert all(c.largest_inputs(encoder, TEXTS, 0.9)[name] < value for name, value in found.items())
    words = ("comedy", "drama", "space", "war", "friends", "dog", "children")
    texts = [f"{a} {b}" for a in words for b in words]  # all of one length, more than a batch
    ids = encoder.tokenizer(texts, return_tensors="pt")
    with torch.inference_mode():
        states = encoder.model(**ids, output_hidden_states=True).hidden_states
    many = c.largest_inputs(encoder, texts)
    for layer in range(6):
        assert many[f"encoder.layer.{layer}.attention.self.query"] == pytest.approx(
            float(states[layer].abs().max()), rel=1e-4
        )
    static = c.int8_encoder(encoder, "static", "row", found).encode(TEXTS, show_progress=False)
    exact = encoder.encode(TEXTS, show_progress=False)
    assert np.corrcoef(static.ravel(), exact.ravel())[0, 1] > 0.99


def test_costs_are_counted(encoder):
    layer = 4 * 384**2 + 2 * 384 * 1536
    assert c.multiply_adds(encoder.model) == 6 * layer
    assert c.multiply_adds(c.first_layers(encoder, 2).model) == 2 * layer
    assert c.multiply_adds(c.int8_encoder(encoder).model) == 6 * layer
    assert c.weight_bytes(encoder.model) == 4 * sum(p.numel() for p in encoder.model.parameters())
    rounded = c.weight_bytes(c.int8_encoder(encoder).model)
    outputs = 6 * (5 * 384 + 1536)
    assert c.weight_bytes(encoder.model) - rounded == 3 * 6 * layer - 4 * outputs


def test_item_codes():
    x = np.random.default_rng(0).normal(size=(20, 12))
    codes, steps = c.int8_codes(x)
    assert codes.dtype == np.int8 and np.abs(codes * steps - x).max() <= steps.max() * 0.51
    bits = c.binary_codes(x)
    assert bits.shape == (20, 2)
    signs = np.where(x > 0, 1, -1)
    np.testing.assert_array_equal(c.hamming(bits, bits), (12 - signs @ signs.T) // 2)
    with pytest.raises(ValueError, match="width"):
        c.hamming(bits, bits[:, :1])


def test_neighbours_kept_is_a_count():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(30, 5)), rng.normal(size=(30, 5))

    def nearest(x, i):
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        return set([j for j in np.argsort(-(unit @ unit[i])) if j != i][:4])

    expected = np.mean([len(nearest(a, i) & nearest(b, i)) / 4 for i in range(30)])
    assert c.neighbours_kept(a, b, 4) == pytest.approx(expected)
    assert c.neighbours_kept(3 * a, a, 4) == 1
    with pytest.raises(ValueError, match="same number"):
        c.neighbours_kept(a, b[:20], 4)


def test_static_model_is_a_weighted_mean(encoder):
    pytest.importorskip("model2vec")
    model = c.static_model(encoder, dims=4, texts=TEXTS)
    ids = encoder.tokenizer(TEXTS[1], add_special_tokens=False)["input_ids"]
    mean = model.embedding[ids].astype(float).mean(0)
    np.testing.assert_allclose(model.encode(TEXTS[1]), mean / np.linalg.norm(mean), atol=2e-3)
    words = np.unique(np.concatenate(encoder.tokenizer(TEXTS, add_special_tokens=False)["input_ids"]))
    vectors = c.token_vectors(encoder, words)
    alone = encoder.encode([encoder.tokenizer.decode([words[-1]])], show_progress=False)[0]
    np.testing.assert_allclose(vectors[-1], alone, atol=1e-5)
    middle = (vectors - vectors.mean(0)).astype(float)
    ours = model.embedding[words].astype(float) / c.frequency_weights(len(encoder.tokenizer))[words, None]
    basis = np.linalg.svd(middle, full_matrices=False)[2][:4]
    np.testing.assert_allclose(np.abs(ours), np.abs(middle @ basis.T), atol=2e-2)


def test_rare_tokens_weigh_more():
    weights = c.frequency_weights(1000, 1e-2)
    assert (np.diff(weights) > 0).all() and weights[-1] < 1
    p = (1 / 2) / sum(1 / r for r in range(2, 1002))
    assert weights[0] == pytest.approx(1e-2 / (1e-2 + p))
    with pytest.raises(ValueError, match="positive"):
        c.frequency_weights(10, 0)
