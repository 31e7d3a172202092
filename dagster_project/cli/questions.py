"""Ask about one entity: why its deadlines are what they are, what was when."""

from datetime import datetime

import click

from dagster_project.cli.explain import as_of as status_as_of
from dagster_project.cli.explain import explain, narrate
from dagster_project.cli.options import AS_JSON, Instant
from dagster_project.terminal import (
    tell_fields,
    tell_json,
)
from ingest.store import database


@click.command(name="explain")
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


@click.command(name="as-of")
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
