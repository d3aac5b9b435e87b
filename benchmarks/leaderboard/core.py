"""Rows, cells and their cache; see the package's docstring for how to add a row."""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import json
import os
import pkgutil
import tempfile
import textwrap
import time
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recsys_lib.datasets import Dataset, film_features, load_movielens_100k
from recsys_lib.evaluation import Result, evaluate
from recsys_lib.geometry import side_by_side, whiten
from recsys_lib.models import WeightedFusion
from recsys_lib.splits import (
    Split,
    cold_item_split,
    cold_user_split,
    global_time_split,
    leave_one_out,
    random_split,
)

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "recsys_lib"
METRICS = {"ndcg": "NDCG@10", "hit": "HR@10", "mrr": "MRR@10", "recall": "Recall@10"}
HOW = ("fit", "refit", "observe", "ready", "fuse")
IGNORED = ("recsys_lib.resources",)  # where files come from; what they hold is fixed by their checksums
ALWAYS = ("splits", "evaluation", "metrics", "datasets.movielens", "datasets.interactions")
FUSION_WEIGHTS = (0.0, 0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Protocol:
    """How the data is split: ``split(dataset, seed)``; ``splits``: the seed draws the split, not only the model."""

    name: str
    split: Callable[[Dataset, int], Split]
    seeds: int
    splits: bool


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("leave_one_out", lambda data, seed: leave_one_out(data), 3, False),
        Protocol("random_811", random_split, 3, True),
        Protocol("global_time", lambda data, seed: global_time_split(data), 3, False),
        Protocol("cold_items", cold_item_split, 5, True),
        Protocol("cold_users_0", lambda data, seed: cold_user_split(data, seed, known=0), 3, True),
    )
}


class Data:
    """MovieLens-100K and vectors of its films, each made when it is first asked for."""

    def __init__(self) -> None:
        self.seconds = 0.0  # spent here: no part of a model's training time
        self.kept: dict[Any, Any] = {}

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self.kept:
            before, inside = time.process_time(), self.seconds
            self.kept[key] = make()
            self.seconds = inside + time.process_time() - before
        return self.kept[key]

    def films(self, text: str = "basic") -> Dataset:
        """The data set; ``text`` as for `load_movielens_100k`."""
        return self._once(("films", text), lambda: load_movielens_100k(text))

    @property
    def dataset(self) -> Dataset:
        """The data set with basic texts (title, year, genres)."""
        return self.films()

    def split(self, protocol: str, seed: int) -> Split:
        """The split of a protocol; one is kept at a time."""
        key = (protocol, seed if PROTOCOLS[protocol].splits else 0)
        if self.kept.get("split", (None,))[0] != key:
            self.kept["split"] = key, PROTOCOLS[protocol].split(self.dataset, seed)
        return self.kept["split"][1]

    def encode(self, texts: list[str], pooling: str = "mean") -> np.ndarray:
        """Vectors of texts by MiniLM, which stands in for the article's bert-base-uncased."""

        def make() -> np.ndarray:
            from recsys_lib.encoders import TextEncoder

            encoder = self._once(
                ("encoder", pooling),
                lambda: TextEncoder.from_pretrained("all-MiniLM-L6-v2", pooling=pooling),
            )
            return encoder.encode(texts, show_progress=False)

        return self._once(("encoded", pooling, tuple(texts)), make)

    def vectors(self, name: str, seed: int = 0) -> np.ndarray:
        """Vectors of the films (n_items, d) float32; ``seed`` is for the controls, which are random."""
        key = (name, seed if name in ("random", "shuffled", "shuffled texts and facts") else 0)
        return self._once(key, lambda: VECTORS[name](self, seed).astype(np.float32))


