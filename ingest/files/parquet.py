"""Parquet in bounded chunks: a small file may hold gigabytes, one value for many rows.

How values become text belongs in transition.py.
"""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingest.errors import SourceError
from ingest.files import chunks
from ingest.files.chunks import Chunk, FrameOrigins
from ingest.files.content import BLOCK_BYTES, Content
from ingest.files.layout import Layout
from ingest.frame_text import as_text

# Of values that are written out one by one, what a row group may hold to be read in
# batches of CHUNK_ROWS, wherever in it the long ones are.
PLAIN_BYTES = 4 * chunks.CHUNK_BYTES
PLAIN_ROWS = 1_000
# A list of more has no place in a row of LONGEST_LINE: an element takes two characters.
LONGEST_LIST = chunks.LONGEST_LINE
# Of JSON, around a member or an element.
MARKS = 4

IS_TEXT = (
    pa.types.is_unicode,
    pa.types.is_large_unicode,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
)

Sizes = npt.NDArray[np.int64]


def read_parquet(content: Content, layout: Layout) -> Iterator[Chunk]:
    """Chunks of up to CHUNK_ROWS rows, ended early where they hold CHUNK_BYTES.

    Raises:
        SourceError: it can't be read, its columns are not the layout's or no text, or a
            row is longer than LONGEST_LINE.
    """
    path = content.path
    first = 1
    try:
        # Buffered ahead, a file of many row groups would be held in memory.
        file = pq.ParquetFile(content, pre_buffer=False, buffer_size=BLOCK_BYTES)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        msg = f"{path}: it is no readable Parquet file: {reason}. Deliver it again."
        raise SourceError(msg) from error
    with file:
        layout.check(file.schema_arrow.names, str(path))
        columns = [c for c in layout.columns if c in file.schema_arrow.names]
        _check_types(file.schema_arrow, columns, str(path))
        try:
            for table in _tables(content, file, columns):
                yield _chunk(table, layout, first)
                first += table.num_rows
        except (OSError, pa.ArrowException) as error:
            msg = (
                f"{path}: unreadable after row {first - 1}: {error}. Deliver it again."
            )
            raise SourceError(msg) from error


def _check_types(schema: pa.Schema, columns: list[str], name: str) -> None:
    """Refuse lists before they are read: they are no text, and may be of any size."""
    for column in columns:
        kind = schema.field(column).type
        if pa.types.is_nested(kind) and not pa.types.is_struct(kind):
            msg = (
                f"{name}: column {column!r} of type {kind} can't be read as text. "
                "Convert it first."
            )
            raise SourceError(msg)


def _chunk(table: pa.Table, layout: Layout, first: int) -> Chunk:
    texts = as_text(pl.DataFrame(table))
    rows = texts.height
    records = texts.select(
        pl.int_range(first, first + rows, dtype=pl.Int64).alias("row_number"),
        *(
            pl.col(c) if c in texts.columns else pl.lit(None, pl.String).alias(c)
            for c in layout.columns
        ),
    )
    return Chunk(records, rows, FrameOrigins(texts, first), [])


def _tables(
    content: Content, file: pq.ParquetFile, columns: list[str]
) -> Iterator[pa.Table]:
    """The rows in chunks, without dictionaries.

    A chunk ends at each multiple of CHUNK_ROWS. Where a column is of dictionary type it
    also ends before a row group with a dictionary, as it always did: a restart counts.
    """
    schema = file.schema_arrow
    kinds = {c: schema.field(c).type for c in columns}
    typed = [c for c, kind in kinds.items() if _plain_type(kind) != kind]
    parts: list[pa.RecordBatch] = []
    size = end = rows = 0
    for group in range(file.num_row_groups):
        if parts and _has_dictionary(file, group, typed):
            yield pa.Table.from_batches(parts)
            parts, size = [], 0
        for batch in _batches(content, file, group, columns):
            sizes = _row_sizes(batch)
            _check_rows(sizes, end + 1, str(content.path))
            while len(sizes):
                room = chunks.CHUNK_ROWS - end % chunks.CHUNK_ROWS
                count = _fitting(sizes[:room], chunks.CHUNK_BYTES - size)
                parts.append(_without_dictionaries(batch.slice(0, count)))
                size, end = size + int(sizes[:count].sum()), end + count
                batch, sizes = batch.slice(count), sizes[count:]
                if size >= chunks.CHUNK_BYTES or end % chunks.CHUNK_ROWS == 0:
                    yield pa.Table.from_batches(parts)
                    parts, size = [], 0
        rows += file.metadata.row_group(group).num_rows
        if end != rows:
            # Arrow leaves rows out in silence where a list's pages begin empty.
            msg = (
                f"{content.path}: of {rows:,} rows up to row group {group + 1} only "
                f"{end:,} can be read. Write the file with another program."
            )
            raise SourceError(msg)
    if parts:
        yield pa.Table.from_batches(parts)


