"""An honest table of a reader's own data, and the recommender that it measured, explained and saved without pickle.

``evaluate_own`` measures random, popularity, EASE-recency, text and their fusion; ``fit_own`` fits the fusion on all
rows with the settings that were chosen.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from recsys_lib.datasets.interactions import DataError, Interactions
from recsys_lib.evaluation import Report, Result, _bootstrap, _interval, evaluate, smallest_detectable
from recsys_lib.explain import Explainer
from recsys_lib.geometry import center, cosine, normalize
from recsys_lib.models import EASE, ContentModel, Popularity, RandomModel, RidgeToScores, WeightedFusion
from recsys_lib.models.base import profile_matrix
from recsys_lib.models.hybrid import _zscores
from recsys_lib.own_data import Note, OwnData, say
from recsys_lib.splits import cold_item_split, leave_one_out

REGULARIZATION = (10.0, 50.0, 200.0, 800.0)
DECAY = (1.0, 0.95, 0.85, 0.7)
RIDGE = (0.1, 0.3, 1.0, 3.0)
NEW_MIXES = ((1.0, 0.0), (0.0, 1.0), (1.0, 0.3), (1.0, 1.0))
CONTROL = "fusion, texts shuffled 打乱文本"
SHARES = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)
_EASE = {True: "EASE-recency 近期加权", False: "EASE"}
CHOOSE_ON = 2000  # users of the validation part, at most, on whom settings are chosen
ENOUGH = 10  # users; with fewer, a bootstrap interval is too narrow to prove anything


@dataclass(frozen=True)
class Settings:
    """What was chosen on validation parts; ``mix`` weighs (EASE, text, popularity), ``new_mix`` (ridge, text)."""

    regularization: float = 200.0
    decay: float = 1.0
    text_decay: float = 1.0
    mix: tuple[float, float, float] = (1.0, 0.0, 0.0)
    ridge: float = 1.0
    new_mix: tuple[float, float] = (1.0, 0.0)


@dataclass
class HonestTable:
    """What ``evaluate_own`` measured: two reports (None where skipped), notes, settings, and plain verdicts."""

    warm: Report | None = None
    cold: Report | None = None
    notes: list[Note] = field(default_factory=list)
    verdicts: list[Note] = field(default_factory=list)
    settings: Settings = field(default_factory=Settings)

    def text(self, language: str = "en") -> str:
        """Everything as text for a terminal, in ``"en"`` or ``"zh"``."""
        reports = [repr(report) for report in (self.warm, self.cold) if report is not None]
        lines = ["- " + getattr(note, language) for note in self.notes + self.verdicts]
        return "\n\n".join([*reports, "\n".join(lines)])


# --- The honest table


def evaluate_own(
    data: OwnData,
    vectors: NDArray | None = None,
    *,
    k: int = 10,
    seed: int = 0,
    cold_seeds: int = 5,
    max_items: int = 6000,
) -> HonestTable:
    """Measure random, popularity, EASE-recency, text and fusion on held-out rows and on held-out items.

    Warm: leave-one-out, by time where there is time. Every setting is chosen on the validation part, then the
    model is fitted again with it and tested once. Cold: a fifth of the items is held out, ``cold_seeds`` times;
    EASE's settings are those of the warm part. A control row has the texts shuffled among the items and everything
    chosen anew.

    Parameters
    ----------
    vectors : array (n_items, d), optional
        From ``encode_own``; None leaves the rows with text out.
    max_items : int
        Above, EASE, whose memory grows with the square of this number, is left out.
    """
    rows = data.dataset.interactions if data.ordered else shuffled_rows(data.dataset.interactions, seed)
    ease = rows.n_items <= max_items
    table = HonestTable(notes=list(data.notes))
    bench = _Bench(rows, data.ordered, vectors, data.described, k, seed, ease, table)
    if not ease:
        limit = f"max_items = {max_items}"
        say(
            bench.table.notes,
            f"EASE is skipped: {rows.n_items} items, above {limit}.",
            f"略去 EASE：物品 {rows.n_items} 件，超过 {limit}。",
        )
    bench.warm()
    bench.cold(range(seed, seed + cold_seeds))
    return bench.table


def shuffled_rows(rows: Interactions, seed: int) -> Interactions:
    """Each user's rows in a random order: without times, no row is the last."""
    order = np.random.default_rng(seed).permutation(len(rows))
    return Interactions(rows.frame.iloc[order].reset_index(drop=True), rows.n_users, rows.n_items)


