"""The service answers what the library answers, refuses what it cannot, and stands when too many ask at once."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

for needed in ("fastapi", "httpx2", "schemathesis", "uvicorn"):
    pytest.importorskip(needed)

import httpx2 as httpx
import schemathesis
import uvicorn
from hypothesis import HealthCheck, settings

from recsys_lib import __version__
from recsys_lib.datasets import DataError
from recsys_lib.own_recommender import OwnRecommender, Settings
from recsys_lib.serve import BODY, create_app, main

N, MIX = 30, Settings(mix=(1.0, 0.4, 0.2), decay=0.9, new_mix=(1.0, 0.3))


def made(text: bool = True, ease: bool = True) -> OwnRecommender:
    """A recommender of random weights; nobody met the last three items."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {"counts": np.r_[rng.integers(1, 50, N - 3), np.zeros(3)].astype(float)}
    if ease:
        arrays["weights"] = rng.normal(size=(N, N)).astype(np.float32) * (1 - np.eye(N, dtype=np.float32))
    if text:
        vectors = rng.normal(size=(N, 8)).astype(np.float32)
        arrays["vectors"] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        arrays["new_weights"] = rng.normal(size=(N, N)).astype(np.float32) * (arrays["counts"] == 0)
    return OwnRecommender([f"i{i}" for i in range(N)], [f"Thing 物品 {i}" for i in range(N)], MIX, arrays)


def saved(folder: Path, **parts: bool) -> Path:
    made(**parts).save(folder / "model.npz")
    return folder / "model.npz"


