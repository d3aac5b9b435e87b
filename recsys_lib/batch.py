"""Encode a whole catalogue with Ray Data, on one machine or a cluster: Parquet files in, Parquet files out.

Needs ``ray[data]``. From the command line: ``python -m recsys_lib.batch texts/ vectors/ --actors 2``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from recsys_lib.encoders import TextEncoder

HERE = {  # settings that Ray reads when it is imported
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on Linux too: listen on loopback only
    "RAY_worker_niceness": "0",  # by default workers give way to everything else on the machine
}
STORE = 100 * 2**20  # bytes of shared memory of the local Ray: only names of files travel through it


@contextlib.contextmanager
def ray_session(address: str | None = None, cpus: int = 2, quiet: bool = True) -> Iterator[None]:
    """Start Ray and shut it down again: a small one on this machine, or a connection to a cluster.

    Usage reports are off. Let this import Ray (do not import it before), so that its settings are read.

    Parameters
    ----------
    address : str, optional
        Of a running cluster, such as ``"auto"`` or ``"ray://head:10001"``; by default Ray starts here, on loopback,
        without its dashboard.
    cpus : int
        Cores that the local Ray may plan with.
    quiet : bool
        Throw away what is printed and logged meanwhile: Ray reports on each start and each accident. Errors are raised
        all the same.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address is None:
        os.environ.update(HERE)
    with _silence() if quiet else contextlib.nullcontext():
        import ray

        if address is None:
            ray.init(
                "local",
                num_cpus=cpus,
                object_store_memory=STORE,
                include_dashboard=False,
                log_to_driver=not quiet,
            )
        else:
            ray.init(address)
        try:
            yield
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """What is written goes nowhere: by Python on both streams, by other code on standard error."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class EncodeFile:
    """What an actor holds: a :class:`TextEncoder`, loaded once, and called with one file after another.

    Parameters
    ----------
    source, target : str
        Folders of the Parquet files with the texts and with the vectors; on a cluster, on storage that all nodes see.
    model : str
        As for ``TextEncoder.from_pretrained``.
    id_column, text_column : str
    """

    def __init__(self, source: str, target: str, model: str, id_column: str, text_column: str) -> None:
        self.source, self.target = Path(source), Path(target)
        self.id_column, self.text_column = id_column, text_column
        self.encoder = TextEncoder.from_pretrained(model)

    def __call__(self, batch: dict[str, NDArray]) -> dict[str, NDArray]:
        """Encode the files named in the batch; return how many rows each has."""
        return {"rows": np.array([self.encode(str(name)) for name in batch["file"]])}

    def encode(self, name: str) -> int:
        """Write the vectors of one file, whole or not at all: first under another name, then renamed."""
        rows = pq.read_table(self.source / name, columns=[self.id_column, self.text_column])
        texts = rows[self.text_column].to_pylist()
        vectors = self.encoder.encode(texts, show_progress=False, cache=False)
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        part = self.target / f".{name}.{os.getpid()}"
        pq.write_table(pa.table({self.id_column: rows[self.id_column], "vector": column}), part)
        part.replace(self.target / name)
        return len(texts)


def encode_parquet(
    source: str | Path,
    target: str | Path,
    model: str = "all-MiniLM-L6-v2",
    *,
    id_column: str = "item_id",
    text_column: str = "text",
    actors: int = 1,
    worker: type[EncodeFile] = EncodeFile,
) -> int:
    """Encode the texts of all Parquet files of a folder that have no file of vectors yet.

    A file is the unit of work: only names travel between driver and actors, so memory is bounded by one file an
    actor. Ray starts an actor anew that died and gives its file to it again; after the death of the driver, call this
    again. Files that are there are not read: remove them when texts or the model have changed.

    Parameters
    ----------
    source : str or Path
        Folder of ``*.parquet`` with ids and texts (none blank).
    target : str or Path
        Folder for files of the same names, with the ids and the column ``vector`` (float32).
    model : str
        As for ``TextEncoder.from_pretrained``.
    id_column, text_column : str
    actors : int
        Processes that hold the model, one core each.
    worker : type
        :class:`EncodeFile` or a subclass.

    Returns
    -------
    int
        Number of texts encoded by this call.

    Raises
    ------
    ValueError
        If there is no file in `source`, or `actors` is below 1.
    """
    here, there = Path(source).resolve(), Path(target).resolve()
    names = sorted(file.name for file in here.glob("*.parquet"))
    if not names or actors < 1:
        raise ValueError(
            f"{len(names)} Parquet files in {here} and {actors} actors: at least one of each is needed"
        )
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    there.mkdir(parents=True, exist_ok=True)
    todo = [{"file": name} for name in names if not (there / name).exists()]
    if not todo:
        return 0
    DataContext.get_current().enable_progress_bars = False
    done = ray.data.from_items(todo, override_num_blocks=len(todo)).map_batches(
        worker,
        fn_constructor_args=(str(here), str(there), model, id_column, text_column),
        batch_size=1,
        compute=ActorPoolStrategy(size=actors),
        num_cpus=1,
    )
    return sum(row["rows"] for row in done.take_all())


def read_vectors(target: str | Path, id_column: str = "item_id") -> pd.DataFrame:
    """Return the vectors of a folder as float32, one row an item, the ids as index.

    Raises
    ------
    ValueError
        If an id is there twice.
    """
    table = pq.read_table([str(file) for file in sorted(Path(target).glob("*.parquet"))])
    vectors = np.stack(table["vector"].to_numpy())
    ids = pd.Index(table[id_column].to_pylist(), name=id_column)
    if not ids.is_unique:
        raise ValueError(
            f"{ids.duplicated().sum()} ids are there twice, such as {ids[ids.duplicated()][0]!r}"
        )
    return pd.DataFrame(vectors, index=ids)


def main(arguments: list[str] | None = None) -> None:
    """Encode from the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m recsys_lib.batch", description=str(encode_parquet.__doc__).split("\n")[0]
    )
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--actors", type=int, default=1)
    parser.add_argument("--address", help="of a Ray cluster; by default Ray starts on this machine")
    options = parser.parse_args(arguments)
    with ray_session(options.address, cpus=max(2, options.actors)):
        texts = encode_parquet(options.source, options.target, options.model, actors=options.actors)
    print(texts, "texts encoded")


if __name__ == "__main__":
    main()
