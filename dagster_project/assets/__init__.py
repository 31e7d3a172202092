"""The asset graph: raw tables, the cut, the dbt models, the published files.

Bodies read their configuration, call a function and report; SLA logic is in dbt. Here
is what they share.
"""

import dagster as dg

from ingest.errors import StatusEngineError

OWNERS = ["team:status-engine"]


def narrate(context: dg.AssetExecutionContext, line: str) -> None:
    """A line for the person at the terminal, and in the event log."""
    context.log.info(line, extra={"is_narration": True})


def in_a_sentence(error: StatusEngineError) -> dg.Failure:
    """A step's end whose reason the UI shows before where it was raised."""
    return dg.Failure(str(error), allow_retries=False)
