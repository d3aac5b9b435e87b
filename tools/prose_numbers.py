"""Find the decimals in prose, and hold them against recorded values."""

from __future__ import annotations

import re

# what is no statement about a measurement: code, formulas, links, roles, headings, comments, section numbers
IGNORED = re.compile(
    r"^(`{3,}|~{3,}).*?^\1|^\$\$.*?\$\$|^:label:.*?$|`[^`\n]*`|\$[^$\n]+\$|\]\([^)]*\)|<[^>\n]+>|https?://\S+|^#+ .*?$|<!--.*?-->"
    r"|\[\d+\.\d+[^\]]*(?=\])"
    r"|\b(?:CC BY(?:-SA)?|Apache)[ -]\d\.\d"
    r"|(?:[Ss]ections?|[Cc]hapters?|§|第)\s?\d+\.\d+(?:(?:\s?(?:[–—,、和与至到]|and|to)\s?)\d+\.\d+)*",
    re.MULTILINE | re.DOTALL,
)
DECIMAL = re.compile(r"(?<![\w.])\d*\.\d+%?(?![\w.]*\d)")


def decimals(text: str) -> list[str]:
    """Return the decimal numbers of a text, as written, without their sign."""
    return DECIMAL.findall(IGNORED.sub(" ", text))


def is_measured(number: str, values: list[float]) -> bool:
    """Say whether a written number is one of the values, rounded (either way at a half) to the digits shown.

    ``12.5%`` stands for a value of 0.125 or of 12.5 (a value recorded in per cent).
    """
    digits = number.rstrip("%")
    written = float(digits)
    half = 0.5 * 10 ** -len(digits.partition(".")[2])
    candidates = [abs(v) for v in values] + ([100 * abs(v) for v in values] if number.endswith("%") else [])
    return any(abs(value - written) <= half * (1 + 1e-9) for value in candidates)
