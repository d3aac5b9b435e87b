"""Reasons that can be checked: exact contributions of a history, attributions to tokens, sentences from facts.

Nothing here asks a language model why. A contribution is a term of the score, an attribution a share of a
difference, a sentence a template filled in by code. Only ``token_attributions`` and ``masked_scores`` need torch;
the former also needs captum.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from recsys_lib.models.cold_start import RidgeToScores
from recsys_lib.models.content import ContentModel
from recsys_lib.models.ease import EASE
from recsys_lib.models.neighbours import ItemKNN

if TYPE_CHECKING:
    from recsys_lib.encoders import TextEncoder

LINEAR = "EASE, ItemKNN, ContentModel, and RidgeToScores on EASE, ItemKNN or nothing"


class Explainer:
    """Exact contributions of the items of a history to the scores of a linear model.

    The score of item i is the sum over the history of p_j M_ji, with p_j the item's weight (decay^steps back)
    and M the model's item-to-item matrix; the term of j is its contribution. M is EASE's weights or ItemKNN's
    similarities. For RidgeToScores it is the base model's matrix (without a base the identity), each row less
    its mean over the warm items, times the ridge's map from warm scores to all items. For ContentModel M holds
    the cosines between items, and the sum is divided by the length of the profile: that length belongs to all
    of the history, so taking an item away changes the other terms too.

    Parameters
    ----------
    model : fitted EASE, ItemKNN, ContentModel, or RidgeToScores on EASE, ItemKNN or nothing

    Attributes
    ----------
    weights : array (n_items, n_items)
        M: row j, column i is what item j does for item i.

    Raises
    ------
    RuntimeError
        If the model was not fitted.
    TypeError
        If the model's scores are not a sum over the history, or no rule for it is known here.
    """

    def __init__(self, model: Any) -> None:
        self.weights = _item_to_item(model)
        base: Any = model.base if isinstance(model, RidgeToScores) else model
        self.decay: float = 1.0 if base is None else base.decay
        self.last: int | None = getattr(model, "last", None)
        self._unit = model.item_vectors if isinstance(model, ContentModel) else None

    def contributions(self, history: ArrayLike, item: int) -> pd.Series:
        """What each item of a history, given oldest first, adds to the score of ``item``; they sum to the score.

        Returns
        -------
        pandas.Series
            Largest first, indexed by item code; an item that the model does not look at has 0.
        """
        items, profile = self._profile(history)
        terms = profile * self.weights[items, item] / self._length(items, profile)
        return pd.Series(terms, index=items).sort_values(ascending=False, kind="stable")

    def scores(self, histories: Sequence[ArrayLike]) -> NDArray[np.float64]:
        """Scores of all items for any histories, such as a user's with an item taken out: (n, n_items)."""
        scores = np.zeros((len(histories), self.weights.shape[1]))
        for row, history in enumerate(histories):
            items, profile = self._profile(history)
            scores[row] = profile @ self.weights[items] / self._length(items, profile)
        return scores

    def _profile(self, history: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        items = np.asarray(history, dtype=np.int64).reshape(-1)
        if len(np.unique(items)) != len(items):
            raise ValueError("a history may hold each item once")
        steps_back = np.arange(len(items) - 1, -1, -1)
        profile = self.decay ** steps_back.astype(np.float64)
        return items, profile if self.last is None else profile * (steps_back < self.last)

    def _length(self, items: NDArray[np.int64], profile: NDArray[np.float64]) -> float:
        if self._unit is None:
            return 1.0
        return float(np.linalg.norm(profile @ self._unit[items])) or 1.0


def _item_to_item(model: Any) -> NDArray[np.float64]:
    if not isinstance(model, EASE | ItemKNN | ContentModel | RidgeToScores):
        raise TypeError(f"{type(model).__name__} has no exact contributions here; {LINEAR} have")
    if model.n_users is None:
        raise RuntimeError(f"{type(model).__name__} cannot explain before fit: call fit(train) first")
    if isinstance(model, EASE):
        return model.weights.astype(np.float64)
    if isinstance(model, ItemKNN):
        return model.similarity.astype(np.float64)
    if isinstance(model, ContentModel):
        return np.asarray(model.item_vectors @ model.item_vectors.T)
    if isinstance(model.base, ContentModel):
        raise TypeError("RidgeToScores on ContentModel is not a sum over the history")
    warm = model.vectors[model.warm]
    base = np.eye(len(model.vectors)) if model.base is None else _item_to_item(model.base)
    start = base[:, model.warm] - base[:, model.warm].mean(axis=1, keepdims=True)
    if model.gamma is None:
        gram = warm.T @ warm + model.regularization * np.eye(warm.shape[1])
        return np.asarray(start @ np.linalg.solve(gram, warm.T).T @ model.features.T)
    gram = model.features[model.warm] + model.regularization * np.eye(len(warm))
    return np.asarray(start @ np.linalg.solve(gram, model.features.T))


@dataclass(frozen=True)
class TokenAttributions:
    """Shares of a text's tokens in a difference of cosines.

    ``tokens`` and ``values`` go together, special tokens included (their value is 0: they stay in the baseline);
    ``score`` is the text's cosine, ``baseline`` that of the same text with every other token masked.
    """

    tokens: list[str]
    values: NDArray[np.float64]
    score: float
    baseline: float

    @property
    def gap(self) -> float:
        """How far the sum of the values is from score - baseline: the numerical integral's error."""
        return float(self.values.sum() - (self.score - self.baseline))

    def words(self) -> pd.Series:
        """Values of whole words, in order: parts that begin with ## are added to what they continue."""
        names: list[str] = []
        sums: list[float] = []
        for token, value in zip(self.tokens[1:-1], self.values[1:-1], strict=True):
            if token.startswith("##") and names:
                names[-1] += token[2:]
                sums[-1] += value
            else:
                names.append(token)
                sums.append(value)
        return pd.Series(sums, index=names)


def token_attributions(
    encoder: TextEncoder, text: str, vector: ArrayLike, *, mean: ArrayLike | None = None, steps: int = 32
) -> TokenAttributions:
    """Integrated gradients of the cosine between a text and a vector, token by token.

    The path leads from the text with every token masked ([CLS] and [SEP] stay) to the text, in the space of word
    embeddings; the values sum to the difference of the two cosines (completeness) up to the integral's error,
    which ``gap`` gives: raise ``steps`` until it is small. The integral is captum's, by Gauss-Legendre nodes.

    Parameters
    ----------
    encoder : TextEncoder
        In float32, with a tokenizer that has a mask token.
    text : str
    vector : array (d,)
        What the text is compared with, an item or a profile; not centred.
    mean : array (d,), optional
        Subtracted from both sides before the cosine: the catalogue's mean, for centred cosines.
    steps : int, > 0
        Nodes of the integral, each a forward and a backward pass.

    Raises
    ------
    ValueError
        If shapes do not fit, the encoder is in bfloat16, or its tokenizer has no mask token.
    """
    from captum.attr import IntegratedGradients

    ids, masked, cosine = _cosine_of_embeddings(encoder, text, vector, mean)
    table = encoder.model.get_input_embeddings()
    start, end = table(masked).detach(), table(ids).detach()
    shares = IntegratedGradients(cosine).attribute(end, start, n_steps=steps, internal_batch_size=64)
    return TokenAttributions(
        encoder.tokenizer.convert_ids_to_tokens(ids[0]),
        shares[0].sum(dim=1).double().numpy(),
        float(cosine(end)[0].detach()),
        float(cosine(start)[0].detach()),
    )


def masked_scores(
    encoder: TextEncoder,
    text: str,
    vector: ArrayLike,
    masks: Iterable[Sequence[int]],
    *,
    mean: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Cosines of the text with some of its tokens masked: one for each set of token positions.

    Positions count from 0 with the special tokens, as in `TokenAttributions`; an empty set masks nothing.
    """
    import torch

    ids, masked, cosine = _cosine_of_embeddings(encoder, text, vector, mean)
    rows = []
    for positions in masks:
        row = ids[0].clone()
        row[list(positions)] = masked[0][list(positions)]
        rows.append(row)
    with torch.no_grad():
        return cosine(encoder.model.get_input_embeddings()(torch.stack(rows))).double().numpy()


def _cosine_of_embeddings(
    encoder: TextEncoder, text: str, vector: ArrayLike, mean: ArrayLike | None
) -> tuple[Any, Any, Callable[[Any], Any]]:
    """Token ids, the same with content masked, both (1, tokens), and embeddings (n, tokens, d) -> cosines (n,)."""
    import torch

    from recsys_lib.encoders import pool

    if encoder.dtype != "float32" or encoder.tokenizer.mask_token_id is None:
        raise ValueError("attributions need an encoder in float32 whose tokenizer has a mask token")
    target = torch.as_tensor(np.asarray(vector, dtype=np.float32))
    middle = torch.as_tensor(np.zeros(len(target)) if mean is None else np.asarray(mean), dtype=torch.float32)
    if target.shape != (encoder.dimension,) or middle.shape != target.shape:
        raise ValueError(f"vector and mean must have shape ({encoder.dimension},)")
    ids = torch.tensor([encoder._token_ids([text])[0]])
    special = encoder.tokenizer.get_special_tokens_mask(ids[0].tolist(), already_has_special_tokens=True)
    masked = torch.where(torch.tensor([special]) == 1, ids, encoder.tokenizer.mask_token_id)

    def cosine(embeddings: Any) -> Any:
        mask = torch.ones(embeddings.shape[:2], dtype=torch.long)
        hidden = encoder.model(inputs_embeds=embeddings, attention_mask=mask).last_hidden_state
        vectors = pool(hidden, mask, encoder.pooling) - middle
        return torch.nn.functional.cosine_similarity(vectors, target - middle, dim=1)

    return ids, masked, cosine


SENTENCES = {
    "en": ("Recommended because you watched {reasons}: “{title}”.", "“{}”", ", ", " and "),
    "zh": ("因为你看过{reasons}，所以推荐《{title}》。", "《{}》", "、", "和"),
}
_LIMIT = 80


def clean_title(title: str) -> str:
    """A title fit to be quoted: one line, no control characters, no quotation marks, at most 80 characters."""
    plain = "".join(c if c.isprintable() else " " for c in title)
    plain = " ".join(re.sub(r"[\"“”《》]", "", plain).split())
    return plain if len(plain) <= _LIMIT else plain[: _LIMIT - 1].rstrip() + "…"


def sentence(title: str, reasons: Sequence[str], language: str = "en") -> str:
    """The reason as a sentence, by a template: titles are quoted, nothing of them can be more than quoted.

    Raises
    ------
    ValueError
        If there is no reason, or no template in that language.
    """
    if language not in SENTENCES or not reasons:
        raise ValueError(f"one reason at least and a language of {', '.join(SENTENCES)} are needed")
    frame, quote, comma, last = SENTENCES[language]
    quoted = [quote.format(clean_title(reason)) for reason in reasons]
    names = last.join(filter(None, [comma.join(quoted[:-1]), quoted[-1]]))
    return frame.format(reasons=names, title=clean_title(title))


def quoted_titles(text: str) -> list[str]:
    """What stands between quotation marks (straight, curly, or 《》) in a text, in order."""
    return [
        next(filter(None, found)).strip() for found in re.findall(r'"([^"]+)"|“([^”]+)”|《([^》]+)》', text)
    ]
