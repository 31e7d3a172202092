"""Text in other encodings than UTF-8: line by line, and back to the very bytes.

A line that would not come back as it was is handed on as what is no UTF-8 either, so
that it is rejected with its bytes.
"""

import codecs
import io
from itertools import pairwise

import numpy as np

from ingest.errors import SourceError
from ingest.files.chunks import LONGEST_LINE

READ_BYTES = 1 << 20
BYTE_ORDERS = {
    codecs.BOM_UTF32_LE: ("utf-32", "utf-32-le"),
    codecs.BOM_UTF32_BE: ("utf-32", "utf-32-be"),
    codecs.BOM_UTF16_LE: ("utf-16", "utf-16-le"),
    codecs.BOM_UTF16_BE: ("utf-16", "utf-16-be"),
}
# Half characters that stand for the bytes of a line that can't be decoded.
ESCAPES = [chr(0xDC00 + byte) for byte in range(256)]


def check_encoding(name: str) -> str | None:
    """The one name of an encoding; None for UTF-8.

    Raises:
        SourceError: Python knows none of this name, or its lines end otherwise.
    """
    try:
        end = "\n".encode(name).removeprefix("".encode(name))
    except (LookupError, UnicodeError, ValueError) as error:
        msg = f"{name!r} is no encoding of text, such as cp1252, latin-1 or utf-16."
        raise SourceError(msg) from error
    if end.strip(b"\x00") != b"\n":
        msg = f"Lines of {name!r} don't end as others do. Convert the file to UTF-8."
        raise SourceError(msg)
    found = codecs.lookup(name).name
    return None if found in ("utf-8", "utf-8-sig") else found


class Codec:
    """An encoding whose lines become UTF-8, and come back as the same bytes."""

    def __init__(self, name: str) -> None:
        """The order of bytes must be part of the name."""
        self.name = name
        self._end = "\n".encode(name)
        order = ">" if self._end.startswith(b"\x00") else "<"
        self._unit = np.dtype(f"{order}u{len(self._end)}")

    def lines(self, data: bytes) -> list[bytes]:
        """Lines with their ends, and behind them what has none; perhaps empty."""
        size = len(data) // len(self._end)
        units = np.frombuffer(data, self._unit, size)
        ends = (np.flatnonzero(units == ord("\n")) + 1) * len(self._end)
        places = [0, *ends.tolist(), len(data)]
        return [data[start:end] for start, end in pairwise(places)]

    def to_utf8(self, data: bytes) -> bytes:
        """Whole lines as UTF-8, or as what is none."""
        return b"".join(map(self._to_utf8, self.lines(data)))

    def original(self, text: bytes) -> bytes:
        """The bytes that became this UTF-8; whole lines."""
        lines = text.decode("utf-8", "surrogatepass").split("\n")
        return self._end.join(map(self._to_bytes, lines))

    def _to_utf8(self, line: bytes) -> bytes:
        body = line.removesuffix(self._end)
        end = b"\n" if len(body) < len(line) else b""
        try:
            text = body.decode(self.name)
            if "\n" not in text and text.encode(self.name) == body:
                return text.encode() + end
        except UnicodeError:
            pass
        # What it has of quotes decides which lines are one record.
        quotes = body.decode(self.name, "replace").count('"') % 2
        escaped = "".join(ESCAPES[byte] for byte in body) + '"' * quotes
        return escaped.encode("utf-8", "surrogatepass") + end

    def _to_bytes(self, line: str) -> bytes:
        escaped = bytes(ord(c) - 0xDC00 for c in line if "\udc00" <= c <= "\udcff")
        return escaped or line.encode(self.name)


class Transcoded(io.BufferedIOBase):
    """A stream of text in another encoding, as UTF-8."""

    def __init__(self, name: str, stream: io.BufferedIOBase, file_name: str) -> None:
        """Begin to read; the first bytes may have to tell the order of bytes.

        Raises:
            SourceError: they don't.
        """
        self._stream = stream
        self._ahead = stream.read1(READ_BYTES)
        self._rest = b""
        if name in ("utf-16", "utf-32"):
            name = _with_byte_order(name, self._ahead, file_name)
        self.codec = Codec(name)

    def read1(self, _: int = -1, /) -> bytes:
        """Some whole lines; the last one of the file may have no end."""
        while part := self._ahead:
            *lines, self._rest = self.codec.lines(self._rest + part)
            # The reader refuses a line as long as that; here it must not pile up.
            if len(self._rest) > LONGEST_LINE:
                lines, self._rest = [*lines, self._rest], b""
            self._ahead = self._stream.read1(READ_BYTES)
            if lines:
                return self.codec.to_utf8(b"".join(lines))
        rest, self._rest = self._rest, b""
        return self.codec.to_utf8(rest)


def _with_byte_order(name: str, head: bytes, file_name: str) -> str:
    for mark, (family, encoding) in BYTE_ORDERS.items():
        if family == name and head.startswith(mark):
            return encoding
    msg = f"{file_name}: no byte order mark. Name {name}-le or {name}-be instead."
    raise SourceError(msg)
