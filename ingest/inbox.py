"""The inbox: a folder whose files are delivered, then filed away.

Files in the inbox itself have the columns of raw.status_transitions; those in a folder
of it are read with the mapping.yml beside them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ingest.database import Connection
from ingest.delivery import Delivery, Settings, deliver
from ingest.errors import SourceError
from ingest.locks import Lock, holding
from ingest.mapping import load_mapping
from ingest.sources import FORMATS, suffix

MAPPING_NAME = "mapping.yml"


class Taken(NamedTuple):
    """What became of a file: its delivery, or why it was refused."""

    path: Path
    delivery: Delivery | None
    refusal: str | None


def waiting(inbox: Path) -> list[Path]:
    """The files to deliver, in the order of their names."""
    return [
        path
        for path in sorted((*inbox.glob("*"), *inbox.glob("*/*")))
        if path.is_file() and path.name[0] != "." and suffix(path) in FORMATS
    ]


def take_in(
    connection: Connection,
    inbox: Path,
) -> Iterator[Taken]:
    """Deliver every file that waits, moving each to `archive` or `refused` beside it.

    A refused file gets a .txt with the reason next to it; the others go on. One at a
    time: another process waits, and finds what this one left. Write a file elsewhere
    and rename it into the inbox, so that it is never taken while it grows.
    """
    with holding(connection, Lock.INBOX):
        yield from _take_all(connection, inbox)


def _take_all(connection: Connection, inbox: Path) -> Iterator[Taken]:
    for path in waiting(inbox):
        mapping = path.parent / MAPPING_NAME
        try:
            has_mapping = path.parent != inbox and mapping.exists()
            settings = Settings(load_mapping(mapping) if has_mapping else None)
            taken = Taken(path, deliver(connection, path, settings), None)
        except SourceError as error:
            taken = Taken(path, None, str(error))
        _file_away(taken, inbox)
        yield taken


def _file_away(taken: Taken, inbox: Path) -> None:
    shelf = inbox.parent / ("archive" if taken.refusal is None else "refused")
    place = shelf / taken.path.relative_to(inbox)
    place.parent.mkdir(parents=True, exist_ok=True)
    number = 0
    while place.exists():
        number += 1
        place = place.with_name(f"{number}-{taken.path.name}")
    taken.path.rename(place)
    if taken.refusal is not None:
        place.with_name(f"{place.name}.txt").write_text(f"{taken.refusal}\n")
