"""Indexes of vectors against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

faiss = pytest.importorskip("faiss")

from recsys_lib.index import (
    bytes_per_item,
    candidate_engines,
    exact_index,
    hnsw_index,
    ivfpq_index,
    nearest,
    recall,
    rerank,
    varied,
)


def vectors(items: int, width: int = 16, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(items, width)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def brute_force(base: np.ndarray, queries: np.ndarray, k: int) -> list[list[int]]:
    return [sorted(range(len(base)), key=lambda i: -float(base[i] @ query))[:k] for query in queries]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 12), st.integers(0, 100))
def test_exact_is_brute_force(items: int, width: int, seed: int) -> None:
    base, queries = vectors(items, width, seed), vectors(5, width, seed + 1)
    k = min(items, 7)
    found = nearest(exact_index(base), queries, k)
    values = np.take_along_axis(queries @ base.T, found, axis=1)
    expected = [
        [float(base[i] @ q) for i in row]
        for row, q in zip(brute_force(base, queries, k), queries, strict=True)
    ]
    np.testing.assert_allclose(values, expected, atol=1e-6)  # by value: equal ones may change places


def test_hnsw_finds_nearly_all_and_more_with_more_effort() -> None:
    base, queries = vectors(3000), vectors(100, seed=1)
    true = brute_force(base, queries, 10)
    index = hnsw_index(base)
    found = []
    for effort in (10, 200):
        index.hnsw.efSearch = effort
        found.append(recall(nearest(index, queries, 10), true))
    assert found[0] < found[1] and found[1] > 0.98


def test_all_lists_and_a_rerank_of_everything_are_exact() -> None:
    base, queries = vectors(600), vectors(20, seed=1)
    index = ivfpq_index(base, lists=10, code_bytes=4)
    index.nprobe = 10
    everything = nearest(index, queries, 600)
    assert (np.sort(everything, axis=1) == np.arange(600)).all()
    np.testing.assert_array_equal(rerank(everything, base, queries, 10), brute_force(base, queries, 10))
    assert recall(everything[:, :10], brute_force(base, queries, 10)) < 1  # codes are not the vectors
    np.testing.assert_array_equal(everything, nearest(_probing(ivfpq_index(base, 10, 4), 10), queries, 600))


def _probing(index: object, lists: int) -> object:
    index.nprobe = lists  # type: ignore[attr-defined]
    return index


def test_rerank_passes_over_what_was_not_found() -> None:
    base = np.eye(3, dtype=np.float32)
    found = rerank([[-1, 1, 0, 2]], base, [[0.1, 0.5, 0.9]], 3)
    assert found.tolist() == [[2, 1, 0]]


def test_recall_by_hand() -> None:
    assert recall([[1, 2, 3], [4, 5, -1]], [[3, 2, 9], [5, 4, 6]]) == pytest.approx(4 / 6)


def test_bytes_are_those_of_the_vectors_and_codes() -> None:
    base = vectors(2000, 32)
    assert bytes_per_item(exact_index(base)) == pytest.approx(4 * 32, abs=0.1)
    assert bytes_per_item(hnsw_index(base, links=8)) > 4 * 32 + 4 * 16  # 2 × 8 links on the lowest layer
    overhead = (256 * 32 * 4 + 10 * 32 * 4) / 2000  # centroids of the codes and of the cells
    assert bytes_per_item(ivfpq_index(base, 10, 8)) == pytest.approx(8 + 8 + overhead, abs=2)  # code, id


def test_variations_start_with_the_real_ones_and_lie_between_neighbours() -> None:
    real = vectors(50)
    made = varied(3 * real, 30_000)
    np.testing.assert_allclose(made[:50], real, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(varied(3 * real, 15_000), made[:15_000])
    assert (varied(real, 100, seed=1)[50:] != made[50:100]).any()
    near = np.argsort(-(real @ real.T), axis=1)[:, 1:11]
    steps = np.array([real[i] - real[j] for i in range(50) for j in near[i]])
    possible = (real[:, None] + steps[None]).reshape(-1, 16)
    possible /= np.linalg.norm(possible, axis=1, keepdims=True)
    assert ((made[50:250] @ possible.T).max(axis=1) > 1 - 1e-5).all()


def test_the_file_of_the_benchmark() -> None:
    table = candidate_engines()
    assert set(table["items"]) == {1_682, 5_000, 20_000, 100_000, 300_000, 1_000_000}
    assert table["recall"].between(0, 1).all() and table["visited"].between(0, 1).all()
    assert (table[table["engine"] == "exact"][["recall", "cost"]] == 1).all(axis=None)
    assert not table.duplicated(["run", "items", "engine", "setting"]).any()
    codes_alone = table[table["engine"] == "IVF-PQ"]
    assert codes_alone["recall"].max() < 0.95  # section 8.3: they never get there


def test_errors_say_what_fits() -> None:
    base = vectors(300)
    for call, message in (
        (lambda: exact_index([]), "one vector a row"),
        (lambda: exact_index([[np.nan]]), "not finite"),
        (lambda: ivfpq_index(base[:100], 4, 4), "256 vectors are the least"),
        (lambda: ivfpq_index(base, 301, 4), "lists must be from 1"),
        (lambda: ivfpq_index(base, 4, 5), "code_bytes must divide the length of the vectors, 16"),
        (lambda: nearest(exact_index(base), base, 301), "k must be from 1 to the number of vectors, 300"),
        (lambda: nearest(exact_index(base), base[:, :3]), "queries have 3 columns"),
        (lambda: rerank([[1]], base, base[:1], 2), "number of candidates, 1, not 2"),
        (lambda: recall([[1]], [[1, 2]]), "of one shape"),
        (lambda: varied(base[:5], 9), "at least 11 vectors"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
