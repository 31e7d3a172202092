"""Sources that are followed: check their files, list how far they are, read one now."""

import sys
from pathlib import Path
from typing import Any

import click

from dagster_project.cli.options import AS_JSON, EXIT_CODES, REJECTED
from dagster_project.terminal import say, tell_json, tell_table
from ingest.errors import SourceError
from ingest.followed_source import FOLDER, FollowedSource, load_source, source_paths
from ingest.following import follow, state_of
from ingest.store import database
from ingest.store.database import Connection


@click.group(name="sources")
def sources_group() -> None:
    """Check, list and read the databases that are followed.

    Each is a file in the folder `sources` of STATUS_ENGINE_HOME; scheduled runs read
    those that are due.
    """


@sources_group.command(name="check")
@click.argument("path", required=False, type=click.Path(path_type=Path))
def check_command(path: Path | None) -> None:
    """Say what is wrong in a file or folder, with file and line; nothing is read."""
    place = path or database.home() / FOLDER
    defects = []
    paths = [place] if place.is_file() else source_paths(place)
    for each in paths:
        try:
            load_source(each)
        except SourceError as error:
            defects.append(str(error))
    if defects:
        raise SourceError("\n".join(defects))
    say(f"{len(paths)} sources are sound.")


@sources_group.command(name="list")
@AS_JSON
def list_command(as_json: bool) -> None:
    """Say how far each source was read, and why the last reading failed."""
    found = [load_source(path) for path in source_paths(database.home() / FOLDER)]
    with database.session() as connection:
        rows = [_row(connection, source) for source in found]
    if as_json:
        tell_json({"sources": rows})
    else:
        tell_table(rows)


def _row(connection: Connection, source: FollowedSource) -> dict[str, Any]:
    state = state_of(connection, source)
    return {
        "source": source.name,
        "connection": source.connection,
        "read_at": state.read_at,
        "watermark": state.watermark,
        "whole_at": state.whole_at,
        "is_due": state.is_due,
        "refusal": state.refusal,
    }


@sources_group.command(name="follow", epilog=EXIT_CODES)
@click.argument("name")
@click.option("--whole", is_flag=True, help="All of it, not only what is new.")
@AS_JSON
def follow_command(name: str, whole: bool, as_json: bool) -> None:
    """Read the source NAME now, whether it is due or not."""
    path = database.home() / FOLDER / f"{name}.yml"
    source = load_source(path)
    with database.session() as connection:
        reading = follow(connection, source, is_whole=whole)
    if reading.refusal:
        raise SourceError(reading.refusal)
    if as_json:
        tell_json({**reading._asdict(), "result": reading.result._asdict()})
    else:
        say(
            f"{name}{', all of it' if reading.is_whole else ''}: "
            f"{reading.rows:,} rows; {reading.result.in_words}"
        )
        if reading.known_rejects:
            say(f"  {reading.known_rejects:,} more rows were rejected before.")
    sys.exit(REJECTED if reading.result.rejected else 0)
