"""``python -m recsys_lib evaluate`` measures a reader's own data, ``recommend`` uses what it saved.

A problem with the data is told in a sentence and ends with exit status 2, never with a traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from recsys_lib.datasets.interactions import DataError
from recsys_lib.own_data import encode_own, read_own
from recsys_lib.own_recommender import OwnRecommender, evaluate_own, fit_own, write_whole


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status: 0, or 2 where the data cannot be used."""
    asked = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # Windows' consoles may not be able to print Chinese
            stream.reconfigure(errors="replace")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what matters is in the notes
            return _evaluate(asked) if asked.command == "evaluate" else _recommend(asked)
    except (DataError, ValueError) as error:
        print(f"recsys_lib: {error}", file=sys.stderr)
        return 2


def _evaluate(asked: argparse.Namespace) -> int:
    pairs = [pair.split("=", 1) for pair in asked.columns.split(",") if pair.strip()]
    if any(len(pair) < 2 for pair in pairs):
        raise ValueError(f"--columns {asked.columns!r}: write NAME=ROLE, several separated by commas")
    columns = {name.strip(): role.strip() for name, role in pairs}
    _check_outputs([asked.predictions, asked.save], [asked.interactions, asked.items])
    data = read_own(
        asked.interactions,
        asked.items,
        columns=columns,
        separator=asked.separator.replace("\\t", "\t") if asked.separator else None,
        encoding=asked.encoding,
        min_rating=asked.min_rating,
        in_order=asked.in_order,
    )
    size = f"{data.dataset.n_users} users 用户, {data.dataset.n_items} items 物品, {len(data.dataset.interactions)} rows 行"
    print(size, flush=True)
    vectors = None if asked.no_text else encode_own(data, asked.encoder)
    table = evaluate_own(
        data, vectors, k=asked.k, seed=asked.seed, cold_seeds=asked.splits, max_items=asked.max_items
    )
    print(table.text(asked.language), flush=True)
    if asked.predictions or asked.save:
        model = fit_own(data, vectors, table.settings, max_items=asked.max_items)
        if asked.predictions:
            encoding = "utf-8-sig" if data.multilingual else "utf-8"  # Excel needs the mark to show Chinese
            text = model.predictions(data, asked.k).to_csv(index=False)
            write_whole(asked.predictions, lambda file: file.write(text.encode(encoding)))
        if asked.save:
            model.save(asked.save)
    return 0


def _check_outputs(outputs: Sequence[str | None], inputs: Sequence[str | None]) -> None:
    """Refuse, before anything is computed, files that cannot be written or hold something needed."""
    taken = {Path(name).resolve() for name in inputs if name is not None}
    for path in (Path(name) for name in outputs if name is not None):
        if path.resolve() in taken:
            raise DataError(f"{path} is named twice: give each input and output a file of its own.")
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            raise DataError(
                f"{path} cannot be written: name a file in a folder that exists and is not read-only."
            )
        taken.add(path.resolve())


def _recommend(asked: argparse.Namespace) -> int:
    model = OwnRecommender.load(asked.model)
    history = [item.strip() for item in asked.history.split(",") if item.strip()]
    listed = model.recommend(history, asked.k, new=asked.new)
    if not len(listed):
        print("Nothing is left to recommend. 没有可推荐的物品。")
        return 0
    print(listed.to_string(index=False, float_format="%.3f"))
    if history:
        first = str(listed["item_id"].iloc[0])
        print(
            f"\nWhy {first} 为什么推荐它:\n{model.explain(history, first, new=asked.new).round(3).to_string()}"
        )
    return 0


def _at_least(low: int) -> Callable[[str], int]:
    """A whole number from ``low`` on."""

    def number(text: str) -> int:
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"{value} is below {low}")
        return value

    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m recsys_lib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("evaluate", help="print the honest table of your own data")
    one.add_argument("--interactions", required=True, help="CSV file: a user and an item a row")
    one.add_argument("--items", help="CSV file: an id a row, title and text if there are any")
    one.add_argument(
        "--columns", default="", help="NAME=ROLE,...; roles: user_id, item_id, timestamp, rating, title, text"
    )
    one.add_argument(
        "--min-rating", type=float, help="keep rows rated so high; by default all rows are positives"
    )
    one.add_argument(
        "--in-order", action="store_true", help="rows are in the order of time, though they have none"
    )
    one.add_argument("--separator", help="by default found out")
    one.add_argument("--encoding", help="by default UTF-8 or GB18030, found out")
    one.add_argument("--encoder", help="another text encoder: a packaged name, a folder or a hub id")
    one.add_argument("--no-text", action="store_true", help="leave the texts out")
    one.add_argument(
        "--max-items", type=_at_least(0), default=6000, help="above so many items EASE is left out"
    )
    one.add_argument("--k", type=_at_least(1), default=10, help="length of the list")
    one.add_argument("--seed", type=_at_least(0), default=0)
    one.add_argument(
        "--splits", type=_at_least(0), default=5, help="how many times a fifth of the items is held out"
    )
    one.add_argument("--language", choices=("en", "zh"), default="en", help="of the notes and verdicts")
    one.add_argument("--predictions", help="write every user's list to this CSV file")
    one.add_argument("--save", help="write the fitted recommender to this .npz file")
    two = commands.add_parser("recommend", help="use a recommender that evaluate --save wrote")
    two.add_argument("--model", required=True)
    two.add_argument("--history", default="", help="item ids, oldest first, separated by commas")
    two.add_argument("--k", type=_at_least(1), default=10)
    two.add_argument("--new", action="store_true", help="only items that nobody had met")
    return parser


if __name__ == "__main__":
    sys.exit(main())
