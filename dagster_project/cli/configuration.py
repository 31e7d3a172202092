"""Workflows, calendars, users and business entities: check, compare, apply, show."""

from datetime import datetime
from pathlib import Path

import click

from dagster_project.cli.options import AS_JSON, Instant
from dagster_project.cli.output import OUTPUT, write_new
from dagster_project.cli.workflow_text import (
    calendar_text,
    headline,
    state_diagram,
    step_rows,
)
from dagster_project.terminal import (
    say,
    tell,
    tell_json,
    tell_table,
)
from ingest.configuration import in_force, workflow_drafts, workflows
from ingest.store import database

WORKFLOW_FILES = click.argument("path", type=click.Path(path_type=Path))


@click.group(name="workflows")
def workflows_group() -> None:
    """Check, compare, apply and show workflows, calendars, users, business entities."""


@workflows_group.command()
@WORKFLOW_FILES
def check(path: Path) -> None:
    """Say what is wrong in a file or folder, with file and line; writes nothing."""
    configuration = workflows.check(path)
    _say_warnings(configuration)
    say(
        f"{len(configuration.workflows)} workflows and "
        f"{len(configuration.calendars)} calendars are sound."
    )


def _say_warnings(configuration: workflows.Configuration) -> None:
    for warning in configuration.warnings:
        say(f"Warning: {warning}")


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
        warned = {"warnings": configuration.warnings} if configuration.warnings else {}
        tell_json({**applied._asdict(), **warned})
        return
    _say_warnings(configuration)
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
            tell(calendar_text(in_force.calendar_in_force(connection, name, at)))
        else:
            workflow, steps = in_force.steps_of(connection, name, business_entity, at)
            if mermaid:
                tell(state_diagram(steps))
            else:
                tell(headline(workflow))
                tell_table(step_rows(steps))


@workflows_group.command(name="draft")
@click.argument("entity_type")
@OUTPUT
def draft_command(entity_type: str, output: Path | None) -> None:
    """Write a workflow file that says what was recorded for ENTITY_TYPE so far.

    Its statuses in their usual order, the moves between them, which are final, and,
    beside each, how long nine of ten stays lasted. It is for you to read and correct;
    nothing is applied, and no file is overwritten.
    """
    with database.session(is_reading=True) as connection:
        draft = workflow_drafts.draft(connection, entity_type)
    if output is None:
        tell(draft.text.rstrip("\n"))
        return
    write_new(output, draft.text)
    steps = draft.content["steps"]
    say(
        f"{len(steps):,} statuses are drafted in {output}. Read it, correct it and set "
        f"sla_hours; then: status-engine workflows check {output}"
    )
