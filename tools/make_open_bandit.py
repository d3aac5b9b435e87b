"""Write recsys_lib/datasets/open_bandit from the package obp, whose wheel ships samples of the Open Bandit Dataset.

``python tools/make_open_bandit.py`` downloads the wheel with pip and checks its SHA-256; a path to a wheel that
is there already may be given instead. Only the columns that the book uses are kept, in the order of the files.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "recsys_lib" / "datasets" / "open_bandit"
PACKAGE = "obp==0.4.1"
WHEEL_SHA256 = "87dec9caf4283c25ab13036532e0a24566f1c7bdcad1653a8ded43b2f5ef8208"
COLUMNS = ("item_id", "position", "click", "propensity_score")


def wheel(folder: Path) -> Path:
    """Download the wheel into ``folder``."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(folder),
    ]
    subprocess.run([*command, PACKAGE], check=True)
    return next(folder.glob("*.whl"))


def table(archive: zipfile.ZipFile) -> bytes:
    """All six samples as one CSV file: campaign, policy, and the kept columns as they stand."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("campaign", "policy", *COLUMNS))
    for campaign in ("all", "men", "women"):
        for policy in ("random", "bts"):
            name = f"obp/dataset/obd/{policy}/{campaign}/{campaign}.csv"
            with io.TextIOWrapper(archive.open(name), encoding="utf-8", newline="") as rows:
                for row in csv.DictReader(rows):
                    writer.writerow((campaign, policy, *(row[column] for column in COLUMNS)))
    return text.getvalue().encode()


def main() -> None:
    """Write the table and the licence it comes under."""
    with tempfile.TemporaryDirectory() as temp:
        path = Path(sys.argv[1]) if len(sys.argv) > 1 else wheel(Path(temp))
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != WHEEL_SHA256:
            raise SystemExit(f"{path.name} is not the published wheel: SHA-256 {found}")
        with zipfile.ZipFile(path) as archive:
            FOLDER.mkdir(exist_ok=True)
            (FOLDER / "open_bandit.csv.gz").write_bytes(gzip.compress(table(archive), 9, mtime=0))
            (FOLDER / "LICENSE").write_bytes(archive.read("obp-0.4.1.dist-info/LICENSE"))


if __name__ == "__main__":
    main()