def tfidf(texts: list[str]) -> np.ndarray:
    """TF-IDF of the words, reduced to 384 dimensions."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    counts = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform(texts)
    return TruncatedSVD(384, random_state=0).fit_transform(counts)


def genres_and_year(films: pd.DataFrame) -> np.ndarray:
    """One column a genre and one a decade: what the basic text says, without any language model."""
    genres = films["genres"].str.get_dummies(", ")
    decades = pd.get_dummies((films["year"].fillna(0) // 10).astype(int), dtype=float)
    return np.hstack([genres.to_numpy(float), decades.to_numpy(float)])


def facts(data: Data) -> list[np.ndarray]:
    """Genres, year and director of the films, no words of a language model."""
    return list(film_features(data.films("rich").items).values())


def texts_and_facts(data: Data, order: np.ndarray | None = None) -> np.ndarray:
    """Two texts by MiniLM, one by TF-IDF, and the facts at half their weight; ``order`` shuffles the texts."""
    texts = [data.vectors(name) for name in ("MiniLM", "MiniLM rich", "TF-IDF rich")]
    if order is not None:
        texts = [text[order] for text in texts]
    return side_by_side([*texts, *facts(data)], [1, 1, 1, 0.5, 0.5, 0.5])


VECTORS: dict[str, Callable[[Data, int], np.ndarray]] = {
    "MiniLM": lambda data, seed: data.encode(data.films().texts),
    "MiniLM CLS": lambda data, seed: data.encode(data.films().texts, "cls"),
    "MiniLM rich": lambda data, seed: data.encode(data.films("rich").texts),
    "MiniLM both": lambda data, seed: side_by_side([data.vectors("MiniLM"), data.vectors("MiniLM rich")]),
    "MiniLM whitened": lambda data, seed: whiten(data.vectors("MiniLM"), shrinkage=0.8, dimensions=128),
    "TF-IDF": lambda data, seed: tfidf(data.films().texts),
    "TF-IDF rich": lambda data, seed: tfidf(data.films("rich").texts),
    "all texts": lambda data, seed: side_by_side(
        [data.vectors(name) for name in ("MiniLM", "MiniLM rich", "TF-IDF rich")]
    ),
    "facts": lambda data, seed: side_by_side(facts(data)),
    "texts and facts": lambda data, seed: texts_and_facts(data),
    "shuffled texts and facts": lambda data, seed: texts_and_facts(
        data, np.random.default_rng(seed).permutation(data.dataset.n_items)
    ),
    "genres and year": lambda data, seed: genres_and_year(data.films().items),
    "one-hot ids": lambda data, seed: np.eye(data.dataset.n_items),
    "random": lambda data, seed: np.random.default_rng(seed).standard_normal((data.dataset.n_items, 384)),
    "shuffled": lambda data, seed: np.random.default_rng(seed).permutation(data.vectors("MiniLM")),
}


@dataclass(frozen=True)
class Cell:
    """What a factory gets: one row at one seed."""

    protocol: str
    seed: int
    config: dict[str, Any]
    data: Data

    @property
    def split(self) -> Split:
        """The split of this protocol and seed."""
        return self.data.split(self.protocol, self.seed)


@dataclass(frozen=True, eq=False)
class Row:
    """A model under a protocol; see the package's docstring."""

    name: str
    protocol: str
    make: Callable[[Cell], Any] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    how: str = "fit"
    trained: bool = False
    quick: bool = False
    parts: tuple[str, ...] = ()
    parts_of_fusion: bool = False

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"{self.name}: no protocol {self.protocol!r}, but {', '.join(PROTOCOLS)}")
        if self.how not in HOW or (self.make is None) != (self.how == "fuse"):
            raise ValueError(f"{self.name}: how must be one of {HOW}, with a factory unless it is 'fuse'")
        json.dumps(dict(self.config))

    @property
    def label(self) -> str:
        """``protocol / name``, as the command line and the tests call it."""
        return f"{self.protocol} / {self.name}"

    @property
    def seeds(self) -> list[int]:
        """The seeds to measure: one where neither the split nor the model depends on it."""
        protocol = PROTOCOLS[self.protocol]
        return list(range(protocol.seeds if protocol.splits or self.trained else 1))


@cache
def all_rows() -> tuple[Row, ...]:
    """Every declared row, in the order of the files' names."""
    from benchmarks.leaderboard import rows

    names = sorted(module.name for module in pkgutil.iter_modules(rows.__path__))
    found = [
        row for name in names for row in importlib.import_module(f"benchmarks.leaderboard.rows.{name}").ROWS
    ]
    labels = [row.label for row in found]
    twice = {label for label in labels if labels.count(label) > 1}
    if twice:
        raise ValueError(f"declared twice: {sorted(twice)}")
    return tuple(found)


