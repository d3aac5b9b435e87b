"""Run the benchmarks, print their tables and write benchmarks/results/speed.md."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

HEAD = """# Speed against peers

Written by `make bench`. Each table compares in one run, in alternating rounds, on one CPU thread; the last column
is the median over the rounds of the peer's CPU time divided by the row's. The ratios carry over to other machines
better than the speeds do.
"""


def main() -> None:
    from benchmarks import bench_encode, bench_evaluate

    parts = [HEAD, "## Encoding texts (all-MiniLM-L6-v2)\n", bench_encode.main()]
    parts += ["## Evaluating a model (full ranking)\n", bench_evaluate.main()]
    text = "\n".join(parts)
    path = Path(__file__).parent / "results" / "speed.md"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
