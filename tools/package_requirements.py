"""Write recsys_lib/datasets/packages: what the installed Python packages ask pip to install beside them.

Names, requirements (those of extras included), summaries, versions and licences come from the packages' own
metadata. The files in the repository were written once; where the versions they name are installed, and no other
packages, they come out the same.
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


def licence(about: metadata.PackageMetadata) -> str:
    """What the metadata say of the licence: the expression, else the classifiers, else the first line of the text."""
    classifiers = [
        line.split(" :: ")[-1] for line in about.get_all("Classifier") or [] if "License ::" in line
    ]
    return about["License-Expression"] or "; ".join(classifiers) or (about["License"] or "").split("\n")[0]


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
    credit = {name: (d.version, licence(d.metadata)) for name, d in installed.items() if summaries[name]}
    items = [(name, name, summaries.get(name, ""), *credit.get(name, ("", ""))) for name in names]
    for file, header, table in (
        ("requirements.csv", ("package", "requires"), rows),
        ("packages.csv", ("requires", "name", "summary", "version", "licence"), items),
    ):
        with (FOLDER / file).open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream, lineterminator="\n").writerows([header, *table])


if __name__ == "__main__":
    main()
