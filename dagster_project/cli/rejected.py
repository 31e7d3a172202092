"""Rows that were refused: listed, shown, replayed."""

import sys
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from dagster_project.cli.options import (
    ACCEPT_UNENDED,
    AS_JSON,
    ENCODING,
    EXIT_CODES,
    MAPPING,
    MAX_FUTURE_SECONDS,
    REJECTED,
)
from dagster_project.terminal import (
    say,
    tell,
    tell_fields,
    tell_json,
    tell_table,
)
from ingest import rejects
from ingest.files.mapping import load_mapping
from ingest.names import printable
from ingest.store import database


@click.group(name="rejects")
def rejects_group() -> None:
    """See why rows were refused; replay them once the cause is mended."""


def _selecting(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which rejects are meant."""
    by_code = click.option("--code", help="Only those with this code.")
    by_file = click.option("--file", "file_name", help="Only those of files so named.")
    return by_code(by_file(command))


@rejects_group.command(name="list")
@_selecting
@click.option(
    "--open/--all",
    "only_open",
    default=True,
    show_default=True,
    help="Resolved ones too, with --all.",
)
@click.option("--limit", type=click.IntRange(min=1), help="The first so many, singly.")
@AS_JSON
def list_command(
    code: str | None,
    file_name: str | None,
    only_open: bool,
    limit: int | None,
    as_json: bool,
) -> None:
    """Count rejects by file and code, or list them one by one with --limit.

    Then the files that were broken off because too many of their rows were refused,
    until they came in whole.
    """
    selection = rejects.Selection(code=code, file_name=file_name)
    found: Sequence[rejects.Group | rejects.Line]
    with database.session(is_reading=True) as connection:
        if limit is None:
            found = rejects.count_rejects(connection, selection, only_open=only_open)
        else:
            found = rejects.list_rejects(
                connection, selection, limit, only_open=only_open
            )
        stops = rejects.list_stops(connection, selection, only_open=only_open)
    if as_json:
        stopped = [stop._asdict() for stop in stops]
        tell_json({"rejects": [row._asdict() for row in found], "stopped": stopped})
        return
    tell_table([row._asdict() for row in found])
    for stop in stops:
        tell(f"{stop.stopped_at:%Y-%m-%d %H:%M:%S} UTC  {stop.reason}")


@rejects_group.command()
@click.argument("rejected_id", type=int)
@AS_JSON
def show(rejected_id: int, as_json: bool) -> None:
    """Print all of one reject; bytes that can't be printed are escaped."""
    with database.session(is_reading=True) as connection:
        detail = rejects.find_reject(connection, rejected_id)
    content = {**detail._asdict(), "original": printable(detail.original)}
    if as_json:
        tell_json(content)
        return
    tell_fields(content)


@rejects_group.command(epilog=EXIT_CODES)
@click.option("--id", "ids", type=int, multiple=True, help="Only this one; repeatable.")
@_selecting
@MAPPING
@click.option("--timezone", help="IANA zone of times without an offset.")
@ENCODING
@ACCEPT_UNENDED
@MAX_FUTURE_SECONDS
@click.option("--dry-run", is_flag=True, help="Say what would be, and write nothing.")
@AS_JSON
def replay(
    ids: tuple[int, ...],
    code: str | None,
    file_name: str | None,
    mapping: Path | None,
    timezone: str | None,
    encoding: str | None,
    accept_unended: bool,
    max_future: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Judge open rejects again, all or those selected; append what passes now.

    Each is read from its own bytes, as its file was: same format, header, mapping and
    zone, unless others are named. What passes is appended once and its reject marked
    resolved; what still fails stays as it is.
    """
    with database.session() as connection:
        replayed = rejects.replay(
            connection,
            rejects.Selection(list(ids) or None, code, file_name),
            mapping=load_mapping(mapping) if mapping else None,
            timezone=timezone,
            encoding=encoding,
            accept_unended=accept_unended,
            max_future=timedelta(seconds=max_future),
            dry_run=dry_run,
        )
    if as_json:
        counts = replayed.result._asdict()
        tell_json({**replayed._asdict(), "result": counts, "dry_run": dry_run})
    else:
        _tell_replay(replayed, dry_run)
    sys.exit(REJECTED if replayed.open_codes else 0)


def _tell_replay(replayed: rejects.Replayed, dry_run: bool) -> None:
    result = replayed.result
    say(
        f"{'dry run, nothing is written: ' if dry_run else ''}"
        f"{replayed.selected:,} rejects; {replayed.resolved:,} resolved with "
        f"{result.appended:,} appended + {result.duplicate:,} duplicate; "
        f"{replayed.open_codes.total():,} still rejected"
    )
    for code, count in replayed.open_codes.most_common():
        say(f"  {count:,} {code}: {rejects.REASONS[code]}")
