"""Files that name a database source to follow: what they say, checked with their lines.

Run as a module, this writes source.schema.json beside it. How a source is read belongs
in following.py.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from ingest.configuration.schema_checks import (
    NAME,
    Schema,
    key,
    mapping_of,
    schema_defects,
)
from ingest.configuration.yaml_files import Located, read_yaml, yaml_paths
from ingest.errors import SourceError, WorkflowError
from ingest.files.mapping import Mapping, load_mapping, mapping_of_content
from ingest.files.mapping_schema import MAPPING, mapping_defects

FOLDER = "sources"
UNITS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}
DURATION = rf"[1-9][0-9]{{0,8}} ({'|'.join(UNITS)})s?"
LARGEST_OVERLAP = 10**12
VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
# The file's name is the source's, in the ledger and on the command line.
SOURCE_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}"
_DURATION = {
    "type": "string",
    "pattern": f"^{DURATION}$",
    "examples": ["10 minutes"],
}
SOURCE = mapping_of(
    {
        "connection": key(
            {"type": "string", "pattern": f"^{VARIABLE}$", "examples": ["SHOP_URL"]},
            "The environment variable that holds the connection string of a "
            "PostgreSQL; never that string itself.",
        ),
        "query": key(NAME, "One select, whose rows are the source."),
        "mapping": key(
            {**MAPPING, "type": ["string", "object"], "minLength": 1},
            "What its columns mean: a mapping, or the path of one beside this file.",
        ),
        "watermark": key(
            NAME,
            "The column that tells new rows: a time, or a whole number, that later "
            "rows have higher.",
        ),
        "overlap": key(
            {
                **_DURATION,
                "type": ["string", "integer"],
                "minimum": 0,
                "maximum": LARGEST_OVERLAP,
            },
            "How far below the highest watermark reading begins again; of a whole "
            "number a number. Rows that are committed later than that are missed.",
        ),
        "interval": key(_DURATION, "How often it is read."),
        "whole_every": key(
            _DURATION,
            "How often all of it is read, for rows that came too late or have no "
            "watermark; null for once.",
            or_null=True,
        ),
        "timeout": key(
            _DURATION, "After which a reading is given up; 10 minutes by default."
        ),
    },
    optional=("whole_every", "timeout"),
)


@dataclass(frozen=True)
class FollowedSource:
    """A file of a source, checked; its name is the file's.

    connection: the name of an environment variable. overlap: of a watermark that is a
    time or, as a number, of one that is a whole number.
    """

    name: str
    connection: str
    query: str
    mapping: Mapping
    watermark: str
    overlap: timedelta | int
    interval: timedelta
    whole_every: timedelta | None
    timeout: timedelta

    @property
    def sha256(self) -> str:
        """Of what decides which rows there are, and what they become."""
        parts = (self.connection, self.query, self.watermark, self.mapping.sha256)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def source_paths(folder: Path) -> list[Path]:
    """The files of sources in a folder, by name; mappings beside them are none.

    Raises:
        SourceError: the folder can't be looked at.
    """
    if not folder.exists():
        return []
    try:
        found = yaml_paths(folder)
    except WorkflowError as error:
        if any(folder.iterdir()):
            raise SourceError(str(error)) from error
        return []
    return [path for path in found if not path.stem.endswith(".mapping")]


def load_source(path: Path) -> FollowedSource:
    """Read and check a file of a source, and its mapping.

    Raises:
        SourceError: a key is not what it must be; a line a defect. What stands where
            the name of a variable should be is not repeated: it may hold a password.
    """
    defects: list[str] = []
    content = read_yaml(path, defects, kind="a file of a source")
    if content is not None:
        defects += _defects(content)
    if not re.fullmatch(SOURCE_NAME, path.stem):
        defects.append(f"{path}: a source is named by letters, digits, _ and -.")
    if content is None or defects:
        raise SourceError("\n".join(defects))
    return _source(path, content)


def _defects(content: Located) -> Iterator[str]:
    given = content.get("connection")
    if isinstance(given, str) and not re.fullmatch(VARIABLE, given):
        yield (
            f"{content.at('connection')}: 'connection' must be the name of an "
            "environment variable such as SHOP_URL, not what it holds."
        )
        content = content.of({**content, "connection": "NAME"})
    defects = list(schema_defects(content, SOURCE))
    yield from defects
    if not defects and isinstance(content["mapping"], Located):
        yield from mapping_defects(content["mapping"])


def _source(path: Path, content: Located) -> FollowedSource:
    mapping, overlap = content["mapping"], content["overlap"]
    whole_every = content.get("whole_every")
    return FollowedSource(
        path.stem,
        content["connection"],
        content["query"],
        load_mapping(path.parent / mapping)
        if isinstance(mapping, str)
        else mapping_of_content(mapping),
        content["watermark"],
        overlap if isinstance(overlap, int) else _duration(overlap),
        _duration(content["interval"]),
        _duration(whole_every) if whole_every else None,
        _duration(content.get("timeout") or "10 minutes"),
    )


def _duration(text: str) -> timedelta:
    number, unit = text.split()
    return timedelta(seconds=int(number) * UNITS[unit.removesuffix("s")])


def json_schema() -> Schema:
    """The published JSON Schema of a file of a source."""
    content: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Source",
    }
    return content | SOURCE


if __name__ == "__main__":
    Path(__file__).with_name("source.schema.json").write_text(
        json.dumps(json_schema(), indent=2) + "\n"
    )
