"""Contributions against models fitted anew, attributions against autograd by hand, sentences against their template."""

import copy

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("captum")
transformers = pytest.importorskip("transformers")

from recsys_lib.datasets import Interactions
from recsys_lib.encoders import TextEncoder
from recsys_lib.explain import (
    Explainer,
    TokenAttributions,
    clean_title,
    masked_scores,
    quoted_titles,
    sentence,
    token_attributions,
)
from recsys_lib.models import EASE, ContentModel, ItemKNN, Popularity, RidgeToScores
from recsys_lib.models.base import profile_matrix

N_USERS, N_ITEMS = 30, 12
RNG = np.random.default_rng(5)
VECTORS = RNG.standard_normal((N_ITEMS, 4))
MODELS = {
    "EASE": lambda: EASE(20.0, decay=0.8),
    "ItemKNN": lambda: ItemKNN(5, 2.0, decay=0.7),
    "ridge": lambda: RidgeToScores(VECTORS, None, 2.0),
    "ridge to EASE": lambda: RidgeToScores(VECTORS, EASE(20.0, decay=0.8), 2.0),
    "kernel ridge": lambda: RidgeToScores(VECTORS, ItemKNN(5, 2.0, decay=0.7), 0.5, gamma=0.7),
    "content": lambda: ContentModel(VECTORS, decay=0.6),
    "content, last 2": lambda: ContentModel(VECTORS, last=2),
}


def interactions() -> Interactions:
    """Thirty users with 3 to 8 of the first eleven items, in a random order; nobody met the twelfth."""
    rows = [
        (user, item, step)
        for user in range(N_USERS)
        for step, item in enumerate(RNG.permutation(N_ITEMS - 1)[: RNG.integers(3, 9)])
    ]
    return Interactions(pd.DataFrame(rows, columns=["user", "item", "timestamp"]), N_USERS, N_ITEMS)


TRAIN = interactions()
HISTORIES = TRAIN.histories()


@pytest.mark.parametrize("name", MODELS)
def test_contributions_sum_to_the_score(name: str) -> None:
    model = MODELS[name]().fit(TRAIN)
    scores, explainer = model.score(np.arange(N_USERS)), Explainer(model)
    for user, history in enumerate(HISTORIES):
        for item in (0, 7, N_ITEMS - 1):
            terms = explainer.contributions(history, item)
            assert sorted(terms.index) == sorted(history)
            assert terms.is_monotonic_decreasing
            assert terms.sum() == pytest.approx(scores[user, item], abs=1e-5)
    np.testing.assert_allclose(explainer.scores(HISTORIES), scores, atol=1e-5)


def test_a_term_by_hand() -> None:
    model = EASE(20.0, decay=0.8).fit(TRAIN)
    history = HISTORIES[3]
    second = Explainer(model).contributions(history, 2)[history[-2]]
    assert second == pytest.approx(0.8 * model.weights[history[-2], 2], abs=1e-7)


def scores_of(model: object, train: Interactions) -> np.ndarray:
    """What the fitted model says of users with other histories: the ridge in its dual form, the rest as it is."""
    if isinstance(model, RidgeToScores):
        given = train.matrix().toarray() if model.base is None else scores_of(model.base, train)
        given = given[:, model.warm] - given[:, model.warm].mean(axis=1, keepdims=True)
        distance = ((model.vectors[model.warm][:, None] - model.vectors[None]) ** 2).sum(axis=2)
        kernel = model.vectors[model.warm] @ model.vectors.T
        if model.gamma is not None:
            kernel = np.exp(-model.gamma * distance)
        square = kernel[:, model.warm] + model.regularization * np.eye(len(model.warm))
        return given @ np.linalg.inv(square) @ kernel
    other = copy.copy(model)
    other.profiles = profile_matrix(train, model.decay, getattr(model, "last", None))
    return other.score(np.arange(N_USERS))


@pytest.mark.parametrize("name", MODELS)
def test_scores_of_other_histories(name: str) -> None:
    model = MODELS[name]().fit(TRAIN)
    rows = TRAIN.frame.groupby("user").sample(frac=0.5, random_state=1).sort_index()
    half = Interactions(rows.reset_index(drop=True), N_USERS, N_ITEMS)
    found = Explainer(model).scores(half.histories())
    np.testing.assert_allclose(found, scores_of(model, half), atol=1e-5)
    assert not np.allclose(found, scores_of(model, TRAIN), atol=1e-2)


def test_a_history_of_nothing_scores_nothing() -> None:
    explainer = Explainer(ContentModel(VECTORS).fit(TRAIN))
    assert not explainer.scores([[]]).any() and explainer.contributions([], 0).empty


def test_what_cannot_be_explained_says_so() -> None:
    with pytest.raises(TypeError, match="Popularity has no exact contributions"):
        Explainer(Popularity().fit(TRAIN))
    with pytest.raises(TypeError, match="ContentModel"):
        Explainer(RidgeToScores(VECTORS, ContentModel(VECTORS)).fit(TRAIN))
    with pytest.raises(RuntimeError, match="call fit"):
        Explainer(EASE())
    with pytest.raises(ValueError, match="each item once"):
        Explainer(EASE().fit(TRAIN)).contributions([1, 2, 1], 0)


# --- tokens

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "red",
    "blue",
    "green",
    "tea",
    "cup",
    "shoe",
    "warm",
    "##er",
    "cold",
]
TEXT = "warmer red cup"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    file = tmp_path_factory.mktemp("bert") / "vocab.txt"
    file.write_text("\n".join(WORDS))
    tokenizer = transformers.BertTokenizerFast.from_pretrained(file.parent)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        initializer_range=0.3,
    )
    return TextEncoder(transformers.BertModel(config, add_pooling_layer=False), tokenizer)


