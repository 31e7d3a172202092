"""What a delivery would be, without writing any of it.

What becomes of a file that is delivered belongs in delivery.py.
"""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import polars as pl

from ingest.append import known_types
from ingest.breaker import Breaker, Refusal, refusals_of
from ingest.delivery import Settings, validated
from ingest.files.content import Content
from ingest.files.sources import read
from ingest.kinds import TRANSITIONS
from ingest.names import readable_path
from ingest.store.database import Connection, server_clock

# Of each row that is good, to be counted at the end, with what is told of its kind:
# some 60 bytes.
KEPT = {
    "id": pl.String(),
    "entity_type": pl.String(),
    "entity_id": pl.Int64(),
    "created_at": pl.Datetime("us", "UTC"),
}


class Preview(NamedTuple):
    """What a file holds by its mapping.

    rows: of the source; skipped_rows: of them, those that the mapping leaves out;
    kind: what they are; transitions: those (or audit entries) that would be appended or
    are there; repeated: of them, those with the id of one before in the file; first_at,
    last_at: instants of the earliest and the latest; statuses: how many transitions go
    to each, the most frequent first (of audit entries: actions); entities: how many
    there are; rejected: the refused rows by code.
    """

    rows: int
    skipped_rows: int
    transitions: int
    repeated: int
    entities: int
    first_at: datetime | None
    last_at: datetime | None
    statuses: dict[str, int]
    rejected: list[Refusal]
    kind: str = TRANSITIONS.name


def preview(
    connection: Connection,
    path: Path,
    settings: Settings,
    *,
    takes_types: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Preview:
    """Read, map and judge a whole file, and count what comes of it.

    Args:
        connection: for the known entity types and the server's clock.
        path: as `deliver` takes it.
        settings: as `deliver` takes them; the breaker does not break off.
        takes_types: whether the mapping's constant entity types count as known.
        progress: called with the number of source rows done after each chunk.

    Raises:
        SourceError: the file can't be read, or its header is wrong.
    """
    settings = settings.resolve()
    types, clock = known_types(connection), server_clock(connection)
    if takes_types and settings.mapping:
        types = [*types, *settings.mapping.entity_types]
    name = readable_path(path)
    told = settings.kind.told
    kept = {**KEPT, told: pl.String()}
    breaker = Breaker(name, 1, types)
    parts: list[pl.DataFrame] = []
    skipped = 0
    with Content(path, name) as content:
        for chunk in read(content, settings.layout):
            batch = validated(chunk, settings, types, clock)
            breaker.count(batch.source_rows, refusals_of(batch.rejects, batch.refused))
            skipped += batch.skipped_rows
            parts.append(batch.good.select(list(kept)))
            progress(breaker.rows)
    good = pl.concat([pl.DataFrame(schema=kept), *parts])
    statuses = good[told].value_counts().sort(["count", told], descending=[True, False])
    ends = good.select(
        first=pl.col("created_at").min(), last=pl.col("created_at").max()
    )
    first_at, last_at = ends.row(0)
    return Preview(
        rows=breaker.rows,
        skipped_rows=skipped,
        transitions=good.height,
        repeated=good.height - good["id"].n_unique(),
        entities=good.select("entity_type", "entity_id").n_unique(),
        first_at=first_at,
        last_at=last_at,
        statuses=dict(statuses.iter_rows()),
        rejected=breaker.refusals,
        kind=settings.kind.name,
    )
