"""Show what rules of workflows move on now, and do it."""

from datetime import datetime
from typing import Any

import click

from dagster_project.automation import (
    LIMIT,
    Outlook,
    Row,
    make_moves,
    narrate,
    outlook,
    reason_of,
)
from dagster_project.cli.options import AS_JSON, Instant
from dagster_project.explain import require_views
from dagster_project.terminal import say, tell_json, tell_table
from ingest.automation import Moved
from ingest.store import database


@click.command()
@click.option("--append", is_flag=True, help="Make the moves; without it none is made.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=LIMIT,
    show_default=True,
    help="Moves at most; those first whose rule holds longest.",
)
@click.option(
    "--as-of", type=Instant(), help="What would be moved then; moves nothing."
)
@AS_JSON
def automate(append: bool, limit: int, as_of: datetime | None, as_json: bool) -> None:
    """Say which entities rules of their workflows move on now; --append moves them.

    The rules are a step's auto_transition_conditions. A move is judged as one of
    status-engine record is, and one of them at most leaves each stay, however often and
    wherever this runs. The schedule makes them by itself after each build.
    """
    if append and as_of is not None:
        msg = "--as-of moves nothing; leave out --append."
        raise click.UsageError(msg)
    moved = None
    with database.session() as connection:
        require_views(connection)
        found = outlook(connection, limit, as_of)
        if append:
            moved = make_moves(connection, found)
    if as_json:
        tell_json(_content(found, moved))
        return
    rows = found.due + found.proposed
    if rows:
        tell_table(list(map(_line, rows)))
    for line in narrate(found, moved):
        say(line)
    if found.due and not append:
        say("Nothing was moved; status-engine automate --append does it.")


def _line(row: Row) -> Row:
    return {
        "entity": f"{row['entity_type']} {row['entity_key'] or row['entity_id']}",
        "status": row["current_status"],
        "to": row["to_status"],
        "because": reason_of(row),
        "proposed_only": row["obstacle"],
    }


def _content(found: Outlook, moved: Moved | None) -> dict[str, Any]:
    done = {} if moved is None else moved._asdict()
    return {**found._asdict(), "limit_reached": found.is_limited, **done}
