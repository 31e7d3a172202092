"""Run the job or parts of it, verify, document the tables; the demonstration."""

import os
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from dagster_project.cli.options import AS_JSON, EXIT_CODES, REJECTED, Instant
from dagster_project.ignored import ignored_deadlines, in_words
from dagster_project.terminal import (
    say,
    tell,
    tell_json,
)
from ingest.store import database
from ingest.store.on_disk import make_folder

DEMO_PARTS = ["configuration", "inbox", "cut", "build", "publish", "alerts"]
ALL_PARTS = [*DEMO_PARTS, "sources", "automate"]


@click.command()
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


@click.command(name="verify")
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
        for line in verified.lines:
            tell(line)
        say(f"cut {verified.cut.number}: {len(verified.differences):,} rows differ")
        if verified.differences:
            say(MENDING)
    sys.exit(1 if verified.differences else 0)


@click.command()
@AS_JSON
def publish(as_json: bool) -> None:
    """Write Parquet and DuckDB files of the tested cut."""
    _run(["publish"], as_json=as_json)


@click.command(name="docs")
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


@click.command(epilog=EXIT_CODES)
@AS_JSON
def run(as_json: bool) -> None:
    """Ingest the inbox, build, publish, move by rules, send alerts: as the schedule.

    Workflow files in the folder `workflows` of STATUS_ENGINE_HOME are applied first.
    """
    result = _run(ALL_PARTS, as_json=as_json)
    counts = result.metadata["raw/batches"]
    if counts["refused_files"]:
        say(f"Error: files were refused; why is in {database.home() / 'refused'}.")
        sys.exit(1)
    if result.metadata["alerts/alert_deliveries"]["failed"]:
        say("Error: alerts were not delivered. Why: status-engine alerts deliver")
        sys.exit(1)
    sys.exit(REJECTED if counts["rejected"] else 0)


def _run(parts: list[str], *, as_json: bool, **options: Any) -> Any:
    # Dagster takes seconds to import; only the commands that need it wait.
    from dagster_project.resources import Warehouse
    from dagster_project.run import run as run_job

    result = run_job(Warehouse(), parts, **options)
    ignored: Counter[str] = Counter()
    if "build" in parts:
        with database.session() as connection:
            ignored = ignored_deadlines(connection)
    if as_json:
        more = {"ignored_deadlines": ignored} if ignored else {}
        tell_json({"run_id": result.run_id, "assets": result.metadata, **more})
    elif ignored:
        say(in_words(ignored))
    return result


@click.command()
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
    from dagster_project.cli.summary import summarise

    home = database.home()
    with database.session() as connection:
        server = connection.info.parameter_status("server_version")
    where = "DATABASE_URL" if os.environ.get("DATABASE_URL") else _near(home)
    say(f"database: PostgreSQL {server}, {where}")
    inbox = make_folder(home / "inbox")
    paths = _demo_files(home, entities, seed, end)
    say("workflows, ingest, build and tests, publish:")
    workflow_files = database.PROJECT / "workflows"
    result = _run(DEMO_PARTS, as_json=False, paths=paths, workflows=workflow_files)
    counts = result.metadata["raw/batches"]
    console = Console(stderr=False, highlight=False, soft_wrap=True)
    names = ("read", "appended", "duplicate", "rejected")
    console.print(
        "\n[bold]Transitions[/bold]  " + "  ".join(f"{n} {counts[n]:,}" for n in names)
    )
    example = summarise(home, console)
    folder = _near(home / "published" / "current")
    tell(
        f"\nPublished: {folder}/ (Parquet files and analytics.duckdb)\n"
        "Next:  make ui         the asset graph, runs and checks\n"
        "       make notebooks  service levels, bottlenecks, forecasts, data quality\n"
        f"       .venv/bin/status-engine explain {example}\n"
        "       .venv/bin/status-engine psql -c 'table sla.entity_current_status'\n"
        "       .venv/bin/status-engine run   takes in what is put into "
        f"{_near(inbox)}\n"
        "       .venv/bin/status-engine --help"
    )


def _near(path: Path) -> Path:
    """As it may be typed here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _demo_files(
    home: Path, entities: int, seed: int, end: datetime | None
) -> list[Path]:
    """The simulated files; those of an earlier run where no end is asked for."""
    from simulator import write_demo

    root = home / "demo"
    earlier = sorted(root.glob(f"{entities}-{seed}-*"))
    if end is None and earlier:
        say(f"simulate: the files in {_near(earlier[-1])} are there already")
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
