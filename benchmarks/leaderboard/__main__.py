"""Measure the leaderboard's cells and write its files; see the package's docstring."""

from __future__ import annotations

import argparse
import os
import sys
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def main() -> int:
    """Run the command."""
    from benchmarks.leaderboard import core, files

    parser = argparse.ArgumentParser(prog="python -m benchmarks.leaderboard")
    parser.add_argument("--quick", action="store_true", help="rows that train in under 10 s only")
    parser.add_argument("--only", action="append", metavar="TEXT", help="rows whose label contains TEXT")
    parser.add_argument("--seeds", type=int, nargs="+", help="these seeds only")
    parser.add_argument("--check", action="store_true", help="compare with the files, write nothing")
    parser.add_argument("--list", action="store_true", help="print the matrix and what is measured")
    parser.add_argument("--cache", help="folder of the cells")
    args = parser.parse_args()
    folder = core.cache_folder(args.cache)
    cells = list(core.selected(args.only, args.quick, args.seeds))
    if args.list:
        for row, seed in cells:
            print("measured" if core.stored(row, seed, folder) is not None else "       -", row.label, seed)
        return 0
    data, wrong = core.Data(), []
    expected = files.read_seeds()
    for number, (row, seed) in enumerate(cells, 1):
        began, known = time.time(), core.stored(row, seed, folder)
        print(f"[{number}/{len(cells)}] {row.label}, seed {seed}:", end=" ", flush=True)
        if args.check:
            result, seconds = core.measure(row, seed, data, folder)
            found = result.per_user.assign(seconds=seconds)
            problems = files.differences(row, seed, found, expected)
            wrong += problems
            print("differs" if problems else "as in the file", f"({time.time() - began:.1f} s)", flush=True)
            continue
        found = core.measured(row, seed, data, folder) if known is None else known
        how_long = "known" if known is not None else f"{time.time() - began:.1f} s"
        print(f"NDCG@10 {found['ndcg'].mean():.4f} ({how_long})", flush=True)
        if known is None and (number % 20 == 0 or time.time() - began > 30):
            files.write(folder)
    if args.check:
        print("\n".join(wrong) if wrong else f"{len(cells)} cells agree with {files.SEEDS.name}")
        return int(bool(wrong))
    print(files.write(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
