"""Encoding film texts with all-MiniLM-L6-v2: TextEncoder against sentence-transformers, one thread."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from benchmarks.timing import rounds, table
from recsys_lib import resources
from recsys_lib.datasets import load_movielens_100k
from recsys_lib.encoders import TextEncoder, bfloat16_is_fast

NAME = "all-MiniLM-L6-v2"


def main(count: int = 3, texts_used: int = 256) -> str:
    """Return the tables for short texts (titles) and long ones (title, year, genres, film facts)."""
    torch.set_num_threads(1)
    peer = SentenceTransformer(str(resources.fetch(NAME)), device="cpu")
    encoders = {"TextEncoder": TextEncoder.from_pretrained(NAME)}
    if bfloat16_is_fast():
        encoders["TextEncoder, bfloat16"] = TextEncoder.from_pretrained(NAME, dtype="bfloat16")
    parts = []
    for kind, title in (("title", "Titles"), ("rich", "Rich texts")):
        chosen = np.random.default_rng(0).permutation(load_movielens_100k(kind).texts)[:texts_used]
        texts = [str(text) for text in chosen]
        options = {"normalize": True, "show_progress": False, "cache": False}
        plain = encoders["TextEncoder"]
        expected = peer.encode(texts, normalize_embeddings=True)
        difference = np.abs(plain.encode(texts, **options) - expected).max()
        if difference > 1e-5:
            raise AssertionError(f"vectors differ from those of sentence-transformers by {difference}")
        rivals = {"sentence-transformers": partial(peer.encode, texts, normalize_embeddings=True)}
        rivals |= {name: partial(encoder.encode, texts, **options) for name, encoder in encoders.items()}
        rivals["TextEncoder, one text at a time"] = partial(plain.encode, texts, batch_size=1, **options)
        tokens = np.mean([len(plain.tokens(text, special=True)) for text in texts])
        parts.append(f"{title}: {len(texts)} texts, {tokens:.0f} tokens on average, batches of 32.\n")
        parts.append(table("texts", len(texts), rounds(rivals, count), "sentence-transformers") + "\n")
    if not bfloat16_is_fast():
        parts.append("No bfloat16 row: on this CPU it is no faster than float32.\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(main())
