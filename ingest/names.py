"""Names of files, and bytes, as text that a terminal, PostgreSQL and JSON can hold."""

import re
from pathlib import Path

HALVES = re.compile("[\ud800-\udfff]")


def readable(text: str) -> str:
    r"""The text with an escape for what is no character: \xff for such a byte."""
    return HALVES.sub(_escape, text)


def readable_path(path: Path) -> Path:
    """The path as it is told to people and kept in the ledger."""
    return Path(readable(str(path)))


def printable(original: bytes) -> str:
    r"""The bytes as text, one to one: what can't be printed is written \xNN, \n, \\."""
    named = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    text = original.decode("utf-8", "surrogateescape")
    return "".join(
        named.get(c) or (c if c.isprintable() else _escaped(c)) for c in text
    )


def _escaped(character: str) -> str:
    raw = character.encode("utf-8", "surrogateescape")
    return "".join(f"\\x{byte:02x}" for byte in raw)


def _escape(half: re.Match[str]) -> str:
    code = ord(half[0])
    # Python puts the bytes of a name that are no UTF-8 there.
    is_byte = 0xDC80 <= code <= 0xDCFF
    return f"\\x{code - 0xDC00:02x}" if is_byte else f"\\u{code:04x}"