def _shuffled(vectors: NDArray, described: NDArray[np.bool_], seed: int) -> NDArray:
    """Vectors shuffled among the items that have a text."""
    order = np.arange(len(vectors))
    order[described] = np.random.default_rng(seed).permutation(order[described])
    return vectors[order]


def _sample(part: Interactions) -> Interactions:
    """Rows of at most ``CHOOSE_ON`` users, drawn at random."""
    users = np.unique(part.users)
    if len(users) > CHOOSE_ON:
        drawn = np.random.default_rng(0).choice(users, CHOOSE_ON, replace=False)
        part = part.select(np.isin(part.users, drawn))
    return part


def _best(options: Sequence[Any], value: Callable[[Any], float]) -> Any:
    """The first of the options whose value is largest."""
    return options[int(np.argmax([value(option) for option in options]))]


def _mixes(ease: bool, text: bool) -> list[tuple[float, float, float]]:
    """Weights of (EASE, text, popularity) to choose from, the plainest first."""
    mixes = [(1.0, t, p) for p in (0.0, 0.2, 0.5) for t in SHARES] if ease else []
    mixes = [(0.0, 0.0, 1.0), (0.0, 1.0, 0.0), *mixes, *((0.0, 1.0, p) for p in (0.5, 1.0, 2.0))]
    return [mix for mix in mixes if text or mix[1] == 0]


def _centred(texts: NDArray) -> NDArray[np.float64]:
    """Centred; the mean that stands for a missing text is exactly zero, whatever rounding leaves: near nothing."""
    rows = center(texts)
    lengths = np.linalg.norm(rows, axis=1)
    rows[lengths < 1e-5 * lengths.max()] = 0.0
    return rows


def _ease(settings: Settings) -> EASE:
    return EASE(settings.regularization, settings.decay)


def _content(texts: NDArray, settings: Settings) -> ContentModel:
    return ContentModel(_centred(texts), decay=settings.text_decay)


def _mixture(models: Sequence[Any], weights: Sequence[float], **options: Any) -> WeightedFusion:
    """The fusion of the models that have a weight."""
    used = [(model, weight) for model, weight in zip(models, weights, strict=True) if weight]
    return WeightedFusion([model for model, _ in used], [weight for _, weight in used], **options)


