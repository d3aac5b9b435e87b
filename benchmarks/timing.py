"""CPU time of rival functions, in alternating rounds so that they meet the same machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median


def rounds(rivals: dict[str, Callable[[], object]], count: int) -> dict[str, list[float]]:
    """CPU seconds of each rival in each round; one unmeasured round first warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(count + 1):
        for name, run in rivals.items():
            start = time.process_time()
            run()
            if turn:
                seconds[name].append(time.process_time() - start)
    return seconds


def table(unit: str, work: int, seconds: dict[str, list[float]], reference: str) -> str:
    """Markdown table: units of work per CPU-second, and the median over rounds of the ratio to `reference`."""
    lines = [f"| | {unit} per CPU-second | times {reference} |", "|---|---:|---:|"]
    for name, own in seconds.items():
        ratio = median(peer / mine for peer, mine in zip(seconds[reference], own, strict=True))
        lines.append(f"| {name} | {work / median(own):,.0f} | {ratio:.2f} |")
    return "\n".join(lines)
