"""Three seeds of section 6.8's generators: ``python -m benchmarks.bench_semantic_ids``.

The chapter trains each generator (semantic ids, shuffled ids, plain ids) once; here each is trained with seeds 0, 1
and 2, with the chapter's settings on its leave-one-out split. The codebooks stay those of the chapter; for shuffled
ids the seed also deals the ids out anew. The table that the chapter reads has a column a model and seed and a row a
user, in random order: the place of the held-out film among the first ten, or 0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from recsys_lib.datasets import film_features, load_movielens_100k
from recsys_lib.encoders import TextEncoder
from recsys_lib.evaluation import evaluate
from recsys_lib.geometry import side_by_side
from recsys_lib.models.semantic_ids import ResidualQuantizer, SemanticIdModel, with_tie_breaker
from recsys_lib.splits import leave_one_out

FILE = Path(__file__).resolve().parent.parent / "recsys_lib" / "semantic_ids.csv"
SEEDS = (0, 1, 2)
OPTIONS = {
    "length": 30,
    "layers": 1,
    "epochs": 20,
    "learning_rate": 4e-3,
    "averaging": 0.98,
    "dropout": 0.2,
}


def main() -> None:
    """Train nine models and write where each ranks the test films."""
    data, short = load_movielens_100k("rich"), load_movielens_100k("basic")
    encoder = TextEncoder.from_pretrained("all-MiniLM-L6-v2")
    texts = [encoder.encode(x.texts, show_progress=False) for x in (short, data)]
    counts = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform(data.texts)
    tfidf = TruncatedSVD(384, random_state=0).fit_transform(counts)
    facts = list(film_features(data.items).values())
    vectors = side_by_side([*texts, tfidf, *facts], [1, 1, 1, 0.5, 0.5, 0.5])
    ids = with_tie_breaker(ResidualQuantizer.fit(vectors, levels=3, codes=32).encode(vectors))
    split, places = leave_one_out(data), {}
    for seed in SEEDS:
        deal = np.random.default_rng(seed).permutation(len(ids))
        given = {"semantic": ids, "shuffled": ids[deal], "plain": np.arange(data.n_items)[:, None]}
        for name, some in given.items():
            model = SemanticIdModel(some, seed=seed, **OPTIONS).fit(split.fit_part)
            result = evaluate(model, split.test, seen=split.fit_part)
            print(name, seed, result, flush=True)
            rank = result.ranks.sort_values("user")["rank"].to_numpy()
            places[f"{name}_{seed}"] = np.where(rank <= 10, rank, 0)
    table = pd.DataFrame(places, dtype=int)
    table.iloc[np.random.default_rng(0).permutation(len(table))].to_csv(FILE, index=False)


if __name__ == "__main__":
    main()