@dataclass
class _Bench:
    """What is measured on: rows, vectors and which of them describe an item, and the table to fill in."""

    rows: Interactions
    ordered: bool
    vectors: NDArray | None
    described: NDArray[np.bool_]
    k: int
    seed: int
    ease: bool
    table: HonestTable

    def warm(self) -> None:
        """Fill in the warm report, its verdicts and the settings."""
        split, notes = leave_one_out(self.rows), self.table.notes
        if not len(split.test):
            say(notes, "The warm table is skipped: no user has 3 rows.", "略去常规评测表：没有用户达到三行。")
            self.table.settings = Settings(mix=(1.0, 0.0, 0.0) if self.ease else (0.0, 0.0, 1.0))
            return
        last, held = split.fit_part, _sample(split.validation)
        chosen = self.table.settings = self.choose(split.train, held, self.vectors)
        protocol = (
            split.protocol if self.ordered else f"leave-one-out: a random row of each user, seed {self.seed}"
        )
        report = Report(f"{protocol}; seen items masked, all {self.rows.n_items} items ranked; 常规评测")

        def add(name: str, model: Any) -> Result:
            result = evaluate(model.fit(last), split.test, seen=last, k=self.k, name=name)
            report.add(result)
            return result

        add("random 随机", RandomModel(self.seed))
        popular = add("popularity 热门", Popularity())
        if self.ease:
            add(_EASE[self.ordered], _ease(chosen))
        if self.vectors is not None:
            add("text 文本", _content(self.vectors, chosen))
        fusion = add("fusion 融合", self.fusion(self.vectors, chosen))
        self.table.warm = report
        _verdict(self.table, "warm: fusion − popularity", "常规：融合 − 热门", [fusion], [popular])
        if self.vectors is not None:
            shuffled = _shuffled(self.vectors, self.described, self.seed)
            control = add(CONTROL, self.fusion(shuffled, self.choose(split.train, held, shuffled)))
            en, zh = "warm: fusion − fusion with shuffled texts", "常规：融合 − 打乱文本的融合"
            _verdict(self.table, en, zh, [fusion], [control])
        names = ("EASE", "text", "popularity")
        parts = ", ".join(f"{w:g} × {name}" for name, w in zip(names, chosen.mix, strict=True) if w)
        few = len(held) < 200
        say(
            notes,
            f"Fusion, chosen on {len(held)} validation rows: {parts}."
            + few * " So few choose partly by chance.",
            f"融合的权重在 {len(held)} 行验证数据上选定：{parts}。" + few * "行数太少，选择带有运气成分。",
        )

    def fusion(self, texts: NDArray | None, settings: Settings) -> WeightedFusion:
        """The mix of the settings."""
        return _mixture(self.parts(texts, settings), settings.mix)

    def parts(self, texts: NDArray | None, settings: Settings) -> list[Any]:
        """Models in the order of a mix; None where one is missing."""
        text = None if texts is None else _content(texts, settings)
        return [_ease(settings) if self.ease else None, text, Popularity()]

    def choose(self, train: Interactions, held: Interactions, texts: NDArray | None) -> Settings:
        """Choose every setting of the warm recommender on held-out rows."""

        def value(model: Any) -> float:
            return evaluate(model, held, seen=train, k=self.k).mean()

        decays = DECAY if self.ordered else (1.0,)
        regularization = decay = text_decay = 1.0
        if self.ease:
            # together: the best decay depends on the regularization
            both = [(one, other) for one in REGULARIZATION for other in decays]
            regularization, decay = _best(both, lambda pair: value(EASE(*pair).fit(train)))
        if texts is not None:
            text_decay = _best(decays, lambda one: value(ContentModel(_centred(texts), decay=one).fit(train)))
        chosen = Settings(regularization, decay, text_decay)
        parts = [part and part.fit(train) for part in self.parts(texts, chosen)]
        mixes = _mixes(self.ease, texts is not None)
        mix = _best(mixes, lambda one: value(_mixture(parts, one, prefitted=True).fit(train)))
        return replace(chosen, mix=mix)

    def cold(self, seeds: Sequence[int]) -> None:
        """Fill in the report on held-out items."""
        why = None
        if self.vectors is None:
            why = "without text new items cannot be told apart", "没有文本，新物品无从区分"
        elif (self.rows.matrix().getnnz(axis=0) > 0).sum() < 20:
            why = "fewer than 20 items have interactions", "有交互的物品不到 20 件"
        elif not seeds:
            why = "no split of the items was asked for", "没有要求划分物品"
        drawn = [] if why else [(seed, cold_item_split(self.rows, seed)) for seed in seeds]
        drawn = [(seed, split) for seed, split in drawn if len(split.test) and len(split.validation)]
        if not drawn or self.vectors is None:
            why = why or ("too few rows", "行数太少")
            say(
                self.table.notes,
                f"The table of cold items is skipped: {why[0]}.",
                f"略去新物品评测表：{why[1]}。",
            )
            return
        results: dict[str, list[Result]] = {}
        for seed, split in drawn:
            last, items, settings = split.fit_part, split.candidates, self.table.settings
            # drawn anew for each split: one lucky order of few items would stand for all of them
            shuffled = _shuffled(self.vectors, self.described, seed)
            models: dict[str, Any] = {"random 随机": RandomModel(seed), "popularity 热门": Popularity()}
            if self.ease:
                models[_EASE[self.ordered]] = _ease(settings)
            models["text 文本"] = _content(self.vectors, settings)
            for name, texts in (("fusion 融合", self.vectors), (CONTROL, shuffled)):
                chosen = self.choose_new(split.train, split.validation, split.validation_candidates, texts)
                if name != CONTROL and seed == drawn[0][0]:
                    self.table.settings = chosen
                both = [self.ridge(texts, chosen), _content(texts, chosen)]
                models[name] = _mixture(both, chosen.new_mix, candidates=items)
            for name, model in models.items():
                result = evaluate(
                    model.fit(last), split.test, seen=last, candidates=items, k=self.k, name=name
                )
                results.setdefault(name, []).append(result)
        candidates = drawn[0][1].candidates
        number = 0 if candidates is None else len(candidates)
        about = f"{number} random items without any training row, only these ranked; {len(drawn)} splits"
        self.table.cold = Report(f"cold items: {about}; 新物品评测")
        for name, some in results.items():
            self.table.cold.add(some, name)
        if len(drawn) == 1:
            say(
                self.table.notes,
                "One split of the items is no basis for a verdict on new ones.",
                "物品只划分了一次，不足以对新物品下结论。",
            )
            return
        fusion = results["fusion 融合"]
        _verdict(self.table, "cold: fusion − random", "新物品：融合 − 随机", fusion, results["random 随机"])
        en, zh = "cold: fusion − fusion with shuffled texts", "新物品：融合 − 打乱文本的融合"
        _verdict(self.table, en, zh, fusion, results[CONTROL])

    def ridge(self, texts: NDArray, settings: Settings) -> RidgeToScores:
        """From texts to EASE's scores, or to the interactions where EASE is left out."""
        return RidgeToScores(texts, _ease(settings) if self.ease else None, settings.ridge, gamma=1.0)

    def choose_new(
        self, train: Interactions, held: Interactions, items: NDArray | None, texts: NDArray
    ) -> Settings:
        """Choose strength of the ridge and weights of (ridge, text) on held-out items."""
        held, old = _sample(held), self.table.settings

        def value(model: Any) -> float:
            return evaluate(model, held, seen=train, candidates=items, k=self.k).mean()

        ridge = _best(RIDGE, lambda one: value(self.ridge(texts, replace(old, ridge=one)).fit(train)))
        chosen = replace(old, ridge=ridge)
        both = [self.ridge(texts, chosen).fit(train), _content(texts, chosen).fit(train)]
        options = {"prefitted": True, "candidates": items}
        mix = _best(NEW_MIXES, lambda one: value(_mixture(both, one, **options).fit(train)))
        return replace(chosen, new_mix=mix)


