"""The converter of the packaged multilingual-e5-small: a small file written here, and the real one."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from recsys_lib._e5 import DamagedFile, convert
from recsys_lib.encoders import TextEncoder

PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "a", "b", "▁ab", "～", "<mask>"]
HIDDEN, INNER, VOCABULARY, POSITIONS = 32, 64, 11, 16
VECTOR = {"emb.ln.w", "emb.ln.b"}

# Token ids (with "query: " in front) and vectors of the package's own engine, written down once.
ENGINE_IDS = {
    "A phone with a bright screen": [0, 41, 1294, 12, 62, 24089, 678, 10, 124498, 49119, 2],
    "Running shoes, light and airy": [0, 41, 1294, 12, 28398, 592, 148100, 4, 22729, 136, 1831, 53, 2],
    "智能手机，支持5G网络": [0, 41, 1294, 12, 6, 178521, 4, 7499, 758, 724, 10294, 2],
    "运动鞋，舒适透气": [0, 41, 1294, 12, 6, 28188, 27175, 4, 118032, 26240, 7825, 2],
    "～ＡＢＣ　１２３～ two  spaces\tand a tab": [
        *(0, 41, 1294, 12, 6, 6087, 186944, 37638, 6087, 6626, 32628, 7, 136, 10, 20928, 2)
    ],
    "Straße, café, naïve, 50 €": [0, 41, 1294, 12, 90515, 4, 26216, 4, 24, 9392, 272, 4, 836, 2505, 2],
    "한국어와 日本語のテキスト": [0, 41, 1294, 12, 193751, 2020, 6, 98449, 154, 193508, 2],
}
ENGINE_VECTORS = [  # first six of 384 numbers, for the first four texts
    [0.0159, -0.0143, -0.0315, -0.0732, 0.0762, -0.0015],
    [0.0035, 0.0193, -0.0389, -0.1128, 0.0965, -0.0607],
    [0.0387, -0.0119, -0.0185, -0.0146, 0.0880, -0.0314],
    [0.0181, -0.0058, -0.0405, -0.0548, 0.0776, -0.0377],
]
ENGINE_COSINES = [
    [1.000, 0.823, 0.799, 0.744],
    [0.823, 1.000, 0.748, 0.831],
    [0.799, 0.748, 1.000, 0.852],
    [0.744, 0.831, 0.852, 1.000],
]


def small_tensors():
    """Name -> (values or Q4_0 blocks, shape) of a one-layer model."""
    rng = np.random.default_rng(0)
    shapes = {"emb.word": (VOCABULARY, HIDDEN), "emb.pos": (POSITIONS, HIDDEN), "emb.type": (2, HIDDEN)}
    shapes |= {"emb.ln.w": (HIDDEN,), "emb.ln.b": (HIDDEN,)}
    for name in ("q", "k", "v", "ao", "aln", "fi", "fo", "oln"):
        rows, columns = {"fi": (INNER, HIDDEN), "fo": (HIDDEN, INNER)}.get(name, (HIDDEN, HIDDEN))
        shapes[f"l0.{name}.w"] = (rows,) if name in ("aln", "oln") else (rows, columns)
        shapes[f"l0.{name}.b"] = (rows,)
    tensors = {}
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        if len(shape) == 2 and name not in ("emb.pos", "emb.type"):
            scales = rng.normal(size=count // 32).astype("<f2")
            nibbles = rng.integers(0, 256, size=(count // 32, 16), dtype=np.uint8)
            tensors[name] = ((scales, nibbles), shape)
        else:
            tensors[name] = (rng.normal(size=count).astype("<f4"), shape)
    return tensors


def small_file(**changes):
    """A whole file in the package's format; `changes` replace parts of it."""
    pieces = changes.get("pieces", PIECES)
    encoded = [piece.encode() for piece in pieces]
    offsets = np.cumsum([0] + [len(piece) for piece in encoded]).astype("<u4")
    scores = np.array([0, 0, 0, 0, -3, -1, -2, -2.5, -4, 0][: len(pieces)], dtype="<f4")
    characters = {0x9: " ", 0x7: "", 0xA0: " ", 0xFF21: "A"}
    table = b"".join(
        struct.pack(f"<IB{len(new)}I", old, len(new), *map(ord, new)) for old, new in characters.items()
    )
    hidden = changes.get("hidden", HIDDEN)
    head = changes.get("magic", b"E5S1")
    head += struct.pack(
        "<8ifi", 1, hidden, 1, 4, INNER, VOCABULARY, POSITIONS, 2, 1e-12, changes.get("block", 32)
    )
    head += struct.pack("<5iQ", len(pieces), 0, 2, 1, changes.get("unk", 3), offsets[-1])
    head += changes.get("offsets", offsets).tobytes() + scores.tobytes() + b"".join(encoded)
    head += struct.pack("<iI", len(characters), len(table) + changes.get("table_error", 0)) + table
    tensors = small_tensors()
    for name in changes.get("without", ()):
        del tensors[name]
    directory_size = 4 + sum(2 + len(name) + 21 for name in tensors)
    position = len(head) + directory_size
    directory, data = struct.pack("<i", len(tensors)), b""
    for name, (values, shape) in tensors.items():
        if isinstance(values, tuple):
            block = np.zeros(len(values[0]), dtype=[("scale", "<f2"), ("nibbles", "u1", 16)])
            block["scale"], block["nibbles"] = values
            content, kind = block.tobytes(), 1
        else:
            content, kind = values.tobytes(), 0
        count = int(np.prod(shape)) + (1 if name == changes.get("miscount") else 0)
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", kind, count, position + len(data), len(content))
        if name == changes.get("not_finite"):
            content = np.full(len(content) // 4, np.nan, "<f4").tobytes()
        data += content
    return head + directory + data


def widened(scales, nibbles):
    """Q4_0 by a plain loop: byte j of a block holds number j in its low half and number j + 16 in its high half."""
    numbers = []
    for scale, block in zip(scales, nibbles, strict=True):
        low = [(int(byte) % 16 - 8) * float(scale) for byte in block]
        high = [(int(byte) // 16 - 8) * float(scale) for byte in block]
        numbers += low + high
    return np.array(numbers, dtype=np.float32)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "blob").write_bytes(small_file())
    convert(tmp_path / "blob", tmp_path / "model")
    return tmp_path / "model"


def test_tensors_equal_a_plain_loop(folder):
    written = load_file(folder / "model.safetensors")
    assert len(written) == len(small_tensors())
    names = {
        "emb.word": "embeddings.word_embeddings.weight",
        "emb.pos": "embeddings.position_embeddings.weight",
        "l0.q.w": "encoder.layer.0.attention.self.query.weight",
        "l0.fi.w": "encoder.layer.0.intermediate.dense.weight",
        "l0.fo.w": "encoder.layer.0.output.dense.weight",
        "l0.oln.b": "encoder.layer.0.output.LayerNorm.bias",
    }
    for name, new_name in names.items():
        values, shape = small_tensors()[name]
        expected = widened(*values) if isinstance(values, tuple) else values
        np.testing.assert_array_equal(written[new_name], expected.reshape(shape))


def test_folder_loads_and_tokenizes(folder):
    encoder = TextEncoder.from_pretrained(folder)
    assert (encoder.dimension, encoder.max_length) == (HIDDEN, POSITIONS)
    assert encoder.tokens("ab", special=True) == ["<s>", "▁ab", "</s>"]
    assert encoder.tokens("a\tb") == ["▁", "a", "▁", "b"]  # a tab becomes a space
    assert encoder.tokens("a\x07b") == ["▁ab"]  # dropped
    assert encoder.tokens("～") == ["▁", "～"]  # kept, though NFKC would replace it
    assert encoder.tokens("ａ") == ["▁", "a"]  # NFKC
    assert encoder.tokens("x") == ["▁", "<unk>"]
    assert encoder.tokenizer.mask_token == "<mask>" and encoder.tokenizer.pad_token_id == 1
    vectors = encoder.encode(["ab", "a b a b"], show_progress=False)
    assert vectors.shape == (2, HIDDEN) and np.isfinite(vectors).all()


def test_same_blob_same_bytes(folder, tmp_path):
    convert(tmp_path / "blob", tmp_path / "again")
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    assert json.loads((folder / "config.json").read_text())["layer_norm_eps"] == 1e-12


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"magic": b"GGUF"}, "does not begin with E5S1"),
        ({"block": 64}, "make no sense"),
        ({"hidden": 33}, "make no sense"),
        ({"offsets": np.full(len(PIECES) + 1, 3, "<u4")}, "offsets"),
        ({"pieces": [*PIECES[:-1], "a"]}, "repeats a piece"),
        ({"unk": 99}, "not in the vocabulary"),
        ({"table_error": 4}, "table of characters"),
        ({"without": ["l0.q.w"]}, "tensor l0.q.w is missing"),
        ({"miscount": "l0.q.b"}, "l0.q.b has 33 elements"),
        ({"not_finite": "emb.pos"}, "not finite"),
    ],
)
def test_damage_is_named(tmp_path, changes, message):
    (tmp_path / "blob").write_bytes(small_file(**changes))
    with pytest.raises(DamagedFile, match=message):
        convert(tmp_path / "blob", tmp_path / "model")
    assert not (tmp_path / "model").exists()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(small_file()) - 1))
