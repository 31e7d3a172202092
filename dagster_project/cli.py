"""The command line: reads arguments, calls ingest or the job, prints. No logic."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from dagster_project.explain import as_of as status_as_of
from dagster_project.explain import explain, narrate
from dagster_project.terminal import (
    say,
    sentences,
    tell,
    tell_fields,
    tell_json,
    tell_table,
)
from dagster_project.verify_text import difference_lines
from dagster_project.workflow_text import (
    calendar_text,
    headline,
    state_diagram,
    step_rows,
)
from ingest import Recorded, record, rejects
from ingest.append import MAX_FUTURE
from ingest.breaker import MAX_REJECTED_RATIO
from ingest.configuration import in_force, workflows
from ingest.delivery import NOTHING, Delivery, Settings, deliver
from ingest.files.chunks import Layout
from ingest.files.from_database import copied
from ingest.files.mapping import load_mapping
from ingest.files.sources import expand
from ingest.names import printable
from ingest.store import database, embedded
from ingest.store.on_disk import make_folder

REJECTED = 3
ALL_PARTS = ["configuration", "inbox", "cut", "build", "publish"]
EXIT_CODES = """
\b
Exit codes:
  0  everything accounted for, nothing rejected
  1  refused before the first commit, or stopped between batches: run it again
  2  wrong usage
  3  some rows were rejected, the rest is appended
"""
OVERVIEW = """
Statuses, SLA deadlines and overdue flags, exact and never stale.

\b
A first look:      status-engine demo
Your own history:  status-engine workflows apply workflows/
                   status-engine ingest history.csv
                   status-engine build && status-engine publish
Every few minutes: status-engine ui      (the schedule runs inside)
Ask:               status-engine psql -c 'select * from sla.entity_current_status'

DATABASE_URL names a PostgreSQL 15 or newer; without it an embedded one keeps its
data in STATUS_ENGINE_HOME (.status-engine in the project).
"""
ENCODING = click.option(
    "--encoding", help="Of a text file, such as cp1252; UTF-8 by default."
)
ACCEPT_UNENDED = click.option(
    "--accept-unended",
    is_flag=True,
    help="Take a last line of CSV without a line end for a whole one.",
)
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
MAPPING = click.option(
    "--mapping", type=click.Path(path_type=Path), help="YAML: which columns mean what."
)
MAX_FUTURE_SECONDS = click.option(
    "--max-future",
    type=click.IntRange(min=0),
    default=MAX_FUTURE // timedelta(seconds=1),
    show_default=True,
    help="Seconds that created_at may be ahead of the server's clock.",
)


class Instant(click.ParamType[datetime]):
    """An ISO 8601 instant with an offset."""

    name = "instant"

    def convert(self, value: Any, param: Any, ctx: Any) -> datetime:
        """Parse it; a time without an offset means different instants to people."""
        try:
            instant = datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                f"{value!r} is no instant such as 2026-03-07T12:00:00+01:00", param, ctx
            )
        if instant.tzinfo is None:
            self.fail(
                f"{value!r} has no offset; add one, as in 2026-03-07T12:00:00Z",
                param,
                ctx,
            )
        try:
            return instant.astimezone(UTC)
        except OverflowError:
            self.fail(f"{value!r} is not within years 1 to 9999 in UTC", param, ctx)


class _Commands(click.Group):
    """Commands whose errors are sentences."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that is named."""
        with sentences():
            return super().invoke(ctx)


