"""Print three Chinese chapters to execute, another three each day; all of them follow within a few days."""

from __future__ import annotations

import datetime
from pathlib import Path

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def rotation(names: list[str], day: int, count: int = 3) -> list[str]:
    """Return ``count`` of the names, moving on by ``count`` a day and around the end."""
    start = day * count
    return [names[(start + i) % len(names)] for i in range(min(count, len(names)))]


if __name__ == "__main__":
    found = sorted(path.name for path in (NOTEBOOKS / "zh").glob("*.ipynb"))
    print(" ".join(f"notebooks/zh/{name}" for name in rotation(found, datetime.date.today().toordinal())))
