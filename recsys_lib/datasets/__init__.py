"""Data sets: the frames that hold them, checks of a reader's own data, and loaders."""

from recsys_lib.datasets.clothing import load_clothing_reviews
from recsys_lib.datasets.interactions import DataError, Dataset, Interactions
from recsys_lib.datasets.movielens import film_features, load_movielens_100k, match_report
from recsys_lib.datasets.toy_shop import ToyShop, load_article_example, load_shop_texts, load_toy_shop

__all__ = [
    "DataError",
    "Dataset",
    "Interactions",
    "ToyShop",
    "film_features",
    "load_article_example",
    "load_clothing_reviews",
    "load_movielens_100k",
    "load_shop_texts",
    "load_toy_shop",
    "match_report",
]
