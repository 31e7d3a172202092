"""What history would be under other workflows or calendars."""

import sys
from datetime import datetime
from pathlib import Path

import click

from dagster_project.cli.options import AS_JSON, REJECTED, Since
from dagster_project.cli.output import write_new
from dagster_project.terminal import say, tell_json
from ingest.configuration import workflows

SHOWN = 20
EXIT_CODES = """
\b
Exit codes:
  0  judged; no entity type is below --fail-below
  1  refused, with the reason
  2  wrong usage
  3  the compliance of an entity type would be below --fail-below
"""


@click.command(name="what-if", epilog=EXIT_CODES)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--since",
    type=Since(),
    help="Judge stays that began from then on, a date (its midnight in UTC) or an "
    "instant; from the beginning of history by default.",
)
@click.option(
    "--fail-below",
    type=click.FloatRange(0, 1),
    metavar="RATIO",
    help="End with 3 where the compliance of an entity type would be below it.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    help="A new .svg file: compliance before and after, with intervals.",
)
@AS_JSON
def what_if_command(
    paths: tuple[Path, ...],
    since: datetime | None,
    fail_below: float | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Judge history again under the workflows and calendars in PATHS; change nothing.

    PATHS are files and folders as for `workflows apply`. What differs from what is in
    force takes its place from --since on, whatever versions came later: stays that
    began from then on are judged by it, earlier ones as they were (S9). It binds the
    entities that began from then on; a workflow that is new binds as one that was
    applied then (S8). What equals what is in force is left as it was. Deadlines that
    transitions brought along stay.

    Told of the published cut, at its instant, are compliance before and after with its
    exact 95 % interval, the stays that are judged otherwise (all with --json), and
    alerts. Builds may go on meanwhile, and readers see nothing of it.
    """
    # Dagster and dbt take seconds to import; only the commands that need them wait.
    from dagster_project.resources import Warehouse
    from dagster_project.what_if import what_if
    from dagster_project.what_if_text import as_dictionary, draw, tell_what_if

    configuration = workflows.load(*paths)
    found = what_if(Warehouse(), configuration, since, None if as_json else SHOWN)
    below = found.below(fail_below) if fail_below is not None else ()
    if plot is not None:
        write_new(plot, draw(found))
    if as_json:
        tell_json({**as_dictionary(found), "below": [g.entity_type for g in below]})
    else:
        for warning in configuration.warnings:
            say(f"Warning: {warning}")
        tell_what_if(found)
    for group in below:
        say(f"{group.entity_type} would be below {fail_below:.1%}.")
    sys.exit(REJECTED if below else 0)
