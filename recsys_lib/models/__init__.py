"""Models: ``fit(train) -> self``, ``score(users) -> (len(users), n_items)``; seeds are arguments."""

from recsys_lib.models.base import Recommender
from recsys_lib.models.baselines import Popularity, RandomModel
from recsys_lib.models.click import LikeFeatures, LikeModel
from recsys_lib.models.cold_start import RidgeFromUsers, RidgeToFactors, RidgeToScores, TextKNN
from recsys_lib.models.content import ContentModel
from recsys_lib.models.ease import EASE
from recsys_lib.models.hybrid import WeightedFusion
from recsys_lib.models.neighbours import ItemKNN

__all__ = [
    "EASE",
    "ContentModel",
    "ItemKNN",
    "LikeFeatures",
    "LikeModel",
    "Popularity",
    "RandomModel",
    "Recommender",
    "RidgeFromUsers",
    "RidgeToFactors",
    "RidgeToScores",
    "TextKNN",
    "WeightedFusion",
]