def find_row(protocol: str, name: str) -> Row:
    """The row of that protocol and name."""
    for row in all_rows():
        if (row.protocol, row.name) == (protocol, name):
            return row
    raise ValueError(f"no row {protocol} / {name}")


# --- what a cell depends on -------------------------------------------------------------------


def library_file(module: str) -> Path | None:
    """File of a library module, but not of a package, whose imports would join everything to everything."""
    path = LIBRARY.joinpath(*module.split(".")[1:]).with_suffix(".py")
    return path if module.startswith("recsys_lib.") and path.is_file() else None


@cache
def code_of(module: str) -> tuple[str, frozenset[str]]:
    """Code of a library module without its docstrings, and the library modules that it imports."""
    path = library_file(module)
    assert path is not None
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree), frozenset(name for name in names if library_file(name))


def used_by(function: Callable) -> tuple[dict[str, str], set[str]]:
    """Sources of a factory and of the functions here that it calls, and the library modules they use."""
    sources: dict[str, str] = {}
    modules: set[str] = set()
    todo: list[Any] = [function]
    while todo:
        thing = todo.pop()
        name = f"{thing.__module__}.{thing.__qualname__}"
        if thing.__module__.startswith("recsys_lib."):
            modules.add(thing.__module__)
        if not thing.__module__.startswith("benchmarks.leaderboard.rows") or name in sources:
            continue
        sources[name] = ast.unparse(ast.parse(textwrap.dedent(inspect.getsource(thing))))
        tree = ast.parse(sources[name])
        scope = importlib.import_module(thing.__module__).__dict__
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        for node in ast.walk(tree):  # an import inside a function
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("recsys_lib"):
                holder = importlib.import_module(node.module)
                todo += [
                    value for a in node.names if hasattr(value := getattr(holder, a.name), "__qualname__")
                ]
        for value in (scope[name] for name in sorted(used) if name in scope):
            if isinstance(value, types.FunctionType | type):
                todo.append(value)
            elif isinstance(value, dict | list | tuple | str | int | float):
                sources[name] += f"\n{value!r}"
    return sources, modules


def key(row: Row, seed: int) -> str:
    """Hash of all that a cell's result depends on."""
    if row.how == "fuse":
        parts = [find_row(row.protocol, name) for name in row.parts]
        about: Any = [key(part, seed if seed in part.seeds else 0) for part in parts], FUSION_WEIGHTS
        modules = {WeightedFusion.__module__}
    else:
        assert row.make is not None
        about, modules = used_by(row.make)
    todo, code = modules | {f"recsys_lib.{name}" for name in ALWAYS}, {}
    while todo:
        module = todo.pop()
        if module not in code and module not in IGNORED and library_file(module):
            code[module], imports = code_of(module)
            todo |= imports
    content = [row.label, row.how, dict(row.config), about, sorted(code.items())]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]
    name = "".join(c if c.isalnum() else "-" for c in row.name)[:60]
    return f"{row.protocol}--{name}--{seed}--{digest}"


# --- measuring ----------------------------------------------------------------------------------


def cache_folder(folder: str | Path | None = None) -> Path:
    """Where cells are kept."""
    return Path(folder or os.environ.get("LEADERBOARD_CACHE") or ROOT / "_build" / "leaderboard")


def measure(row: Row, seed: int, data: Data, folder: Path | None = None) -> tuple[Result, float]:
    """Measure one cell; returns the result and the seconds of CPU that fitting took.

    Scores on validation and test are kept in ``folder`` for rows that a fusion needs.
    """
    cell = Cell(row.protocol, seed, dict(row.config), data)
    split = cell.split
    before = time.process_time(), data.seconds
    kept: dict[str, np.ndarray] = {}
    everyone = np.arange(split.test.n_users)
    if row.how == "fuse":
        model: Any = fuse(row, seed, data, folder)
    else:
        assert row.make is not None
        model = row.make(cell)
        if row.how in ("refit", "observe"):
            model.fit(split.train, split.validation)
        elif row.how == "fit" and row.parts_of_fusion:
            model.fit(split.train)
        if row.parts_of_fusion:
            kept["validation"] = model.score(everyone)
        if row.how == "fit":
            model.fit(split.fit_part)
        elif row.how in ("refit", "observe"):
            getattr(model, row.how)(split.fit_part)
    seconds = time.process_time() - before[0] - (data.seconds - before[1])
    result = evaluate(model, split.test, seen=split.fit_part, candidates=split.candidates, name=row.name)
    if row.parts_of_fusion and folder is not None:
        kept["test"] = model.score(everyone)
        write_atomically(
            folder / f"{key(row, seed)}.npz", lambda path: np.savez(path, allow_pickle=False, **kept)
        )
    return result, seconds


