"""Bring rows in: files and other databases, or one live transition."""

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from dagster_project.cli.keys import entity_id_of
from dagster_project.cli.options import (
    ACCEPT_UNENDED,
    AS_JSON,
    ENCODING,
    EXIT_CODES,
    KIND,
    MAPPING,
    MAX_FUTURE_SECONDS,
    REJECTED,
    Entity,
    Instant,
)
from dagster_project.cli.previews import preview_as_json, tell_preview
from dagster_project.ignored import in_words
from dagster_project.terminal import say, tell_json
from ingest import Recorded, record
from ingest.breaker import MAX_REJECTED_RATIO, NAMED_CODES, BrokenOffError
from ingest.delivery import NOTHING, DeliveryResult, Settings, deliver
from ingest.files.from_database import copied
from ingest.files.layout import Layout
from ingest.files.mapping import load_mapping, own_mapping
from ingest.files.sources import expand
from ingest.preview import preview
from ingest.store import database
from ingest.store.database import Connection


@click.command(epilog=EXIT_CODES)
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--from",
    "database_url",
    help="Read this PostgreSQL instead of files; a password is best in PGPASSWORD or "
    "in a password file, since everybody sees the arguments of a process.",
)
@click.option("--query", help="With --from: the select whose rows are the source.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "tsv", "jsonl", "parquet", "xes"]),
    default="csv",
    show_default=True,
    help="Of standard input, which is the file named -.",
)
@MAPPING
@KIND
@click.option("--source", help="A name for where the rows come from.")
@click.option("--timezone", help="IANA zone of times without an offset.")
@ENCODING
@ACCEPT_UNENDED
@click.option(
    "--max-rejected-ratio",
    type=click.FloatRange(0, 1),
    default=MAX_REJECTED_RATIO,
    show_default=True,
    help="Break a file off above this share of rejected rows, once 100 were read.",
)
@MAX_FUTURE_SECONDS
@click.option("--dry-run", is_flag=True, help="Say what would come; write nothing.")
@AS_JSON
def ingest(
    files: tuple[Path, ...],
    database_url: str | None,
    query: str | None,
    kind: str,
    mapping: Path | None,
    row_kind: str | None,
    source: str | None,
    timezone: str | None,
    encoding: str | None,
    accept_unended: bool,
    max_rejected_ratio: float,
    max_future: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Append transitions, or audit entries, of CSV, JSON Lines, Parquet or XES FILES.

    Each may be gzip, a folder, or a pattern in quotes; - is standard input. The same
    file again appends nothing. Rows that can't be right are kept, with their bytes and
    the reason: see status-engine rejects. An existing history comes in once from
    another PostgreSQL with --from postgresql://… and --query 'select …'.
    """
    if (database_url is None) == (not files) or (database_url is None) != (not query):
        msg = "Name FILES, or a database with --from and --query."
        raise click.UsageError(msg)
    if mapping and row_kind:
        msg = "A mapping says by its key 'kind' what the rows are: leave out --kind."
        raise click.UsageError(msg)
    settings = Settings(
        load_mapping(mapping) if mapping else own_mapping(row_kind),
        source,
        timezone,
        timedelta(seconds=max_future),
        max_rejected_ratio,
        encoding,
        accept_unended,
    )
    total, deliveries, ignored = NOTHING, [], Counter[str]()
    if database_url and query:
        layout = settings.mapping.layout if settings.mapping else Layout()
        sources = copied(database_url, query, layout)
    else:
        sources = _named(files, kind)
    with database.session() as connection, sources as paths:
        if dry_run:
            _rehearse(connection, paths, settings, as_json=as_json)
            return
        for path in paths:
            with _progress(path.name) as progress, _telling_why(path, as_json=as_json):
                delivery = deliver(connection, path, settings, progress)
            deliveries.append(delivery)
            total += delivery.result
            ignored.update(delivery.ignored_deadlines)
            if not as_json:
                _tell(delivery, settings.kind.noun)
    if as_json:
        each = [_as_json(delivery) for delivery in deliveries]
        more = {"ignored_deadlines": ignored} if ignored else {}
        tell_json({**total._asdict(), "files": each, **more})
    elif ignored:
        say(in_words(ignored))
    sys.exit(REJECTED if total.rejected else 0)


@contextmanager
def _telling_why(path: Path, *, as_json: bool) -> Iterator[None]:
    """Tell as JSON, too, why a file was broken off."""
    try:
        yield
    except BrokenOffError as error:
        if as_json:
            codes = [refusal._asdict() for refusal in error.refusals[:NAMED_CODES]]
            tell_json({"broken_off": path.name, "why": str(error), "codes": codes})
        raise


def _rehearse(
    connection: Connection, paths: list[Path], settings: Settings, *, as_json: bool
) -> None:
    """Say what deliveries would be."""
    found = []
    for path in paths:
        with _progress(path.name) as progress:
            found.append(preview(connection, path, settings, progress=progress))
        if not as_json:
            tell_preview(path.name, found[-1])
    if as_json:
        each = zip(paths, found, strict=True)
        tell_json({"files": [preview_as_json(path.name, seen) for path, seen in each]})
        return
    say("dry run, nothing is written")


def _as_json(delivery: DeliveryResult) -> dict[str, Any]:
    return {
        "file": delivery.file_name,
        "source_rows": delivery.source_rows,
        "skipped_rows": delivery.skipped_rows,
        "equal": delivery.equal,
        "repeated": delivery.is_repeated,
        **delivery.result._asdict(),
    }


@contextmanager
def _named(files: tuple[Path, ...], kind: str) -> Iterator[list[Path]]:
    """The files meant; standard input is kept in a file for as long as it is needed."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / f"standard-input.{kind}"
        if Path("-") in files:
            with kept.open("wb") as file:
                shutil.copyfileobj(sys.stdin.buffer, file)
        yield [
            path
            for name in files
            for path in ([kept] if name == Path("-") else expand(name))
        ]


class _progress:
    """Rows done so far, on one line of a terminal; nothing where there is none."""

    def __init__(self, name: str) -> None:
        self.name, self.is_shown = name, sys.stderr.isatty()

    def __enter__(self) -> Callable[[int], None]:
        return self.show

    def show(self, rows: int) -> None:
        """Overwrite the line."""
        if self.is_shown:
            sys.stderr.write(f"\r{self.name}: {rows:,} rows")
            sys.stderr.flush()

    def __exit__(self, *_: object) -> None:
        if self.is_shown:
            sys.stderr.write("\r\x1b[K")


def _tell(delivery: DeliveryResult, noun: str) -> None:
    result = delivery.result
    again = " (delivered before)" if delivery.is_repeated else ""
    skipped = delivery.skipped_rows
    left_out = f", {skipped:,} of them skipped" if skipped else ""
    say(
        f"{delivery.file_name}{again}: {delivery.source_rows:,} rows{left_out}; "
        f"{result.in_words}"
    )
    if delivery.equal:
        say(
            f"  {delivery.equal:,} of {result.read:,} {noun} equal another one in "
            "all that is mapped. If they are events of their own, name what tells them "
            "apart in the mapping, as in identity: [event_id]."
        )
    if result.rejected:
        say("  Why: status-engine rejects list")


@click.command(name="record")
@click.argument("entity_type")
@click.argument("entity", type=Entity())
@click.argument("to_status")
@click.option("--expected-status", help="Refuse it unless this is its status now.")
@click.option("--first", "is_first", is_flag=True, help="Refuse it if it has a status.")
@click.option("--created-at", type=Instant(), help="When; now by default.")
@click.option("--reason", "transition_reason", help="Why, in words.")
@click.option("--context", "business_context", help="A JSON object.")
@click.option("--user", "triggered_by_user_id", type=click.UUID, help="Who did it.")
@click.option("--system", "triggered_by_system", help="What did it.")
@click.option("--sla-deadline", type=Instant(), help="Instead of the workflow's hours.")
@click.option("--milestone/--no-milestone", "is_milestone", default=None)
@click.option("--metadata", help="A JSON object.")
@click.option("--id", type=click.UUID, help="Makes it safe to run again.")
@click.option("--source", default="record", show_default=True, help="For the ledger.")
@AS_JSON
def record_command(
    entity: int | str,
    expected_status: str | None,
    is_first: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Record that an entity goes to TO_STATUS, if its workflow allows it.

    Checked and appended in one transaction; of two at once for one entity, one wins.
    ENTITY is its id, or the text that its source knows it by.
    """
    if is_first and expected_status is not None:
        msg = "--first and --expected-status exclude each other."
        raise click.UsageError(msg)
    if is_first or expected_status is not None:
        given["expected_status"] = expected_status
    with database.session() as connection:
        entity_id = entity_id_of(connection, given["entity_type"], entity, "raw")
        recorded = record(connection, entity_id=entity_id, **given)
    if as_json:
        tell_json(recorded._asdict())
        return
    say(
        f"{given['entity_type']} {entity} went to {recorded.to_status!r} "
        f"at {recorded.created_at}; {_deadline(recorded)}."
    )


def _deadline(recorded: Recorded) -> str:
    if recorded.workflow_name is None:
        return "no workflow binds it, so it has no deadline"
    workflow = f"workflow {recorded.workflow_name!r}"
    if recorded.sla_deadline is None:
        return f"by {workflow} it has no deadline"
    by = workflow if recorded.deadline_source == "workflow" else "what was given"
    return f"its deadline is {recorded.sla_deadline}, by {by}"
