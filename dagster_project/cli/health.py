"""How everything is, for a person, cron or a probe."""

import sys
from datetime import timedelta

import click

from dagster_project.cli.options import AS_JSON
from dagster_project.terminal import say, tell, tell_json
from ingest.store import database

HEALTH_CODES = """
\b
Exit codes:
  0  nothing has failed; what is told as warn may
  1  something has
  2  wrong usage
"""


@click.command(name="health", epilog=HEALTH_CODES)
@click.option(
    "--within",
    type=click.IntRange(min=1),
    default=15,
    show_default=True,
    metavar="MINUTES",
    help="How long a batch, a run or a publication may lag: three ticks.",
)
@click.option(
    "--daemon/--no-daemon",
    "is_daemon_expected",
    default=None,
    help="Whether Dagster's daemon has to run; by default where it ever did.",
)
@click.option("--prometheus", is_flag=True, help="Print it as Prometheus reads it.")
@click.option(
    "--alarm",
    is_flag=True,
    help="Send what failed, and what is over, through channels with pipeline_alerts.",
)
@AS_JSON
def health_command(
    within: int,
    is_daemon_expected: bool | None,
    prometheus: bool,
    alarm: bool,
    as_json: bool,
) -> None:
    """Say how database, builds, alerts, daemon, runs and disks are; a line each.

    It starts nothing, changes nothing and asks no daemon, so it may be asked by cron
    or a probe, every minute.
    """
    from dagster_project.health.findings import as_json as in_json
    from dagster_project.health.findings import as_prometheus, worst
    from dagster_project.health.survey import survey

    if prometheus and as_json:
        msg = "--json and --prometheus are two ways to say it; name one."
        raise click.UsageError(msg)
    home = database.home()
    findings = survey(
        home, within=timedelta(minutes=within), is_daemon_expected=is_daemon_expected
    )
    if as_json:
        tell_json(in_json(findings))
    elif prometheus:
        tell(as_prometheus(findings))
    else:
        for finding in findings:
            tell(str(finding))
    if alarm:
        from dagster_project.alerts.pipeline import alarm as send_alarm

        for line in send_alarm(home, findings):
            say(line)
    sys.exit(1 if worst(findings) == "fail" else 0)
