"""MetricFlow's `mf`, on the database and over the metrics that are defined in metrics/.

What a metric is, its YAML there says; what its figures are, the tables of schema sla.
"""

import os
import subprocess
import sys
from importlib.util import find_spec

import click

from dagster_project import dbt_program, metricflow_program
from ingest.errors import StatusEngineError
from ingest.store import database

METRICS = database.PROJECT / "metrics"
PROFILES = database.PROJECT / "dbt"


@click.command(
    "metrics",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def metrics_command(arguments: tuple[str, ...]) -> None:
    """Ask for metrics by MetricFlow: pass `mf` ARGUMENTS.

    As in: metrics query --metrics compliance --group-by metric_time__week. The clock is
    that of the database, as in psql.
    """
    if find_spec("dbt_metricflow") is None:
        msg = (
            "MetricFlow is not installed. Run: .venv/bin/python -m pip install "
            "--constraint constraints.txt --editable '.[metrics]'."
        )
        raise StatusEngineError(msg)
    address = database.url()
    # Said as the other commands say it, where the server is not there.
    database.connect(address).close()
    os.environ.update(
        {
            **database.environment(address),
            "DBT_PROJECT_DIR": str(METRICS),
            "DBT_PROFILES_DIR": str(PROFILES),
        }
    )
    _read_definitions()
    program = [sys.executable, "-m", metricflow_program.__name__]
    os.execv(sys.executable, [*program, *arguments])


def _read_definitions() -> None:
    """What `mf` knows is what dbt made of the files; it names the database, too.

    In the folder target there: `mf` looks nowhere else.
    """
    read = subprocess.run(
        [sys.executable, "-m", dbt_program.__name__, "--quiet", "parse"],
        stdout=subprocess.DEVNULL,
        check=False,
    )
    if read.returncode:
        msg = f"The metrics can't be read; what dbt says is in {METRICS}/logs/dbt.log."
        raise StatusEngineError(msg)
