"""The values of a frame as texts, in the spelling that validation reads."""

import polars as pl

from ingest.errors import SourceError


def as_text(frame: pl.DataFrame) -> pl.DataFrame:
    """Every column as the text that `validate` reads; nothing is rounded.

    Instants become ISO 8601 with all their digits, nested values JSON, booleans
    true and false; floats keep their point, so that they never pass for ids.

    Raises:
        SourceError: a column has no text form, such as bytes that are no UTF-8.
    """
    return pl.DataFrame([_as_text(column) for column in frame.iter_columns()])


def _as_text(column: pl.Series) -> pl.Series:
    name, dtype = column.name, column.dtype
    try:
        if isinstance(dtype, pl.Datetime):
            zone = "%:z" if dtype.time_zone else ""
            return column.dt.to_string(f"%Y-%m-%dT%H:%M:%S%.f{zone}")
        if isinstance(dtype, pl.Struct):
            return column.struct.json_encode()
        return column.cast(pl.String)
    except pl.exceptions.PolarsError as error:
        msg = (
            f"Column {name!r} of type {dtype} can't be read as text. Convert it first."
        )
        raise SourceError(msg) from error
