"""Files for the tests of ingest/, and S20 checked after every one of them."""

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from ingest import Mapping, load_mapping
from ingest.store.database import Connection

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def connection(
    connection: Connection, check_conservation: Callable[[Connection], None]
) -> Iterator[Connection]:
    """A connection whose database must conserve every transition to the end (S20)."""
    yield connection
    check_conservation(connection)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file of the test; compressed where its name ends in .gz."""

    def write_file(name: str, content: str | bytes) -> Path:
        raw = content if isinstance(content, bytes) else content.encode()
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
        return path

    return write_file


@pytest.fixture
def mapping(write: Write) -> Callable[[str], Mapping]:
    """Load a mapping from its YAML."""
    return lambda text: load_mapping(write("mapping.yml", text))


@pytest.fixture
def one_row() -> Callable[[], pl.DataFrame]:
    """A frame of one good transition."""
    return lambda: pl.DataFrame(
        {
            "created_at": ["2026-01-01T00:00:00Z"],
            "entity_type": ["order"],
            "entity_id": [1],
            "to_status": ["new"],
        }
    )
