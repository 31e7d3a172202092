"""Alerts: what is due for whom, deliver it, try a channel."""

import sys
from datetime import UTC, datetime

import click

from dagster_project.cli.options import AS_JSON
from dagster_project.terminal import say, tell, tell_json, tell_table
from ingest.errors import StatusEngineError
from ingest.store import database


@click.group(name="alerts")
def alerts_group() -> None:
    """Tell people of SLAs that are at risk or breached, and of signals of targets.

    See alert_channels and targets files.
    """


@alerts_group.command(name="list")
@AS_JSON
def list_command(as_json: bool) -> None:
    """List what is due and was not told yet, by channel."""
    from dagster_project.alerts.channels import channels_in_force
    from dagster_project.alerts.due import due_for
    from dagster_project.explain import require_views

    now = datetime.now(UTC)
    with database.session(is_reading=True) as connection:
        require_views(connection)
        channels = channels_in_force(connection)
        rows = [
            {"channel_name": channel.channel_name, **due._asdict()}
            for channel in channels
            for due in due_for(connection, channel, now)
        ]
    if as_json:
        tell_json({"alerts": rows})
        return
    if not channels:
        say("No channel is configured, so nobody is told; see alert_channels files.")
        return
    names = ("channel_name", "kind", "stage", "entity_type", "entity_id", "status")
    tell_table(
        [
            {
                **{name: row[name] for name in names},
                "sla_deadline": f"{row['sla_deadline']:%Y-%m-%d %H:%M} UTC"
                if row["sla_deadline"]
                else None,
            }
            for row in rows
        ]
    )


@alerts_group.command(name="deliver")
@click.option("--dry-run", is_flag=True, help="Say what is due; send nothing.")
@AS_JSON
def deliver_command(dry_run: bool, as_json: bool) -> None:
    """Send what is due through its channels, as each run and Dagster's sensor do.

    Exit code 1 where a channel has no address, or did not take what is due.
    """
    from dagster_project.alerts.delivery import (
        DRY_RUN,
        deliver_alerts,
        describe,
        standing_failures,
    )
    from dagster_project.explain import require_views

    with database.session() as connection:
        require_views(connection)
        results = deliver_alerts(connection, is_dry_run=dry_run)
        failures = standing_failures(connection)
    if as_json:
        rows = [result._asdict() for result in results]
        tell_json({"channels": rows, "failures": failures})
    else:
        for line in describe(results) or ["nothing is due" if results else DRY_RUN]:
            tell(line)
    if failures:
        say("Error: " + "\n".join(failures))
        sys.exit(1)


@alerts_group.command(name="test")
@click.argument("channel_name")
def test_command(channel_name: str) -> None:
    """Send a message through CHANNEL_NAME that says that it is a test."""
    from dagster_project.alerts.channels import channels_in_force, send

    with database.session(is_reading=True) as connection:
        channels = {c.channel_name: c for c in channels_in_force(connection)}
    if channel_name not in channels:
        known = ", ".join(channels) or "none"
        msg = f"There is no channel {channel_name!r}; in force are {known}."
        raise StatusEngineError(msg)
    channel = channels[channel_name]
    if channel.address is None:
        said = channel.without_address
        raise StatusEngineError(f"{said[0].upper()}{said[1:]}.")
    body = f"Channel {channel_name} of the Status Engine works."
    error = send(channel.address, "This is a test", body)
    if error is not None:
        msg = f"Channel {channel_name} did not take it: {error}."
        raise StatusEngineError(msg)
    say(f"Channel {channel_name} took it.")
