"""The asset graph: raw tables, the cut, the dbt models, the published files.

Bodies read their configuration, call a function and report; SLA logic is in dbt. Here
is what they share.
"""

import time
from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType

import dagster as dg

from ingest.errors import StatusEngineError

OWNERS = ["team:status-engine"]
# The folder of the weeks' reviews in the home, and its name in the web.
REPORTS = "reports"
# Of what each run makes: two ticks that passed without are worth a look, three a fault.
EVERY_TICK = dg.FreshnessPolicy.time_window(
    fail_window=timedelta(minutes=15), warn_window=timedelta(minutes=10)
)
# What to do where an asset, or a check of it, is red, by its group.
WHEN_RED: Mapping[str, str] = MappingProxyType(
    {
        "raw": "When red: the step says which file or rows, or that the database can't "
        "be reached; nothing that came in is lost. Mend that, and launch job "
        "`status_engine`. Refused rows wait for job `replay_rejects`.",
        "staging": "When red: nobody reads it but the build, and what was published "
        "stays as it was. The failed check says what to do; a model that fails is "
        "made anew by job `full_refresh`.",
        "building": "When red: nobody reads it but the build, and what was published "
        "stays as it was. Job `full_refresh` makes it anew.",
        "sla": "When red: a build or a test failed, and the files stay those of the "
        "last tested cut. The failed check shows rows and says what to do; job "
        "`full_refresh` builds all anew, job `verify` tells whether it was needed.",
        "published": "When red: the files are those of the last tested cut, whole and "
        "readable, and get older. The cause is told by the step or by the checks of "
        "group sla; then job `publish` writes them without a build.",
        "reports": "When red: the step says why; nothing else depends on it. Job "
        "`report` makes it once that is mended.",
        "alerts": "When red: the check names the channel and why it takes nothing. "
        "Alerts wait for it, in order; job `deliver_alerts` tries at once.",
    }
)


class Stopwatch:
    """The seconds of a step, under one name wherever they are told."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since it was made, in milliseconds' steps."""
        return round(time.monotonic() - self.began, 3)


def narrate(
    context: dg.AssetExecutionContext | dg.OpExecutionContext, line: str
) -> None:
    """A line for the person at the terminal, and in the event log."""
    context.log.info(line, extra={"is_narration": True})


def in_a_sentence(error: StatusEngineError) -> dg.Failure:
    """A step's end whose reason the UI shows before where it was raised."""
    return dg.Failure(str(error), allow_retries=False)
