"""A file as bounded chunks of text rows: CSV, JSON Lines, Parquet, XES; plain or gzip.

Whether a value is right is decided in transition.py, which column means what in
mapping.py, and how a format is read in delimited.py, json_lines.py, parquet.py, xes.py.
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

from ingest.errors import SourceError
from ingest.files.ahead import TextAhead
from ingest.files.chunks import Chunk, Form, SourceRow
from ingest.files.content import Content
from ingest.files.delimited import read_delimited, reread_record
from ingest.files.json_lines import read_json_lines, reread_line
from ingest.files.layout import Layout
from ingest.files.parquet import read_parquet
from ingest.files.xes import read_xes

FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".xes": "xes",
}


def expand(path: Path) -> list[Path]:
    """The files that a path names: itself, those of a folder, or those of a pattern.

    Raises:
        SourceError: a folder or pattern names no file of a known format.
    """
    if path.is_dir():
        found = path.iterdir()
    elif path.exists():
        return [path]
    elif not any(mark in path.name for mark in "*?["):
        msg = f"{path}: No such file or directory. Check the path."
        raise SourceError(msg)
    else:
        found = path.parent.glob(path.name)
    files = sorted(p for p in found if p.is_file() and suffix(p) in FORMATS)
    if not files:
        known = ", ".join(FORMATS)
        msg = f"{path}: there is no file that ends in {known} (.gz may follow)."
        raise SourceError(msg)
    return files


def read(content: Content, layout: Layout) -> Iterator[Chunk]:
    """Read a file as chunks, in its order; row numbers count from 1.

    The content is open and stays so; one reading of it at a time.

    Raises:
        SourceError: the file can't be read, or its header is not the layout's. Chunks
            handed out before stay valid; a header is judged before the first chunk.
    """
    path = content.path
    kind = format_of(path)
    content.seek(0)
    if kind == "parquet":
        yield from read_parquet(content, layout)
        return
    try:
        if kind == "xes":
            yield from read_xes(lambda: _from_start(content), layout, str(path))
            return
        text = TextAhead(_decompressed(content), str(path), layout.encoding)
        if kind == "csv":
            is_tsv = layout.delimiter is None and suffix(path) == ".tsv"
            layout = layout._replace(delimiter="\t") if is_tsv else layout
            yield from read_delimited(text, layout, str(path))
        else:
            yield from read_json_lines(text, layout)
    except (OSError, EOFError, zlib.error) as error:
        msg = f"{path}: it can't be read to its end: {error}. Deliver it again."
        raise SourceError(msg) from error


def reread(original: bytes, layout: Layout, form: Form) -> SourceRow:
    """One record's original bytes again, by the reader of its form; without a line."""
    if form.format == "csv":
        return reread_record(original, layout, form)
    return reread_line(original, layout, form)


def format_of(path: Path) -> str:
    """The format that a file's name says.

    Raises:
        SourceError: it says none that is known.
    """
    kind = FORMATS.get(suffix(path))
    if kind is None:
        known = ", ".join(FORMATS)
        msg = f"{path}: its name ends in none of {known} (.gz may follow). Rename it."
        raise SourceError(msg)
    return kind


def suffix(path: Path) -> str:
    """The last suffix, .gz aside, in lower case."""
    suffixes = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
    return suffixes[-1] if suffixes else ""


def _from_start(content: Content) -> io.BufferedIOBase:
    content.seek(0)
    return _decompressed(content)


def _decompressed(content: Content) -> io.BufferedIOBase:
    is_gzip = content.path.suffix.lower() == ".gz"
    return gzip.GzipFile(fileobj=content) if is_gzip else content