class Fixed:
    """Scores that were worked out beforehand."""

    def __init__(self, scores: np.ndarray) -> None:
        self.scores = scores

    def fit(self, train: Any) -> Fixed:
        """Nothing to learn."""
        return self

    def score(self, users: Any) -> np.ndarray:
        """Scores of these users."""
        return self.scores[users]


def fuse(row: Row, seed: int, data: Data, folder: Path | None) -> WeightedFusion:
    """Sum of the parts' z-scores: the first weighs 1, the others what is best on validation, one after another."""
    if folder is None:
        raise ValueError("a fusion needs a folder for the scores of its parts")
    scores: dict[str, list[Fixed]] = {"validation": [], "test": []}
    for name in row.parts:
        part = find_row(row.protocol, name)
        its_seed = seed if seed in part.seeds else 0
        path = folder / f"{key(part, its_seed)}.npz"
        if not path.exists():
            measured(part, its_seed, data, folder)
        with np.load(path, allow_pickle=False) as archive:
            for when, models in scores.items():
                models.append(Fixed(archive[when]))
    split = data.split(row.protocol, seed)

    def at(weights: list[float]) -> float:
        model = WeightedFusion(scores["validation"], weights, prefitted=True).fit(split.train)
        candidates = split.validation_candidates
        return evaluate(model, split.validation, seen=split.train, candidates=candidates).mean()

    weights = [1.0, *[0.0] * (len(row.parts) - 1)]
    for _ in range(2):  # coordinates, twice
        for place in range(1, len(weights)):
            tried = {w: at([*weights[:place], w, *weights[place + 1 :]]) for w in FUSION_WEIGHTS}
            weights[place] = max(tried, key=lambda w: tried[w])
    return WeightedFusion(scores["test"], weights, prefitted=True).fit(split.fit_part)


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a file beside ``path``, then put it in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=path.suffix)
    os.close(handle)
    try:
        write(Path(temporary))
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def stored(row: Row, seed: int, folder: Path) -> pd.DataFrame | None:
    """The cell's metrics of each user, and a column ``seconds``; None if it is not measured."""
    path = folder / f"{key(row, seed)}.parquet"
    if not path.exists() or (row.parts_of_fusion and not path.with_suffix(".npz").exists()):
        return None
    return pd.read_parquet(path)


def measured(row: Row, seed: int, data: Data, folder: Path) -> pd.DataFrame:
    """The cell from the cache, or measured now and kept there."""
    found = stored(row, seed, folder)
    if found is None:
        result, seconds = measure(row, seed, data, folder)
        found = result.per_user.assign(seconds=seconds)
        write_atomically(folder / f"{key(row, seed)}.parquet", found.to_parquet)
    return found


def selected(
    only: list[str] | None = None, quick: bool = False, seeds: list[int] | None = None
) -> Iterator[tuple[Row, int]]:
    """The cells to measure: splits one after another, quick rows first, fusions last.

    ``only``: whole labels ("leave_one_out / SASRec"), or else parts of labels.
    """
    labels = {row.label.lower() for row in all_rows()}
    texts = [text.lower() for text in only or []]
    cells = [
        (row, seed)
        for row in all_rows()
        for seed in row.seeds
        if (not quick or row.quick)
        and (
            not texts
            or any(
                text == row.label.lower() if text in labels else text in row.label.lower() for text in texts
            )
        )
        and (seeds is None or seed in seeds)
    ]
    order = list(PROTOCOLS)
    cells.sort(key=lambda c: (c[0].how == "fuse", not c[0].quick, order.index(c[0].protocol), c[1]))
    yield from cells
