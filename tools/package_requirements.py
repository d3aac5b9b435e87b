"""Write recsys_lib/datasets/packages: what the installed Python packages ask pip to install beside them.

Names, requirements (those of extras included) and summaries come from the packages' own metadata. The files in the
repository were written once; with other versions installed they come out a little different.
"""

from __future__ import annotations

import csv
import re
from importlib import metadata
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "recsys_lib" / "datasets" / "packages"


def canonical(name: str) -> str:
    """The name as package indexes write it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Write both tables, sorted by name."""
    installed = {canonical(d.metadata["Name"]): d for d in metadata.distributions()}
    installed.pop("recsys-lib", None)
    pairs = {
        (name, canonical(re.match(r"[A-Za-z0-9._-]+", line)[0]))  # type: ignore[index]
        for name, d in installed.items()
        for line in d.requires or []
    }
    rows = sorted((user, item) for user, item in pairs if user != item)
    summaries = {name: " ".join((d.metadata["Summary"] or "").split()) for name, d in installed.items()}
    names = sorted({item for _, item in rows} | {name for name, text in summaries.items() if text})
    items = [(name, name, summaries.get(name, "")) for name in names]
    for file, header, table in (
        ("requirements.csv", ("package", "requires"), rows),
        ("packages.csv", ("requires", "name", "summary"), items),
    ):
        with (FOLDER / file).open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows([header, *table])


if __name__ == "__main__":
    main()
