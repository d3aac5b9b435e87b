"""Batch encoding with Ray Data: one machine's vectors, also when an actor or the driver was killed on the way."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch")
pytest.importorskip("ray")
psutil = pytest.importorskip("psutil")

from recsys_lib import batch
from recsys_lib.encoders import TextEncoder

TEXTS = [
    f"film number {i} about {word}"
    for i, word in enumerate(["war", "love", "a dog", "space", "a thief", "jazz"] * 4)
]
DIES_ONCE = """
import os, sys, time
from pathlib import Path
from recsys_lib import batch

class DiesOnce(batch.EncodeFile):
    def encode(self, name):
        if name == "1.parquet" and not (self.target / "died").exists():
            (self.target / "died").touch()
            os._exit(1)
        if name == "2.parquet" and not (self.target / "slept").exists():
            (self.target / "slept").touch()
            time.sleep(600)
        with open(self.target / "log", "a") as log:
            log.write(name + "\\n")
        return super().encode(name)

if __name__ == "__main__":
    with batch.ray_session():
        texts = batch.encode_parquet(sys.argv[1], sys.argv[2], worker=DiesOnce)
    print(texts, "texts")
"""


def test_an_actor_and_then_the_driver_die_and_nothing_is_lost(tmp_path: Path) -> None:
    source, target = tmp_path / "texts", tmp_path / "vectors"
    source.mkdir()
    items = pd.DataFrame({"item_id": [f"i{i}" for i in range(24)], "text": TEXTS})
    for part in range(4):
        items[part * 6 : part * 6 + 6].to_parquet(source / f"{part}.parquet")
    script = tmp_path / "run.py"
    script.write_text(DIES_ONCE)
    command = [sys.executable, str(script), str(source), str(target)]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    limit = time.monotonic() + 150
    while not (target / "slept").exists() and driver.poll() is None and time.monotonic() < limit:
        time.sleep(0.1)  # until the third file; the second, where an actor died, comes before or after it
    its_own = psutil.Process(driver.pid).children(recursive=True)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    for process in psutil.wait_procs(its_own, timeout=3)[1]:  # Ray's, where they outlive the driver
        process.kill()
    assert (target / "died").exists()
    written = {file.name for file in target.glob("*.parquet")}
    assert "0.parquet" in written and "2.parquet" not in written
    again = subprocess.run(command, capture_output=True, text=True, timeout=150)
    assert f"{6 * (4 - len(written))} texts" in again.stdout, again.stderr[-2000:]
    assert sorted((target / "log").read_text().split()) == [
        f"{part}.parquet" for part in range(4)
    ]  # each once
    found = batch.read_vectors(target).loc[items["item_id"]]
    one_machine = TextEncoder.from_pretrained("all-MiniLM-L6-v2").encode(
        TEXTS, show_progress=False, cache=False
    )
    np.testing.assert_allclose(found, one_machine, atol=1e-5)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pd.DataFrame({"item_id": ["a"], "text": ["one"]}).to_parquet(tmp_path / "x.parquet")
    target = tmp_path / "out"
    target.mkdir()
    worker = batch.EncodeFile(str(tmp_path), str(target), "all-MiniLM-L6-v2", "item_id", "text")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        worker.encode("x.parquet")
    assert not list(target.glob("*.parquet"))
    monkeypatch.undo()
    assert worker.encode("x.parquet") == 1
    assert batch.read_vectors(target).shape == (1, 384)


def test_wrong_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 Parquet files"):
        batch.encode_parquet(tmp_path, tmp_path / "out")
    for name in "ab":
        pd.DataFrame({"item_id": ["1"], "vector": [[0.0, 1.0]]}).to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(ValueError, match="1 ids are there twice, such as '1'"):
        batch.read_vectors(tmp_path)