def served(app: Any, **options: Any) -> Iterator[httpx.Client]:
    """A client of the app on a live server, on a free port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", **options))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    for _ in range(500):
        if server.started:
            break
        thread.join(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(10)
    assert not thread.is_alive()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    yield from served(create_app(saved(tmp_path_factory.mktemp("model")), waiting=100))


# --- Answers


@pytest.mark.parametrize("history", [[], ["i3"], ["i3", "i9", "i3", "i1"]])
@pytest.mark.parametrize("new", [False, True])
def test_recommend_is_the_librarys(client: httpx.Client, history: list[str], new: bool) -> None:
    answer = client.post("/recommend", json={"history": history, "k": 7, "new": new})
    assert answer.status_code == 200
    expected = made().recommend(history, 7, new=new)
    assert [one["item_id"] for one in answer.json()] == expected["item_id"].tolist()
    assert [one["title"] for one in answer.json()] == expected["title"].tolist()
    np.testing.assert_allclose([one["score"] for one in answer.json()], expected["score"], rtol=1e-12)


def test_excluded_items_make_room_for_others(client: httpx.Client) -> None:
    every = made().recommend(["i3"], N)["item_id"].tolist()
    answer = client.post("/recommend", json={"history": ["i3"], "k": 5, "exclude": every[1:3]}).json()
    assert [one["item_id"] for one in answer] == [every[0], *every[3:7]]


def test_five_point_zero_is_an_integer(client: httpx.Client) -> None:
    body = b'{"item": "i4", "k": 5.0}'
    assert (
        len(client.post("/similar", content=body, headers={"Content-Type": "application/json"}).json()) == 5
    )


def test_similar_is_the_cosine_of_the_texts(client: httpx.Client) -> None:
    vectors = made().vectors
    assert vectors is not None
    cosines = vectors @ vectors[4]
    answer = client.post("/similar", json={"item": "i4", "k": 100}).json()
    assert [one["item_id"] for one in answer] == [f"i{i}" for i in np.argsort(-cosines) if i != 4]
    np.testing.assert_allclose(answer[0]["score"], np.delete(cosines, 4).max(), rtol=1e-5)


def test_similar_without_texts_is_by_clicks_and_without_both_is_refused(tmp_path: Path) -> None:
    for client in served(create_app(saved(tmp_path, text=False))):
        weights = made().weights
        assert weights is not None
        answer = client.post("/similar", json={"item": "i4", "k": N}).json()
        assert [one["item_id"] for one in answer] == [f"i{i}" for i in np.argsort(-weights[4]) if i != 4]
        refused = client.post("/recommend", json={"new": True})
        assert refused.status_code == 409 and "evaluate with texts" in refused.json()["detail"]
    for client in served(create_app(saved(tmp_path, text=False, ease=False))):
        refused = client.post("/similar", json={"item": "i4"})
        assert refused.status_code == 409 and "no text, and there is no EASE" in refused.json()["detail"]


def test_explanations_add_up_to_the_score_and_name_the_clicks(client: httpx.Client) -> None:
    history = ["i3", "i9", "i3", "i1"]
    best = client.post("/recommend", json={"history": history, "k": 1}).json()[0]
    parts = client.post("/explain", json={"history": history, "item": best["item_id"]}).json()
    assert [part["item_id"] for part in parts] == ["i9", "i3", "i1", None, None]
    table = made().explain(history, best["item_id"])
    assert [part["name"] for part in parts] == table.index.tolist()
    cells = [[part["collaborative"], part["text"], part["rest"]] for part in parts]
    np.testing.assert_allclose(cells, table.to_numpy(), rtol=1e-12)
    np.testing.assert_allclose(np.sum(cells), best["score"], rtol=1e-5)


def test_health_and_openapi(client: httpx.Client) -> None:
    expected = {"status": "ok", "version": __version__, "model": "model.npz", "items": N, "new_items": 3}
    assert client.get("/health").json() == expected | {"interactions": int(made().counts.sum())}
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/recommend", "/similar", "/explain", "/health"}
    for path in set(paths) - {"/health"}:
        assert set(paths[path]["post"]["responses"]) == {"200", "400", "404", "409", "413", "422", "503"}
    assert client.get("/docs").status_code == 404  # it would load scripts from another site


# --- Refusals


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("recommend", {"history": ["i1", "tea", "茶"]}, 404, ["'tea'", "'茶'", "Leave them out"]),
        ("recommend", {"exclude": ["tea"]}, 404, ["'tea'"]),
        ("similar", {"item": "tea"}, 404, ["'tea'"]),
        ("explain", {"item": "i1", "history": ["tea"]}, 404, ["'tea'"]),
        ("explain", {"item": "i1", "history": ["i1"]}, 409, ["'i1' cannot be recommended"]),
        ("recommend", {"k": 0}, 422, ["k: ", "greater than or equal to 1"]),
        ("recommend", {"k": 101}, 422, ["k: ", "less than or equal to 100"]),
        ("recommend", {"k": "5"}, 422, ["k: "]),
        ("recommend", {"k": 5.5}, 422, ["k: "]),
        ("recommend", {"k": True}, 422, ["k: "]),
        ("recommend", {"user": "u1"}, 422, ["user: Extra"]),
        ("recommend", {"history": ["i1"] * 201}, 422, ["history: ", "at most 200"]),
        ("recommend", {"history": ["x" * 201]}, 422, ["history.0: ", "at most 200"]),
        ("recommend", {"history": "i1"}, 422, ["history: "]),
        ("similar", {}, 422, ["item: Field required"]),
    ],
)
def test_what_cannot_be_answered_is_named(
    client: httpx.Client, path: str, body: dict[str, Any], status: int, words: list[str]
) -> None:
    answer = client.post(f"/{path}", json=body)
    assert answer.status_code == status
    assert all(word in answer.json()["detail"] for word in words)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"k": ' + b"1" * 5000 + b"}"),
        *(b'{"k": NaN}', b'{"history": ["\\ud800"]}', b'{"\\ud800": 1}'),
    ],
)
def test_broken_bodies_are_refused(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/recommend", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert list(answer.json()) == ["detail"]


@pytest.mark.parametrize(
    "kind", [{}, {"Content-Type": "text/plain"}, {"Content-Type": "multipart/form-data"}]
)
def test_json_that_is_not_called_json_is_told_so(client: httpx.Client, kind: dict[str, str]) -> None:
    answer = client.post("/recommend", content=b'{"k": 5}', headers=kind)
    assert answer.status_code == 422
    assert "Content-Type: application/json" in answer.json()["detail"]


def test_large_bodies_are_refused_and_the_longest_valid_one_is_not(client: httpx.Client) -> None:
    kind = {"Content-Type": "application/json"}
    assert client.post("/recommend", content=b" " * (BODY + 1), headers=kind).status_code == 413
    chunks = (b" " * 2**16 for _ in range(BODY // 2**16 + 1))  # their length is not told beforehand
    assert client.post("/recommend", content=chunks, headers=kind).status_code == 413
    ids = [f"{i:03}" + "🍵" * 197 for i in range(400)]
    longest = json.dumps({"history": ids[:200], "exclude": ids[200:]}).encode()
    assert len(longest) > 0.9 * BODY
    assert client.post("/recommend", content=longest, headers=kind).status_code == 404


# --- Many at once


def test_answers_at_once_are_those_one_by_one(client: httpx.Client) -> None:
    asked = [{"history": [f"i{i}" for i in range(first, first + 3)], "k": 9} for first in range(20)] * 3

    def post(body: dict[str, Any]) -> Any:
        return client.post("/recommend", json=body).json()

    alone = [post(body) for body in asked]
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(post, asked)) == alone


def test_too_many_are_told_to_come_back_and_health_still_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, real, inside = threading.Event(), OwnRecommender.recommend, threading.Semaphore(0)

    def slow(self: OwnRecommender, *args: Any, **options: Any) -> Any:
        inside.release()
        assert go.wait(30)
        return real(self, *args, **options)

    monkeypatch.setattr(OwnRecommender, "recommend", slow)
    for client in served(create_app(saved(tmp_path), running=2, waiting=1)):
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(client.post, "/recommend", json={}) for _ in range(4)]
            done, others = wait(asked, timeout=30, return_when=FIRST_COMPLETED)
            assert inside.acquire(timeout=30) and inside.acquire(timeout=30)
            (refused,) = (future.result() for future in done)
            assert refused.status_code == 503
            assert int(refused.headers["Retry-After"]) >= 1 and "try again" in refused.json()["detail"]
            assert client.get("/health").status_code == 200
            assert not inside.acquire(blocking=False)  # the third one waits, it does not compute
            go.set()
            assert [future.result().status_code for future in others] == [200] * 3
        assert client.post("/similar", json={"item": "i1"}).status_code == 200  # all places are free again


# --- Starting


def test_only_files_of_the_library_are_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, about=np.array([object()], dtype=object))
    for path in (pickled, tmp_path / "missing.npz"):
        with pytest.raises(DataError):
            create_app(path)
        assert main([str(path)]) == 2
        assert "recsys_lib.serve: " in capsys.readouterr().err
    long = made()
    long.item_ids[0] = "x" * 201
    long.save(tmp_path / "long.npz")
    with pytest.raises(DataError, match="200 characters"):
        create_app(tmp_path / "long.npz")
    with pytest.raises(ValueError, match="running >= 1"):
        create_app(saved(tmp_path), running=0)
    with pytest.raises(SystemExit, match="2"):
        main([str(saved(tmp_path)), "--port", "65536"])
    assert "between 0 and 65535" in capsys.readouterr().err


def test_the_command_serves_until_it_is_stopped(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "recsys_lib.serve", str(saved(tmp_path)), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = next(line for line in process.stderr if "running on" in line)
            answer = httpx.get(f"http://{line.split('http://')[1].split()[0]}/health", trust_env=False)
            assert answer.json()["items"] == N and "server" not in answer.headers
        finally:
            process.terminate()
            process.communicate(timeout=20)


# --- Everything the description allows, and what it does not


with tempfile.TemporaryDirectory() as somewhere:
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(saved(Path(somewhere))))


@schema.parametrize()
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_answers_keep_to_the_description(case: Any) -> None:
    case.call_and_validate()
