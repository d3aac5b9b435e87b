"""Make recsys_lib/fonts/NotoSansCJKsc-Subset.otf from Noto Sans CJK (SIL Open Font License 1.1).

    python tools/make_font_subset.py NotoSansCJK-Regular.ttc

The collection comes with Debian's package fonts-noto-cjk; font 2 in it is Noto Sans CJK SC. Kept: the 3,755
characters of GB2312 level 1, Latin-1, Greek, punctuation, arrows and the usual mathematical signs, and every
other character that a code cell of the notebooks holds (figure labels are made there). Needs fonttools.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from fontTools import subset

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "recsys_lib" / "fonts" / "NotoSansCJKsc-Subset.otf"
RANGES = [
    (0x20, 0x7E), (0xA0, 0xFF), (0x131, 0x131), (0x152, 0x153), (0x2C6, 0x2DC), (0x391, 0x3C9),
    (0x2010, 0x2027), (0x2030, 0x203B), (0x20AC, 0x20AC), (0x2116, 0x2122), (0x2190, 0x2199),
    (0x2200, 0x22A5), (0x2460, 0x2473), (0x25A0, 0x25CF), (0x2605, 0x2606), (0x2713, 0x2717),
    (0x3000, 0x301F), (0xFF01, 0xFF5E), (0xFFE0, 0xFFE5),
]  # fmt: skip


def characters() -> set[int]:
    """Return the code points to keep."""
    points = {point for low, high in RANGES for point in range(low, high + 1)}
    for row in range(0xB0, 0xD8):  # GB2312 level 1, by the two bytes of its encoding
        for cell in range(0xA1, 0xFF):
            try:
                points.add(ord(bytes([row, cell]).decode("gb2312")))
            except UnicodeDecodeError:
                continue
    for path in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                points.update(ord(c) for c in "".join(cell["source"]) if "\u4e00" <= c <= "\u9fff")
    return points


def main(source: str) -> None:
    """Write the subset of the font collection ``source``."""
    options = subset.Options(
        layout_features=[], hinting=False, desubroutinize=True, font_number=2, name_IDs=["*"]
    )
    font = subset.load_font(source, options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=characters())
    subsetter.subset(font)
    subset.save_font(font, str(TARGET), options)
    print(f"{TARGET.name}: {len(font.getBestCmap())} characters, {TARGET.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1])
