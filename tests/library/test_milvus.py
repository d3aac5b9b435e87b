"""What section 8.3 says of Milvus Lite: filters are exact, changes and deletions outlive a restart."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("milvus_lite")
pymilvus = pytest.importorskip("pymilvus")


def test_a_restart_loses_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    years = 1990 + np.arange(200) % 20
    client = pymilvus.MilvusClient(str(tmp_path / "items.db"))
    client.create_collection("items", dimension=8, metric_type="COSINE")
    client.insert("items", [{"id": i, "vector": vectors[i], "year": int(years[i])} for i in range(200)])
    client.upsert("items", [{"id": 7, "vector": vectors[8], "year": 2030}])
    client.delete("items", filter="year < 1995")
    client.close()

    client = pymilvus.MilvusClient(str(tmp_path / "items.db"))
    kept = (years >= 1995) | (np.arange(200) == 7)
    assert client.query("items", filter="", output_fields=["count(*)"])[0]["count(*)"] == kept.sum()
    vectors[7], years[7] = vectors[8], 2030
    hits = client.search("items", data=list(vectors[:20]), limit=5, filter="year >= 2000")
    found = np.array([[hit["distance"] for hit in row] for row in hits])
    client.close()
    allowed = np.where(kept & (years >= 2000), vectors[:20] @ vectors.T, -np.inf)
    np.testing.assert_allclose(found, -np.sort(-allowed, axis=1)[:, :5], atol=1e-5)