@click.group(
    cls=_Commands,
    help=OVERVIEW,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
def main() -> None:
    """Run the program; its help is OVERVIEW."""


@main.command()
def init() -> None:
    """Create or upgrade schema raw, and the inbox."""
    with database.session() as connection:
        server = connection.info.parameter_status("server_version")
    inbox = make_folder(database.home() / "inbox")
    kind = "named by DATABASE_URL" if os.environ.get("DATABASE_URL") else "embedded"
    say(f"PostgreSQL {server}, {kind}, is ready. Files go into {inbox}.")


WORKFLOW_FILES = click.argument("path", type=click.Path(path_type=Path))


@main.group(name="workflows")
def workflows_group() -> None:
    """Check, compare, apply and show workflows, calendars, users, business entities."""


@workflows_group.command()
@WORKFLOW_FILES
def check(path: Path) -> None:
    """Say what is wrong in a file or folder, with file and line; writes nothing."""
    configuration = workflows.check(path)
    for warning in configuration.warnings:
        say(f"Warning: {warning}")
    say(
        f"{len(configuration.workflows)} workflows and "
        f"{len(configuration.calendars)} calendars are sound."
    )


@workflows_group.command(name="apply")
@WORKFLOW_FILES
@click.option("--dry-run", is_flag=True, help="Say what would change; write nothing.")
@AS_JSON
def apply_command(path: Path, dry_run: bool, as_json: bool) -> None:
    """Append a new version of each definition that changed; no other is touched."""
    configuration = workflows.load(path)
    if dry_run:
        _print_differences(configuration, as_json)
        return
    with database.session() as connection:
        applied = workflows.apply(connection, configuration)
    if as_json:
        tell_json({"changed": applied.changed, "unchanged": applied.unchanged})
        return
    for name in applied.changed:
        say(f"new version: {name}")
    say(f"{len(applied.changed)} new versions, {applied.unchanged} unchanged.")


@workflows_group.command()
@WORKFLOW_FILES
@AS_JSON
def diff(path: Path, as_json: bool) -> None:
    """Compare a file or folder with what is in force; writes nothing."""
    _print_differences(workflows.load(path), as_json)


def _print_differences(configuration: workflows.Configuration, as_json: bool) -> None:
    with database.session() as connection:
        differences = workflows.compare(connection, configuration)
    rows = [difference._asdict() for difference in differences]
    if as_json:
        tell_json({"differences": rows})
    elif rows:
        tell_table(rows)
    else:
        say("Nothing differs from what is in force.")


@workflows_group.command(name="show")
@click.argument("name", required=False)
@click.option("--business-entity", help="Whose workflow, where several have one.")
@click.option("--at", type=Instant(), help="In force then; now by default.")
@click.option("--mermaid", is_flag=True, help="Print a workflow as a Mermaid diagram.")
def show_command(
    name: str | None, business_entity: str | None, at: datetime | None, mermaid: bool
) -> None:
    """List what is in force, or print the workflow or calendar that NAME says.

    A workflow is named by its entity type and its own name, as in order/standard.
    """
    if (mermaid or business_entity) and "/" not in (name or ""):
        msg = "Name a workflow such as order/standard."
        raise click.UsageError(msg)
    with database.session(is_reading=True) as connection:
        if name is None:
            found = in_force.definitions(connection, at)
            tell_table([definition._asdict() for definition in found])
        elif "/" not in name:
            tell(calendar_text(in_force.calendar_of(connection, name, at)))
        else:
            workflow, steps = in_force.steps_of(connection, name, business_entity, at)
            if mermaid:
                tell(state_diagram(steps))
            else:
                tell(headline(workflow))
                tell_table(step_rows(steps))


@main.command(epilog=EXIT_CODES)
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
    type=click.Choice(["csv", "tsv", "jsonl", "parquet"]),
    default="csv",
    show_default=True,
    help="Of standard input, which is the file named -.",
)
@MAPPING
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
@AS_JSON
def ingest(
    files: tuple[Path, ...],
    database_url: str | None,
    query: str | None,
    kind: str,
    mapping: Path | None,
    source: str | None,
    timezone: str | None,
    encoding: str | None,
    accept_unended: bool,
    max_rejected_ratio: float,
    max_future: int,
    as_json: bool,
) -> None:
    """Append transitions of CSV, JSON Lines or Parquet FILES.

    Each may be gzip, a folder, or a pattern in quotes; - is standard input. The same
    file again appends nothing. Rows that can't be right are kept, with their bytes and
    the reason: see status-engine rejects. An existing history comes in once from
    another PostgreSQL with --from postgresql://… and --query 'select …'.
    """
    if (database_url is None) == (not files) or (database_url is None) != (not query):
        msg = "Name FILES, or a database with --from and --query."
        raise click.UsageError(msg)
    settings = Settings(
        load_mapping(mapping) if mapping else None,
        source,
        timezone,
        timedelta(seconds=max_future),
        max_rejected_ratio,
        encoding,
        accept_unended,
    )
    total, deliveries = NOTHING, []
    if database_url and query:
        layout = settings.mapping.layout if settings.mapping else Layout()
        sources = copied(database_url, query, layout)
    else:
        sources = _named(files, kind)
    with database.session() as connection, sources as paths:
        for path in paths:
            with _progress(path.name) as progress:
                delivery = deliver(connection, path, settings, progress)
            deliveries.append(delivery)
            total += delivery.result
            if not as_json:
                _tell(delivery)
    if as_json:
        each = [_as_json(delivery) for delivery in deliveries]
        tell_json({**total._asdict(), "files": each})
    sys.exit(REJECTED if total.rejected else 0)