def target(encoder: TextEncoder) -> np.ndarray:
    return encoder.encode(["cold blue tea"], show_progress=False)[0]


@pytest.mark.parametrize("centred", [False, True])
def test_attributions_sum_to_the_difference(encoder: TextEncoder, centred: bool) -> None:
    mean = np.full(16, 0.1) if centred else None
    found = token_attributions(encoder, TEXT, target(encoder), mean=mean, steps=200)
    assert found.tokens == ["[CLS]", "warm", "##er", "red", "cup", "[SEP]"]
    assert found.values[[0, -1]] == pytest.approx([0, 0], abs=1e-12)
    assert abs(found.gap) < 1e-5 < abs(found.score - found.baseline)
    vectors = encoder.encode([TEXT], show_progress=False)[0] - (0.1 if centred else 0.0)
    other = target(encoder) - (0.1 if centred else 0.0)
    cosine = vectors @ other / np.linalg.norm(vectors) / np.linalg.norm(other)
    assert found.score == pytest.approx(cosine, abs=1e-6)


def test_attributions_are_the_integral_of_the_gradient(encoder: TextEncoder) -> None:
    """The midpoint rule with autograd, over the path from the masked text."""
    ids = torch.tensor([encoder.tokenizer(TEXT)["input_ids"]])
    masked = torch.tensor([[2, 4, 4, 4, 4, 3]])
    table, goal = encoder.model.get_input_embeddings(), torch.tensor(target(encoder))
    start, end = table(masked).detach(), table(ids).detach()
    total, n = torch.zeros(6), 400
    for step in range(n):
        point = (start + (end - start) * (step + 0.5) / n).requires_grad_(True)
        vector = encoder.model(inputs_embeds=point).last_hidden_state.mean(dim=1)
        torch.nn.functional.cosine_similarity(vector[0], goal, dim=0).backward()
        total += (point.grad * (end - start)).sum(dim=2)[0] / n
    found = token_attributions(encoder, TEXT, goal.numpy(), steps=200)
    np.testing.assert_allclose(found.values, total.numpy(), atol=1e-4)


def test_masked_scores_are_those_of_masked_texts(encoder: TextEncoder) -> None:
    found = masked_scores(encoder, TEXT, target(encoder), [[], [3], [1, 2, 3, 4]])
    full = token_attributions(encoder, TEXT, target(encoder), steps=2)
    texts = [TEXT, "warmer [MASK] cup", "[MASK] [MASK] [MASK] [MASK]"]
    vectors = encoder.encode(texts, show_progress=False)
    cosines = vectors @ target(encoder) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(target(encoder))
    np.testing.assert_allclose(found, cosines, atol=1e-6)
    assert [full.score, full.baseline] == pytest.approx(found[[0, 2]], abs=1e-6)


def test_words_join_their_parts() -> None:
    parts = TokenAttributions(
        ["[CLS]", "warm", "##er", "tea", "[SEP]"], np.array([0, 0.25, 0.5, -1, 0]), 1, 0
    )
    assert parts.words().to_dict() == {"warmer": 0.75, "tea": -1.0}
    assert parts.gap == pytest.approx(-1.25)


def test_token_errors(encoder: TextEncoder) -> None:
    with pytest.raises(ValueError, match="shape"):
        token_attributions(encoder, TEXT, np.zeros(3))
    half = copy.copy(encoder)
    half.dtype = "bfloat16"
    with pytest.raises(ValueError, match="float32"):
        masked_scores(half, TEXT, target(encoder), [[]])


# --- sentences


def test_sentences() -> None:
    assert sentence("Heat", ["Fargo"]) == "Recommended because you watched “Fargo”: “Heat”."
    assert sentence("A", ["B", "C", "D"]) == "Recommended because you watched “B”, “C” and “D”: “A”."
    assert sentence("A", ["B", "C", "D"], "zh") == "因为你看过《B》、《C》和《D》，所以推荐《A》。"
    for wrong in ({"reasons": []}, {"reasons": ["B"], "language": "fr"}):
        with pytest.raises(ValueError, match="reason"):
            sentence("A", **wrong)


@given(st.text(), st.lists(st.text(), min_size=1, max_size=3), st.sampled_from(["en", "zh"]))
@example("Heat”. Ignore this.\nReason: “buy”", ["A “B” C"], "en")
@example("热》。别管这些《", ["甲《乙》"], "zh")
def test_a_title_can_only_be_quoted(title: str, reasons: list[str], language: str) -> None:
    """Whatever titles hold: one line, and as many quotations as there are titles, none of them longer than 80."""
    text = sentence(title, reasons, language)
    assert text.isprintable()
    left, right = ("“", "”") if language == "en" else ("《", "》")
    assert text.count(left) == text.count(right) == len(reasons) + 1
    pieces = text.split(left)[1:]
    assert all(len(piece.split(right)[0]) <= 80 for piece in pieces)
    words = sentence("", [""] * len(reasons), language)
    assert "".join(piece.split(right)[1] for piece in pieces) == "".join(
        piece.split(right)[1] for piece in words.split(left)[1:]
    )


@given(st.text())
def test_cleaning_twice_changes_nothing(title: str) -> None:
    assert clean_title(clean_title(title)) == clean_title(title)


def test_titles_are_read_back() -> None:
    assert quoted_titles('You saw "Heat", “Emma” and 《星球大战》.') == ["Heat", "Emma", "星球大战"]
    assert quoted_titles('no quotation, and a lone " mark') == []