def difference(a: Sequence[Result], b: Sequence[Result], seed: int = 0) -> tuple[float, float, float]:
    """Mean over users of a - b in NDCG, each user's averaged over the splits it is in, with a 95% interval.

    Unlike ``evaluation.compare`` the splits may test different users. 4,000 bootstrap resamples of users.
    """
    gaps = pd.concat([x.per_user["ndcg"] - y.per_user["ndcg"] for x, y in zip(a, b, strict=True)])
    each = gaps.groupby(level=0).mean().to_numpy()
    low, high = _interval(_bootstrap(each[:, None], 4000, seed), 0.95)
    return float(each.mean()), low, high


def over_splits(a: Sequence[Result], b: Sequence[Result]) -> tuple[float, float]:
    """95% interval of a - b in NDCG by Student's t over splits, which differ in their items too, not only users."""
    each = np.array([difference([x], [y])[0] for x, y in zip(a, b, strict=True)])
    half = student.ppf(0.975, len(each) - 1) * each.std(ddof=1) / np.sqrt(len(each))
    return float(each.mean() - half), float(each.mean() + half)


def _verdict(table: HonestTable, en: str, zh: str, a: Sequence[Result], b: Sequence[Result]) -> None:
    """Add a sentence on the difference of two rows: proven if all its intervals are on one side of 0.

    Fewer than ``ENOUGH`` users prove nothing.
    """
    users = len(a[0].per_user)
    if users < ENOUGH:
        few = f"not proven, too few users ({users})", f"未获证实，用户太少（{users} 位）"
        table.verdicts.append(Note(f"{en}: {few[0]}.", f"{zh}：{few[1]}。"))
        return
    mean, low, high = difference(a, b)
    numbers = f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]"
    if len(a) > 1:
        ends = over_splits(a, b)
        numbers += f", {len(a)} splits 种划分 [{ends[0]:+.4f}, {ends[1]:+.4f}]"
        low, high = min(low, ends[0]), max(high, ends[1])
    if low > 0 or high < 0:
        word = ("above", "高于") if low > 0 else ("below", "低于")
        table.verdicts.append(Note(f"{en}: {numbers}: {word[0]}.", f"{zh}：{numbers}：{word[1]}。"))
        return
    seen = smallest_detectable(a[0], other=b[0])
    if not seen:
        table.verdicts.append(Note(f"{en}: no difference for any user.", f"{zh}：每位用户都没有差别。"))
        return
    table.verdicts.append(
        Note(
            f"{en}: {numbers}: not proven ({users} users find a true difference of {seen:.3f} 4 times in 5).",
            f"{zh}：{numbers}：未获证实（{users} 位用户，真实的差要有 {seen:.3f}，五次里才查得出四次）。",
        )
    )


