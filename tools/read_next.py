"""Write book/read_next.yml: the pages that are nearest to each page, for the links at its foot.

    python tools/read_next.py               after a page or chapter was added or renamed; takes a minute
    python tools/read_next.py --snapshot    renews the snapshot that chapter 6.4 measures on instead

Each page is the mean of its sections' vectors (multilingual-e5-small, centred in each language on all sections), the
cosine is averaged over both editions, so that both have the same links. Left out: the page's neighbours in the
contents, which stand below it anyway, the welcome page, and pages without a lesson of their own as targets.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
TARGET = ROOT / "book/read_next.yml"
SNAPSHOT = ROOT / "recsys_lib/datasets/book/sections.csv"
LINKS = 3
LANGUAGES = ("en", "zh")
NOT_OFFERED = {
    "index",
    "how_to_read",
    "00_setup",
    "leaderboard",
    "07_resources",
    "glossary",
    "bibliography",
    "status",
}
HEAD = """\
# Written by `python tools/read_next.py`; not edited by hand. Read by book/_ext/book_site.py.
# For each page of the contents the {links} nearest ones by {encoder}, the nearest first.
"""


def nearest(
    vectors: np.ndarray, pages: list[str], offered: list[bool], links: int = LINKS
) -> dict[str, list[str]]:
    """Return for each page the nearest others, its neighbours in the contents and pages not offered left out.

    Parameters
    ----------
    vectors : array (languages, n, d)
        Of the pages, in the order of the contents; cosines are averaged over languages.
    pages : n names
    offered : n flags
        Whether the page may be a target.
    links : int
        How many each page gets; fewer where there are not so many.
    """
    unit = vectors / np.linalg.norm(vectors, axis=2, keepdims=True)
    scores = np.mean([v @ v.T for v in unit], axis=0)
    places = np.arange(len(pages))
    scores[np.abs(places[:, None] - places) <= 1] = -np.inf
    scores[:, ~np.array(offered)] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :links]
    return {
        page: [pages[target] for target in row if np.isfinite(own[target])]
        for page, row, own in zip(pages, best, scores, strict=True)
    }


def page_vectors(book: pd.DataFrame, encoder) -> tuple[np.ndarray, list[str]]:
    """Return the pages' vectors, shape (2, pages, d), and their names in order.

    Each page is encoded by itself, in both languages at once, so that the encoder's cache keeps unchanged pages.
    """
    from recsys_lib.geometry import center, normalize

    pages = list(dict.fromkeys(book["page"]))
    found = []
    for _, part in book.groupby("page", sort=False):
        texts = [
            f"{row[f'heading_{lang}']}\n{row[f'text_{lang}']}"
            for lang in LANGUAGES
            for _, row in part.iterrows()
        ]
        found.append(encoder.encode(texts, show_progress=False).reshape(2, len(part), -1))
    unit = [normalize(center(vectors)) for vectors in np.concatenate(found, axis=1)]
    owner = book["page"].to_numpy()  # the rows of a page stand together
    return np.array([[vectors[owner == page].mean(axis=0) for page in pages] for vectors in unit]), pages


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--snapshot", action="store_true", help="renew the snapshot that chapter 6.4 measures on"
    )
    options = parser.parse_args()
    from recsys_lib.datasets.book_sections import read_book, to_csv

    book = read_book(ROOT)
    if options.snapshot:
        SNAPSHOT.write_text(to_csv(book, datetime.date.today().isoformat()), encoding="utf-8")
        print(f"{SNAPSHOT.relative_to(ROOT)}: {len(book)} sections of {book['page'].nunique()} pages")
        return 0
    from recsys_lib.encoders import TextEncoder

    name = "multilingual-e5-small"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # texts cut to 256 tokens
        vectors, pages = page_vectors(book, TextEncoder.from_pretrained(name))
    chosen = nearest(vectors, pages, [page not in NOT_OFFERED for page in pages])
    lines = [f"{page}: [{', '.join(targets)}]\n" for page, targets in chosen.items()]
    TARGET.write_text(HEAD.format(links=LINKS, encoder=name) + "".join(lines), encoding="utf-8")
    print(f"{TARGET.relative_to(ROOT)}: {len(pages)} pages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