def _as_json(delivery: Delivery) -> dict[str, Any]:
    return {
        "file": delivery.file_name,
        "source_rows": delivery.source_rows,
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


def _tell(delivery: Any) -> None:
    result = delivery.result
    again = " (delivered before)" if delivery.is_repeated else ""
    say(
        f"{delivery.file_name}{again}: {delivery.source_rows:,} rows; "
        f"read {result.read:,} = {result.appended:,} appended + "
        f"{result.duplicate:,} duplicate + {result.rejected:,} rejected"
    )
    if result.rejected:
        say("  Why: status-engine rejects list")


@main.group(name="rejects")
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
        f"{result.appended:,} transitions appended + {result.duplicate:,} duplicate; "
        f"{replayed.open_codes.total():,} still rejected"
    )
    for code, count in replayed.open_codes.most_common():
        say(f"  {count:,} {code}: {rejects.REASONS[code]}")


@main.command(name="explain")
@click.argument("entity_type")
@click.argument("entity_id", type=click.IntRange(0, 2**63 - 1))
@click.option("--as-of", type=Instant(), help="What the clock shows; now by default.")
@AS_JSON
def explain_command(
    entity_type: str, entity_id: int, as_of: datetime | None, as_json: bool
) -> None:
    """Say why an entity has its status, its workflow, its deadlines and verdicts.

    Each stay with its transitions, the workflow version and calendar it is under, and
    every opening window that was counted on the way to its deadline.
    """
    with database.session(is_reading=True) as connection:
        found = explain(connection, entity_type, entity_id, as_of)
    if as_json:
        tell_json(found._asdict())
    else:
        for line in narrate(found):
            click.echo(line)