# --- The recommender that is saved

Parts = dict[str, tuple[NDArray, float]]  # of a mix: name to scores (n_users, n_items) and weight


class OwnRecommender:
    """The fusion, fitted on all rows; it needs no text encoder and knows no user, only histories.

    Attributes
    ----------
    item_ids, titles : list of str
    weights : array (n_items, n_items) or None
        EASE's weights: row i is what an item i of a history says for each item.
    new_weights : array (n_items, n_items) or None
        Likewise for items nobody met, predicted from their texts; 0 elsewhere.
    vectors : array (n_items, d) or None
        Text vectors, centred and of length 1.
    counts : array (n_items,)
    """

    def __init__(
        self, item_ids: list[str], titles: list[str], settings: Settings, arrays: dict[str, NDArray]
    ) -> None:
        self.item_ids, self.titles, self.settings = item_ids, titles, settings
        self.weights, self.new_weights = arrays.get("weights"), arrays.get("new_weights")
        self.vectors, self.counts = arrays.get("vectors"), arrays["counts"]
        self.code = {item: code for code, item in enumerate(item_ids)}

    def _history(self, history: Sequence[str]) -> Interactions:
        """A user's items, oldest first, as the interactions of one user; of an item twice the newest counts."""
        unknown = [item for item in history if item not in self.code]
        if unknown:
            raise ValueError(f"items that the recommender does not know: {unknown[:5]}")
        newest = list(dict.fromkeys(reversed(list(history))))[::-1]
        codes = np.array([self.code[item] for item in newest], dtype=np.int64)
        frame = pd.DataFrame({"user": np.zeros(len(codes), dtype=np.int64), "item": codes})
        return Interactions(frame, 1, len(self.item_ids))

    def _scores(self, rows: Interactions, new: bool) -> tuple[Parts, NDArray[np.bool_]]:
        """Return the parts of a mix and the mask of items that may be shown, (n_users, n_items)."""
        chosen, unmet = self.settings, self.counts == 0
        among = (rows.matrix().toarray() == 0) & (unmet if new else True)
        mix = (*chosen.new_mix, 0.0) if new else chosen.mix
        weights = self.new_weights if new else self.weights
        parts: Parts = {}
        if weights is not None and mix[0]:
            parts["collaborative"] = np.asarray(profile_matrix(rows, chosen.decay) @ weights), mix[0]
        if self.vectors is not None and mix[1]:
            profile = profile_matrix(rows, chosen.text_decay) @ self.vectors
            parts["text"] = cosine(profile, self.vectors).astype(np.float32), mix[1]
        if mix[2] or not parts:
            parts["popularity"] = np.tile(self.counts, (rows.n_users, 1)), mix[2] or 1.0
        return parts, among

    def score(self, rows: Interactions, new: bool = False) -> NDArray[np.float64]:
        """Sums of weighted z-scores for the users of ``rows``, -inf for what may not be shown.

        A user without rows, or of whom no part says anything, gets popularity.
        """
        parts, among = self._scores(rows, new)
        total = _total(parts, among)
        silent = ~total.any(axis=1)
        total[silent] = self.counts
        return np.where(among, total, -np.inf)

    def recommend(self, history: Sequence[str], k: int = 10, *, new: bool = False) -> pd.DataFrame:
        """The ``k`` best items for a history of item ids, oldest first: item_id, title, score.

        ``new`` ranks only items that nobody had met when the recommender was fitted, by their texts. ValueError if
        the history holds an unknown id, or ``new`` is asked of a recommender without texts.
        """
        if new and self.vectors is None:
            raise ValueError(
                "without texts new items cannot be told apart: evaluate with texts, or do not ask for new items"
            )
        return self._listed(self.score(self._history(history), new)[0], k)

    def similar(self, item: str, k: int = 10) -> pd.DataFrame:
        """The ``k`` items nearest to one, by the cosine of the texts or, without a text, by EASE's weights.

        Columns as in ``recommend``. ValueError if the id is unknown, or it has no text and there is no EASE.
        """
        row = self._history([item]).items[0]
        if self.vectors is not None and self.vectors[row].any():
            scores = np.array(self.vectors @ self.vectors[row], dtype=np.float64)
        elif self.weights is not None:
            scores = np.array(self.weights[row], dtype=np.float64)
        else:
            raise ValueError(f"nothing tells what is near {item!r}: it has no text, and there is no EASE")
        scores[row] = -np.inf
        return self._listed(scores, k)

    def _listed(self, scores: NDArray[np.float64], k: int) -> pd.DataFrame:
        codes = np.argsort(-scores, kind="stable")[: min(k, int(np.isfinite(scores).sum()))]
        ids, titles = [self.item_ids[c] for c in codes], [self.titles[c] for c in codes]
        return pd.DataFrame({"item_id": ids, "title": titles, "score": scores[codes]})

    def explain(self, history: Sequence[str], item: str, *, new: bool = False) -> pd.DataFrame:
        """What each item of the history, and popularity, adds to the score of ``item``: the exact parts of a sum.

        Columns: what co-occurrence and the text say of each item of the history, and the rest: popularity, and the
        averages that z-scores subtract. All cells together are the score. ValueError if the item cannot be
        recommended to this history.
        """
        rows = self._history(history)
        target = self._history([item]).items[0]
        parts, among = self._scores(rows, new)
        if not among[0, target]:
            raise ValueError(f"{item!r} cannot be recommended to this history")
        chosen, names = self.settings, [self.titles[code] for code in rows.items]
        columns = ["collaborative 协同", "text 文本", "rest 其余"]
        table = pd.DataFrame(0.0, index=[*names, "popularity 热门", "average 平均"], columns=columns)
        if not _total(parts, among).any():  # no part says anything: popularity alone
            table.iloc[-2, 2] = self.counts[target]
            return table
        weights = self.new_weights if new else self.weights
        for name, (part, weight) in parts.items():
            values = np.asarray(part, dtype=np.float64)[0]
            deviation = values[among[0]].std()
            if not deviation > 1e-9 * np.abs(values).max():
                continue
            scale = weight / deviation
            table.iloc[-1, 2] -= scale * values[among[0]].mean()
            if name == "popularity":
                table.iloc[-2, 2] = scale * values[target]
            elif name == "collaborative" and weights is not None:
                steps = profile_matrix(rows, chosen.decay).toarray()[0][rows.items]
                table.iloc[: len(names), 0] = scale * steps * weights[rows.items, target]
            elif self.vectors is not None:
                steps = profile_matrix(rows, chosen.text_decay).toarray()[0][rows.items]
                own = self.vectors[rows.items]
                length = np.linalg.norm(steps @ own)
                table.iloc[: len(names), 1] = scale * steps * (own @ self.vectors[target]) / length
        return table

    def predictions(self, data: OwnData, k: int = 10, block: int = 256) -> pd.DataFrame:
        """Lists for all users of the data: user_id, rank, item_id, title, score."""
        users, rows, tables = data.dataset.users["user_id"].to_numpy(), data.dataset.interactions, []
        for start in range(0, rows.n_users, block):
            stop = min(start + block, rows.n_users)
            some = rows.frame[rows.frame["user"].between(start, stop - 1)]
            part = Interactions(
                some.assign(user=some["user"] - start).reset_index(drop=True), stop - start, rows.n_items
            )
            for user, scores in zip(users[start:stop], self.score(part), strict=True):
                listed = self._listed(scores, k)
                listed.insert(0, "rank", np.arange(1, len(listed) + 1))
                listed.insert(0, "user_id", user)
                tables.append(listed)
        return pd.concat(tables, ignore_index=True)

    def save(self, path: str | Path) -> None:
        """Write one ``.npz`` file of plain arrays and JSON (no pickle), whole or not at all."""
        about = {
            "format": 1,
            "item_ids": self.item_ids,
            "titles": self.titles,
            "settings": vars(self.settings),
        }
        named = {
            "weights": self.weights,
            "new_weights": self.new_weights,
            "vectors": self.vectors,
            "counts": self.counts,
        }
        arrays: dict[str, Any] = {name: array for name, array in named.items() if array is not None}
        arrays["about"] = np.frombuffer(json.dumps(about, ensure_ascii=False).encode(), dtype=np.uint8)
        write_whole(path, lambda file: np.savez_compressed(file, **arrays))

    @classmethod
    def load(cls, path: str | Path) -> OwnRecommender:
        """Read what ``save`` wrote; DataError if the file is something else."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            about = json.loads(arrays.pop("about").tobytes())
            given: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value
                for key, value in about["settings"].items()
            }
            return cls(about["item_ids"], about["titles"], Settings(**given), arrays)
        except FileNotFoundError:
            raise DataError(f"{Path(path).name}: there is no such file.") from None
        except Exception as error:
            raise DataError(
                f"{Path(path).name} is no recommender saved by this library ({type(error).__name__})."
            ) from None


def _total(parts: Parts, among: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Sum of weight x z-score over the parts of a mix, (n_users, n_items)."""
    scored = [w * _zscores(np.asarray(part, dtype=np.float64), among) for part, w in parts.values()]
    return np.sum(scored, axis=0)


