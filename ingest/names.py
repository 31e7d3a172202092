"""Names of files as text that a terminal, PostgreSQL and JSON can hold."""

import re
from pathlib import Path

HALVES = re.compile("[\ud800-\udfff]")


def readable(text: str) -> str:
    r"""The text with an escape for what is no character: \xff for such a byte."""
    return HALVES.sub(_escape, text)


def readable_path(path: Path) -> Path:
    """The path as it is told to people and kept in the ledger."""
    return Path(readable(str(path)))


def _escape(half: re.Match[str]) -> str:
    code = ord(half[0])
    # Python puts the bytes of a name that are no UTF-8 there.
    is_byte = 0xDC80 <= code <= 0xDCFF
    return f"\\x{code - 0xDC00:02x}" if is_byte else f"\\u{code:04x}"