def test_a_cut_file_is_refused(tmp_path_factory, length):
    folder = tmp_path_factory.mktemp("cut")
    (folder / "blob").write_bytes(small_file()[:length])
    with pytest.raises(DamagedFile, match="damaged"):
        convert(folder / "blob", folder / "model")


def test_without_a_mask_token(tmp_path):
    (tmp_path / "blob").write_bytes(small_file(pieces=PIECES[:-1]))
    convert(tmp_path / "blob", tmp_path / "model")
    assert "mask_token" not in json.loads((tmp_path / "model" / "tokenizer_config.json").read_text())


@pytest.fixture(scope="module")
def e5():
    return TextEncoder.from_pretrained("multilingual-e5-small")


def test_packaged_model_reads_as_its_own_engine(e5):
    assert (e5.prefix, e5.dimension, e5.max_length) == ("query: ", 384, 256)
    for text, ids in ENGINE_IDS.items():
        assert e5.tokenizer("query: " + text)["input_ids"] == ids


def test_packaged_model_computes_as_its_own_engine(e5):
    vectors = e5.encode(list(ENGINE_IDS)[:4], normalize=True, show_progress=False, cache=False)
    np.testing.assert_allclose(vectors @ vectors.T, ENGINE_COSINES, atol=0.004)
    np.testing.assert_allclose(vectors[:, :6], ENGINE_VECTORS, atol=0.004)
