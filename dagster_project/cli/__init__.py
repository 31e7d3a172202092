"""The command line, a module a group of commands: arguments read, a function called.

No logic. What is printed stands beside the commands that print it.
"""

from typing import Any

import click

from dagster_project.cli import (
    alerts,
    automation,
    builds,
    configuration,
    exports,
    following,
    health,
    ingestion,
    mappings,
    metrics,
    questions,
    rejected,
    servers,
    watching,
    what_if,
)
from dagster_project.cli.options import EXIT_CODES
from dagster_project.terminal import sentences

OVERVIEW = """
Statuses, SLA deadlines and overdue flags, exact and never stale.

\b
A first look:      status-engine demo
Your own history:  status-engine map history.csv -o mapping.yml
                   status-engine workflows apply workflows/
                   status-engine ingest history.csv --mapping mapping.yml
                   status-engine build && status-engine publish
Every few minutes: status-engine ui      (the schedule runs inside)
Ask:               status-engine psql -c 'select * from sla.entity_current_status'

DATABASE_URL names a PostgreSQL 15 or newer; without it an embedded one keeps its
data in STATUS_ENGINE_HOME (.status-engine in the project).
"""


class _Commands(click.Group):
    """Commands whose errors are sentences."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that is named."""
        with sentences():
            return super().invoke(ctx)


@click.group(
    cls=_Commands,
    help=OVERVIEW,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="status-engine", message="status-engine %(version)s")
def main() -> None:
    """Run the program; its help is OVERVIEW."""


for _command in (
    servers.init,
    configuration.workflows_group,
    mappings.map_command,
    ingestion.ingest,
    following.sources_group,
    rejected.rejects_group,
    questions.explain_command,
    ingestion.record_command,
    automation.automate,
    builds.build,
    builds.verify_command,
    what_if.what_if_command,
    questions.as_of_command,
    watching.watch_command,
    builds.publish,
    builds.docs_command,
    exports.report_command,
    exports.export_command,
    builds.run,
    alerts.alerts_group,
    health.health_command,
    builds.demo,
    servers.psql,
    metrics.metrics_command,
    servers.url,
    servers.ui,
    servers.stop,
):
    main.add_command(_command)