@main.command(name="record")
@click.argument("entity_type")
@click.argument("entity_id", type=click.IntRange(0, 2**63 - 1))
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
    expected_status: str | None, is_first: bool, as_json: bool, **given: Any
) -> None:
    """Record that an entity goes to TO_STATUS, if its workflow allows it.

    Checked and appended in one transaction; of two at once for one entity, one wins.
    """
    if is_first and expected_status is not None:
        msg = "--first and --expected-status exclude each other."
        raise click.UsageError(msg)
    if is_first or expected_status is not None:
        given["expected_status"] = expected_status
    with database.session() as connection:
        recorded = record(connection, **given)
    if as_json:
        tell_json(recorded._asdict())
        return
    say(
        f"{given['entity_type']} {given['entity_id']} went to {recorded.to_status!r} "
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


@main.command()
@click.option(
    "--full-refresh",
    is_flag=True,
    help="Rebuild everything from the first transition on, and swap it in.",
)
@click.option("--as-of", type=Instant(), help="The instant that is now for this run.")
@click.option(
    "--cut",
    "cut_number",
    type=click.IntRange(min=1),
    help="With --as-of: what the tables would have said then, by the batches of cuts "
    "up to this one, in a schema of its own.",
)
@click.option("--schema", help="With --cut: the schema; named by both by default.")
@AS_JSON
def build(
    full_refresh: bool,
    as_of: datetime | None,
    cut_number: int | None,
    schema: str | None,
    as_json: bool,
) -> None:
    """Pin a cut, then derive and test schema sla from it."""
    if cut_number is None:
        if schema is not None:
            msg = "--schema needs --cut."
            raise click.UsageError(msg)
        _run(["cut", "build"], as_json=as_json, as_of=as_of, full_refresh=full_refresh)
        return
    if as_of is None or full_refresh:
        msg = "--cut needs --as-of, and is always a full build."
        raise click.UsageError(msg)
    # Dagster and dbt take seconds to import; only the commands that need them wait.
    from dagster_project.aside import build_as_of
    from dagster_project.resources import Warehouse

    built = build_as_of(Warehouse(), as_of, cut_number, schema)
    if as_json:
        tell_json({"schema": built, "cut": cut_number, "as_of": as_of})
    else:
        say(f"built schema {built}; drop it when it has served.")


@main.command(name="verify")
@click.option(
    "--sample",
    type=click.IntRange(min=2),
    help="Every so manyth entity, by its id; all by default.",
)
@AS_JSON
def verify_command(sample: int | None, as_json: bool) -> None:
    """Build the published cut in full beside what is published, and compare (S5).

    Ends with 1 where a row differs, and prints those rows. Then nothing is published
    until a full refresh, or a verification of all rows that finds no difference.
    """
    from dagster_project.aside import verify
    from dagster_project.resources import Warehouse
    from dagster_project.verifications import MENDING

    verified = verify(Warehouse(), sample)
    if as_json:
        differences = [row._asdict() for row in verified.differences]
        tell_json({**verified._asdict(), "differences": differences})
    else:
        for table, count in verified.rows.items():
            say(f"{table}: {count:,} rows compared")
        for line in difference_lines(verified.differences):
            tell(line)
        say(f"cut {verified.cut.number}: {len(verified.differences):,} rows differ")
        if verified.differences:
            say(MENDING)
    sys.exit(1 if verified.differences else 0)


@main.command(name="as-of")
@click.argument("entity_type")
@click.argument("entity_id", type=click.IntRange(0, 2**63 - 1))
@click.option("--at", type=Instant(), help="At which instant; now by default.")
@click.option(
    "--known-at",
    type=Instant(),
    help="By what was recorded up to then; all by default.",
)
@AS_JSON
def as_of_command(
    entity_type: str,
    entity_id: int,
    at: datetime | None,
    known_at: datetime | None,
    as_json: bool,
) -> None:
    """Say what an entity's status was at an instant, by what was known at another."""
    with database.session(is_reading=True) as connection:
        found = status_as_of(connection, entity_type, entity_id, at, known_at)
    if as_json:
        tell_json(found)
        return
    tell_fields(found)


@main.command()
@AS_JSON
def publish(as_json: bool) -> None:
    """Write Parquet and DuckDB files of the tested cut."""
    _run(["publish"], as_json=as_json)


@main.command(name="docs")
@AS_JSON
def docs_command(as_json: bool) -> None:
    """Write the page that explains the tables: columns, tests, SQL and lineage.

    One file beside the published ones, to be opened in a browser; it needs neither a
    server nor a network. A build may be at work meanwhile.
    """
    from dagster_project.docs import write_docs
    from dagster_project.resources import Warehouse

    page = write_docs(Warehouse())
    if as_json:
        tell_json({"page": page})
    else:
        say(f"The tables are explained in {page}; open it in a browser.")


@main.command(epilog=EXIT_CODES)
@AS_JSON
def run(as_json: bool) -> None:
    """Ingest the inbox, build and publish: what the schedule does.

    Workflow files in the folder `workflows` of STATUS_ENGINE_HOME are applied first.
    """
    result = _run(ALL_PARTS, as_json=as_json)
    counts = result.metadata["raw/batches"]
    if counts["refused_files"]:
        say(f"Error: files were refused; why is in {database.home() / 'refused'}.")
        sys.exit(1)
    sys.exit(REJECTED if counts["rejected"] else 0)


def _run(parts: list[str], *, as_json: bool, **options: Any) -> Any:
    # Dagster takes seconds to import; only the commands that need it wait.
    from dagster_project.resources import Warehouse
    from dagster_project.run import run as run_job

    result = run_job(Warehouse(), parts, **options)
    if as_json:
        tell_json({"run_id": result.run_id, "assets": result.metadata})
    return result


@main.command()
@click.option(
    "--entities", default=4_000, show_default=True, type=click.IntRange(min=50)
)
@click.option("--seed", default=7, show_default=True)
@click.option("--end", type=Instant(), help="The last instant of the simulation.")
def demo(entities: int, seed: int, end: datetime | None) -> None:
    """Simulate a company, then run everything on it.

    Deterministic for a seed and an end; run again, it appends nothing new. The files
    hold late, repeated and malformed rows on purpose, so rejects are no failure here.
    """
    from dagster_project.summary import summarise

    home = database.home()
    with database.session() as connection:
        server = connection.info.parameter_status("server_version")
    where = "DATABASE_URL" if os.environ.get("DATABASE_URL") else home
    say(f"database: PostgreSQL {server}, {where}")
    inbox = make_folder(home / "inbox")
    paths = _demo_files(home, entities, seed, end)
    say("workflows, ingest, build and tests, publish:")
    workflow_files = database.PROJECT / "workflows"
    result = _run(ALL_PARTS, as_json=False, paths=paths, workflows=workflow_files)
    counts = result.metadata["raw/batches"]
    console = Console(stderr=False, highlight=False, soft_wrap=True)
    names = ("read", "appended", "duplicate", "rejected")
    console.print(
        "\n[bold]Transitions[/bold]  " + "  ".join(f"{n} {counts[n]:,}" for n in names)
    )
    example = summarise(home, console)
    folder = home / "published" / "current"
    tell(
        f"\nPublished: {folder}/ (Parquet files and analytics.duckdb)\n"
        "Next:  make ui        the asset graph, runs and checks\n"
        "       make notebook  what is overdue, compliance by week, where time goes\n"
        f"       .venv/bin/status-engine explain {example}\n"
        "       .venv/bin/status-engine psql -c 'table sla.entity_current_status'\n"
        f"       .venv/bin/status-engine run   takes in what is put into {inbox}\n"
        "       .venv/bin/status-engine --help"
    )


def _demo_files(
    home: Path, entities: int, seed: int, end: datetime | None
) -> list[Path]:
    """The simulated files; those of an earlier run where no end is asked for."""
    from simulator import write_demo

    root = home / "demo"
    earlier = sorted(root.glob(f"{entities}-{seed}-*"))
    if end is None and earlier:
        say(f"simulate: the files in {earlier[-1]} are there already")
        return sorted(earlier[-1].iterdir())
    end = (end or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
    folder = root / f"{entities}-{seed}-{end:%Y%m%dT%H%M%SZ}"
    scratch = root / f".{folder.name}"
    say(f"simulate: {entities:,} entities up to {end:%Y-%m-%d %H:%M:%S} UTC")
    scratch.mkdir(parents=True, exist_ok=True)
    files = write_demo(
        scratch,
        workflows=database.PROJECT / "workflows",
        entities=entities,
        seed=seed,
        end=end,
    )
    if not folder.exists():
        scratch.rename(folder)
    say(f"  {files.transitions:,} transitions in {len(files.paths)} files")
    return sorted(folder.iterdir())


@main.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(arguments: tuple[str, ...]) -> None:
    """Open psql on the database, or pass it ARGUMENTS."""
    program = str(embedded.client("psql"))
    address = database.url()
    # Said as the other commands say it, where the server is not there.
    database.connect(address).close()
    # What is among the arguments of a process, everybody sees.
    os.environ.update(database.environment(address))
    os.execv(program, [program, *arguments])


@main.command()
def url() -> None:
    """Print the connection string, for psql, DBeaver or a driver."""
    click.echo(database.url())


@main.command()
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65_535))
def ui(port: int) -> None:
    """Serve the Dagster UI on 127.0.0.1, with the schedule running.

    Pages of other sites can't command it; whoever may use this machine can.
    """
    from dagster_project.run import dagster_home
    from dagster_project.web import listening, serve

    with listening(port) as listener:
        with database.session():
            dagster_home(database.home())
        os.chdir(database.PROJECT)
        say(f"Dagster: http://127.0.0.1:{port}  (Ctrl-C stops it)")
        with suppress(KeyboardInterrupt):
            serve(listener)
    say("Dagster is stopped.")


@main.command()
@click.option("--delete-data", is_flag=True, help="Delete its data as well.")
def stop(delete_data: bool) -> None:
    """Stop the embedded PostgreSQL of this home."""
    running = embedded.stop(database.home(), delete=delete_data)
    say("The embedded PostgreSQL is stopped." if running else "None was running.")
