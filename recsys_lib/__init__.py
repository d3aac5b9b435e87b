"""Helper library of the book "Language Models in Recommender Systems".

Import what you need from its modules, for example ``from recsys_lib.datasets import load_movielens_100k``.
The package itself imports no torch; encoders and trained models need it.
"""

__version__ = "0.1.0"
