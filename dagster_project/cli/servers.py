"""The database and the web server: begin, reach, stop."""

import os
from contextlib import suppress

import click

from dagster_project.terminal import (
    say,
)
from ingest.errors import StatusEngineError
from ingest.store import database, embedded
from ingest.store.on_disk import make_folder

# SQLAlchemy 2.1 would else take psycopg 3, with which Dagster's NOTIFY fails, and every
# run would wait for ever; the start of the code location is where that can be said.
DRIVER = "postgresql+psycopg2://"


def _require_driver(url: str) -> None:
    if not url.startswith(DRIVER):
        msg = f"DAGSTER_DATABASE_URL must begin with {DRIVER}, the driver of Dagster."
        raise StatusEngineError(msg)


@click.command()
def init() -> None:
    """Create or upgrade schema raw, and the inbox."""
    _require_driver(os.environ.get("DAGSTER_DATABASE_URL") or DRIVER)
    with database.session() as connection:
        server = connection.info.parameter_status("server_version")
    inbox = make_folder(database.home() / "inbox")
    kind = "named by DATABASE_URL" if os.environ.get("DATABASE_URL") else "embedded"
    say(f"PostgreSQL {server}, {kind}, is ready. Files go into {inbox}.")


@click.command(
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


@click.command()
def url() -> None:
    """Print the connection string, for psql, DBeaver or a driver."""
    click.echo(database.url())


@click.command()
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


@click.command()
@click.option("--delete-data", is_flag=True, help="Delete its data as well.")
def stop(delete_data: bool) -> None:
    """Stop the embedded PostgreSQL of this home."""
    running = embedded.stop(database.home(), delete=delete_data)
    say("The embedded PostgreSQL is stopped." if running else "None was running.")