def fit_own(
    data: OwnData, vectors: NDArray | None, settings: Settings, *, max_items: int = 6000
) -> OwnRecommender:
    """Fit the recommender that ``evaluate_own`` measured, with the settings it chose, on all rows."""
    rows, items = data.dataset.interactions, data.dataset.items
    counts = Popularity().fit(rows).counts
    arrays: dict[str, NDArray] = {"counts": counts}
    ease = _ease(settings).fit(rows) if rows.n_items <= max_items else None
    if ease is not None and settings.mix[0]:
        arrays["weights"] = ease.weights
    if vectors is not None:
        arrays["vectors"] = normalize(_centred(vectors)).astype(np.float32)
        if (counts == 0).any() and settings.new_mix[0]:
            ridge = RidgeToScores(vectors, ease, settings.ridge, gamma=1.0, prefitted=True)
            arrays["new_weights"] = Explainer(ridge.fit(rows)).weights.astype(np.float32) * (counts == 0)
    return OwnRecommender(items["item_id"].tolist(), items["title"].tolist(), settings, arrays)


def write_whole(path: str | Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file beside its place and move it there, so that nobody finds half of it.

    DataError if the file cannot be written.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}.part")
    try:
        with part.open("wb") as file:
            write(file)
        part.replace(target)
    except OSError as error:
        raise DataError(f"{target} cannot be written: {error.strerror}.") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
