"""Ask about one entity: why its deadlines are what they are, what was when."""

from datetime import datetime

import click

from dagster_project.cli.keys import entity_id_of
from dagster_project.cli.options import AS_JSON, Entity, Instant
from dagster_project.explain import as_of as status_as_of
from dagster_project.explain import explain, narrate, require_views, unknown_type
from dagster_project.swap import no_swap
from dagster_project.terminal import (
    tell_fields,
    tell_json,
)
from ingest.errors import StatusEngineError
from ingest.store import database
from ingest.store.database import Connection


def _entity_id(connection: Connection, entity_type: str, entity: int | str) -> int:
    if isinstance(entity, int):
        return entity
    require_views(connection)
    if unknown := unknown_type(connection, entity_type):
        raise StatusEngineError(unknown)
    with no_swap(connection):
        return entity_id_of(connection, entity_type, entity)


@click.command(name="explain")
@click.argument("entity_type")
@click.argument("entity", type=Entity())
@click.option("--as-of", type=Instant(), help="What the clock shows; now by default.")
@AS_JSON
def explain_command(
    entity_type: str, entity: int | str, as_of: datetime | None, as_json: bool
) -> None:
    """Say why an entity has its status, its workflow, its deadlines and verdicts.

    ENTITY is its id, or the text that its source knows it by.

    Each stay with its transitions, the workflow version and calendar it is under, and
    every opening window that was counted on the way to its deadline.
    """
    with database.session(is_reading=True) as connection:
        entity_id = _entity_id(connection, entity_type, entity)
        found = explain(connection, entity_type, entity_id, as_of)
    if as_json:
        tell_json(found._asdict())
    else:
        for line in narrate(found):
            click.echo(line)


@click.command(name="as-of")
@click.argument("entity_type")
@click.argument("entity", type=Entity())
@click.option("--at", type=Instant(), help="At which instant; now by default.")
@click.option(
    "--known-at",
    type=Instant(),
    help="By what was recorded up to then; all by default.",
)
@AS_JSON
def as_of_command(
    entity_type: str,
    entity: int | str,
    at: datetime | None,
    known_at: datetime | None,
    as_json: bool,
) -> None:
    """Say what an entity's status was at an instant, by what was known at another.

    ENTITY is its id, or the text that its source knows it by.
    """
    with database.session(is_reading=True) as connection:
        entity_id = _entity_id(connection, entity_type, entity)
        found = status_as_of(connection, entity_type, entity_id, at, known_at)
    if as_json:
        tell_json(found)
        return
    tell_fields(found)
