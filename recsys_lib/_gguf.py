"""Turn a language model in llama.cpp's GGUF format, cut into parts, into an ordinary transformers folder.

Reading the quantised file takes a minute and several gigabytes of memory, so it is done once; the folder then loads
in seconds and can be used, and trained, like any other. Needs gguf, torch and transformers.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


class DamagedFile(ValueError):
    """The joined file is not the expected one, or holds no usable model."""


def convert(parts: Iterable[Path], sha256: str, folder: Path) -> None:
    """Join the parts, which are deleted on the way, verify the whole, and write the model in bfloat16.

    Raises
    ------
    DamagedFile
        If the joined file has another SHA-256, or a weight is not finite.
    """
    parts = list(parts)
    whole = join(parts, parts[0].parent / "model.gguf")
    if whole != sha256:
        raise DamagedFile(f"the joined parts have SHA-256 {whole}, expected {sha256}")
    _write(parts[0].parent / "model.gguf", folder)


def join(parts: Iterable[Path], target: Path) -> str:
    """Append the parts to `target`, delete each, and return the SHA-256 of the whole."""
    digest = hashlib.sha256()
    with target.open("wb") as output:
        for part in parts:
            with part.open("rb") as source:
                while block := source.read(1 << 20):
                    digest.update(block)
                    output.write(block)
            part.unlink()
    return digest.hexdigest()


def _write(file: Path, folder: Path) -> None:
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options: dict[str, Any] = {"gguf_file": file.name, "dtype": torch.bfloat16}
    if hasattr(transformers, "GgufConfig"):  # otherwise the weights count as quantised and cannot be saved
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    bars = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    try:
        model = AutoModelForCausalLM.from_pretrained(file.parent, **options)
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    finally:
        os.environ.pop("TQDM_DISABLE")
        if bars is not None:
            os.environ["TQDM_DISABLE"] = bars
    if not all(torch.isfinite(weight).all() for weight in model.parameters()):
        raise DamagedFile("a weight is not finite")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
