"""Follow status changes as lines of JSON."""

import json

import click

from dagster_project.terminal import say
from ingest.position import parse_position
from ingest.store import database
from ingest.watch import Change, Wanted, committed, now, require_known, watch


@click.command(name="watch")
@click.option(
    "--after",
    help="The position of the last line that you have; 0 is everything. By default "
    "what is committed from now on.",
)
@click.option("--entity-type", help="Changes of this type only.")
@click.option(
    "--all", "unchanged", is_flag=True, help="Transitions to the same status, too."
)
@click.option(
    "--until-caught-up", is_flag=True, help="End when nothing is left to print."
)
@click.option(
    "--interval",
    type=click.FloatRange(min=0.05),
    default=1.0,
    show_default=True,
    help="Seconds between two questions; a NOTIFY comes before.",
)
def watch_command(
    after: str | None,
    entity_type: str | None,
    unchanged: bool,
    until_caught_up: bool,
    interval: float,
) -> None:
    """Print each change of a status once, from the moment it is committed.

    One JSON object a line, its position last: started again with --after and the
    position of the last whole line, it goes on behind it, without loss or repetition.
    """
    wanted = Wanted(entity_type, unchanged)
    with database.session(is_reading=True) as connection:
        position = parse_position(after) if after is not None else now(connection)
        require_known(connection, position)
        if after is None:
            say(f"watching from --after {position}")
        if until_caught_up:
            changes = committed(connection, position, wanted)
        else:
            changes = watch(connection, position, wanted, interval)
        for change in changes:
            click.echo(_line(change))


def _line(change: Change) -> str:
    return json.dumps(
        {
            name: value.isoformat() if hasattr(value, "isoformat") else value
            for name, value in change._asdict().items()
        },
        default=str,
    )