def _fitting(sizes: Sizes, room: int) -> int:
    """How many rows there are until the bytes are as many as there is room for."""
    full = int(np.searchsorted(np.cumsum(sizes), room)) + 1
    return min(full, len(sizes))


def _has_dictionary(file: pq.ParquetFile, group: int, columns: list[str]) -> bool:
    stored = file.metadata.row_group(group)
    return any(
        stored.column(place).has_dictionary_page for place in _places(file, columns)
    )


def _check_rows(sizes: Sizes, first: int, name: str) -> None:
    too_long = np.flatnonzero(sizes > chunks.LONGEST_LINE)
    if len(too_long):
        msg = (
            f"{name}, row {first + int(too_long[0])}: it holds more than "
            f"{chunks.LONGEST_LINE:,} bytes. Deliver the file with shorter rows."
        )
        raise SourceError(msg)


def _without_dictionaries(batch: pa.RecordBatch) -> pa.RecordBatch:
    fields = [f.with_type(_plain_type(f.type)) for f in batch.schema]
    return batch.cast(pa.schema(fields))


def _plain_type(kind: pa.DataType) -> pa.DataType:
    """The type with values in place of dictionaries, at any depth."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_struct(kind):
        fields = [kind.field(n) for n in range(kind.num_fields)]
        return pa.struct([f.with_type(_plain_type(f.type)) for f in fields])
    if pa.types.is_map(kind):
        return pa.map_(_plain_type(kind.key_type), _plain_type(kind.item_type))
    for is_kind, make in (
        (pa.types.is_list, pa.list_),
        (pa.types.is_large_list, pa.large_list),
        (pa.types.is_fixed_size_list, lambda field: pa.list_(field, kind.list_size)),
    ):
        if is_kind(kind):
            field = kind.value_field
            return make(field.with_type(_plain_type(field.type)))
    return kind


class _Leaf(NamedTuple):
    """A stored column of a row group: its values, and their length in bytes.

    shared: of the longest value that is stored once for many rows. plain: of all that
    is stored. has_dictionary: whether all of it can be read as a dictionary.
    """

    path: str
    values: int
    is_repeated: bool
    shared: int
    plain: int
    has_dictionary: bool


def _batches(
    content: Content, file: pq.ParquetFile, group: int, columns: list[str]
) -> Iterator[pa.RecordBatch]:
    """A row group in batches that take some CHUNK_BYTES at the most.

    Elements of lists come as dictionaries, since nobody knows how many a row has.
    """
    rows = file.metadata.row_group(group).num_rows
    if not rows:
        return
    leaves = [_leaf(file, group, place) for place in _places(file, columns)]
    for leaf in leaves:
        if leaf.is_repeated and leaf.values > LONGEST_LIST:
            msg = (
                f"{content.path}: column {leaf.path!r} has {leaf.values:,} elements "
                f"in row group {group + 1}. Write it in smaller row groups."
            )
            raise SourceError(msg)
    if sum(leaf.shared for leaf in leaves) * rows > chunks.CHUNK_BYTES:
        leaves = _looked_at(content, group, leaves, columns)
    size = _batch_rows(leaves, rows)
    elements = [f.path for f in leaves if f.is_repeated and f.has_dictionary]
    if not elements:
        yield from file.iter_batches(size, row_groups=[group], columns=columns)
        return
    with _reader(content, elements) as kept:
        yield from kept.iter_batches(size, row_groups=[group], columns=columns)


def _batch_rows(leaves: list[_Leaf], rows: int) -> int:
    """How many rows of a row group may be read at once."""
    per_row = sum(
        leaf.values * 8 // rows if leaf.is_repeated else leaf.shared for leaf in leaves
    )
    most = chunks.CHUNK_ROWS
    plain = sum(leaf.plain for leaf in leaves)
    if plain > PLAIN_BYTES:
        per_row += plain // rows
        most = min(most, PLAIN_ROWS)
    return max(1, min(most, chunks.CHUNK_BYTES // max(per_row, 1)))


def _places(file: pq.ParquetFile, columns: list[str]) -> list[int]:
    """Of the leaves of these columns."""
    schema = file.metadata.schema
    paths = [schema.column(place).path for place in range(len(schema))]
    return [
        place
        for place, path in enumerate(paths)
        if any(f"{path}.".startswith(f"{name}.") for name in columns)
    ]


def _leaf(file: pq.ParquetFile, group: int, place: int) -> _Leaf:
    column = file.metadata.schema.column(place)
    meta = file.metadata.row_group(group).column(place)
    is_repeated = column.max_repetition_level > 0
    leaf = _Leaf(column.path, meta.num_values, is_repeated, 0, 0, False)
    if column.physical_type == "FIXED_LEN_BYTE_ARRAY":
        return leaf._replace(shared=column.length)
    if column.physical_type != "BYTE_ARRAY":
        return leaf
    # Each value of the one stores what differs from the value before.
    is_delta = any(name.startswith("DELTA") for name in meta.encodings)
    shares = meta.has_dictionary_page or "DELTA_BYTE_ARRAY" in meta.encodings
    plain = meta.total_uncompressed_size
    return leaf._replace(
        # No value is longer than all that is stored.
        shared=plain if shares else 0,
        plain=plain,
        has_dictionary=meta.has_dictionary_page and not is_delta,
    )


def _looked_at(
    content: Content, group: int, leaves: list[_Leaf], columns: list[str]
) -> list[_Leaf]:
    """The leaves with the longest value of their dictionaries, where it can be seen."""
    paths = [leaf.path for leaf in leaves if leaf.has_dictionary]
    found: dict[str, int] = {}
    with _reader(content, paths) as file:
        # One row brings the whole dictionary along.
        batches = file.iter_batches(1, row_groups=[group], columns=columns)
        for batch in islice(batches, 1):
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                _add_longest(name, column, found)
    return [leaf._replace(shared=found.get(leaf.path, leaf.shared)) for leaf in leaves]


def _reader(content: Content, as_dictionaries: list[str]) -> pq.ParquetFile:
    return pq.ParquetFile(
        content,
        pre_buffer=False,
        buffer_size=BLOCK_BYTES,
        read_dictionary=as_dictionaries,
    )


def _add_longest(path: str, array: pa.Array, found: dict[str, int]) -> None:
    kind = array.type
    if pa.types.is_dictionary(kind):
        if len(array.dictionary):
            found[path] = int(_sizes(array.dictionary).max())
    elif pa.types.is_struct(kind):
        for place, field in enumerate(kind):
            _add_longest(f"{path}.{field.name}", array.field(place), found)


def _row_sizes(batch: pa.RecordBatch) -> Sizes:
    """The bytes of text in each row; of numbers and times, which are short, none."""
    total = np.zeros(batch.num_rows, dtype=np.int64)
    for column in batch.columns:
        total += _sizes(column)
    return total


def _sizes(array: pa.Array) -> Sizes:
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return _sizes(array.storage)
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        return _sizes(array.cast(pa.large_binary()))
    if pa.types.is_dictionary(kind):
        # One more, for null.
        lengths = np.append(_sizes(array.dictionary), 0)
        places = _numbers(array.indices.fill_null(-1))
        return np.take(lengths, places)
    if pa.types.is_struct(kind):
        sizes = np.zeros(len(array), dtype=np.int64)
        for field, child in zip(kind, array.flatten(), strict=True):
            sizes += _sizes(child) + len(field.name.encode()) + MARKS
        return sizes
    if pa.types.is_nested(kind):
        return _list_sizes(array)
    if not any(is_kind(kind) for is_kind in IS_TEXT):
        return np.zeros(len(array), dtype=np.int64)
    return _numbers(pc.fill_null(pc.binary_length(array), 0))


def _numbers(array: pa.Array) -> Sizes:
    return np.asarray(array.to_numpy(zero_copy_only=False), dtype=np.int64)


def _list_sizes(array: pa.Array) -> Sizes:
    """Of lists and maps: the bytes of their elements, and of what is between them."""
    if pa.types.is_map(array.type):
        kinds = pa.list_(pa.struct([array.type.key_field, array.type.item_field]))
        array = array.cast(kinds)
    ends = np.cumsum(_numbers(pc.fill_null(pc.list_value_length(array), 0)))
    elements = np.cumsum(np.append(0, _sizes(array.flatten()) + MARKS))
    sizes: Sizes = np.diff(elements[np.append(0, ends)])
    return sizes
