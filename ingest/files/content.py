"""A file's bytes as they were when it was hashed, whatever happens to it meanwhile.

What the bytes mean belongs in sources.py.
"""

import hashlib
import io
from pathlib import Path
from typing import NoReturn

from ingest.errors import SourceError

BLOCK_BYTES = 1 << 20


class Content(io.BufferedIOBase):
    """A file opened once: hashed as a whole, then served as just those bytes.

    Each block is held against its digest before it is handed out, so rows of other
    bytes are never taken for rows of this content. What is appended to the file
    afterwards is not seen, nor is another file that takes its name.
    """

    def __init__(self, path: Path, known_as: Path | None = None) -> None:
        """Open and hash a file; messages call it `known_as`, or by its path.

        Raises:
            SourceError: the file is missing, empty or can't be read.
        """
        self.path = known_as or path
        self._place = 0
        self._block = (-1, b"")
        try:
            self._file = path.open("rb", buffering=0)
            self._digests, self.sha256, self.size = _hash(self._file)
        except OSError as error:
            msg = f"{self.path}: {error.strerror or error}. Check the path."
            raise SourceError(msg) from error
        if self.size == 0:
            self._file.close()
            msg = (
                f"{self.path}: the file is empty, without even a header. "
                "Deliver it again."
            )
            raise SourceError(msg)

    def read(self, size: int | None = -1, /) -> bytes:
        """So many bytes, all by default; fewer only at the end.

        Raises:
            SourceError: the file no longer holds what was hashed.
        """
        left = self.size if size is None or size < 0 else size
        parts = []
        while left > 0 and (part := self.read1(left)):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def read1(self, size: int = BLOCK_BYTES, /) -> bytes:
        """Up to so many bytes, of one block; raises as `read` does."""
        if self._place >= self.size:
            return b""
        number, offset = divmod(self._place, BLOCK_BYTES)
        part = self._verified(number)[offset : offset + size]
        self._place += len(part)
        return part

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go on elsewhere."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.size}
        self._place = max(0, start[whence] + offset)
        return self._place

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()

    def _verified(self, number: int) -> bytes:
        if self._block[0] != number:
            place = number * BLOCK_BYTES
            self._file.seek(place)
            block = _read(self._file, min(BLOCK_BYTES, self.size - place))
            if hashlib.sha256(block).digest() != self._digests[number]:
                self._refuse()
            self._block = (number, block)
        return self._block[1]

    def _refuse(self) -> NoReturn:
        msg = (
            f"{self.path}: it was changed while it was read; "
            "no row of the other content is taken. Deliver it again."
        )
        raise SourceError(msg)


def _hash(file: io.FileIO) -> tuple[list[bytes], str, int]:
    """The digest of each block, that of all in hex, and the number of bytes."""
    whole, digests, size = hashlib.sha256(), [], 0
    while block := _read(file, BLOCK_BYTES):
        whole.update(block)
        digests.append(hashlib.sha256(block).digest())
        size += len(block)
    return digests, whole.hexdigest(), size


def _read(file: io.FileIO, size: int) -> bytes:
    """So many bytes; fewer only at the end, where one read may give less."""
    parts = []
    while size > 0 and (part := file.read(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
