"""Questions to the database: batches, cuts, builds, alerts, verification, its size.

It is asked as it is: never started, upgraded or written to.
"""

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psycopg

from dagster_project.alerts.channels import (
    PIPELINE,
    SLA,
    channels_in_force,
    is_silent,
    last_error,
)
from dagster_project.alerts.due import due_for
from dagster_project.health.findings import Finding, minutes, span
from dagster_project.swap import PUBLISHED, exists
from dagster_project.verifications import standing_failure
from ingest.errors import StatusEngineError
from ingest.store import database, embedded
from ingest.store.database import Connection, server_clock

# For a connection, in seconds; and for an answer, by the server.
PATIENCE = 3
SLOWEST_ANSWER = "1500ms"
Question = Callable[[Connection, timedelta], Finding]
_STARTED = "any command that needs it starts it, as status-engine init"
_BATCH = """
select extract(epoch from clock_timestamp() - recorded_at)::float
from raw.batches order by batch_id desc limit 1
"""
_CUT = """
select extract(epoch from clock_timestamp() - pinned_at)::float, cut
from raw.cuts order by cut desc limit 1
"""
# What waits is little, and what is built is most: by the index on cut, from its end. A
# batch of duplicates changes nothing that is built.
_BUILT = """
select
    built.cut,
    extract(epoch from clock_timestamp() - cuts.pinned_at)::float,
    count(waiting.batch_id),
    extract(epoch from clock_timestamp() - min(waiting.recorded_at))::float
from (select min(cut) as cut from sla.built_cuts) as built
left join raw.cuts using (cut)
left join lateral (
    select * from raw.batches where cut is null
    union all
    select * from raw.batches where batches.cut > built.cut
) as waiting on waiting.appended_count > 0 or waiting.kind = 'configuration'
group by built.cut, cuts.pinned_at
"""


def address(home: Path) -> str:
    """Where the database is, whether or not it answers; none is started."""
    return os.environ.get("DATABASE_URL") or embedded.address(home)


def ask(
    home: Path, within: timedelta, conninfo: str | None = None
) -> Iterator[Finding]:
    """A finding of each question; of the database alone where it can't be reached.

    Args:
        home: of the embedded server, where that one is in use.
        within: how long a batch may wait for a build.
        conninfo: of another database than that of the environment.
    """
    is_ours = not (conninfo or os.environ.get("DATABASE_URL"))
    try:
        with connecting(home, conninfo) as connection:
            yield _database(connection)
            for name, question in QUESTIONS.items():
                yield _answer(name, question, connection, within)
    except StatusEngineError as error:
        said = f"the embedded one does not run; {_STARTED}" if is_ours else str(error)
        yield Finding("database", "fail", said)


def connecting(home: Path, conninfo: str | None = None) -> Connection:
    """A connection that waits for no answer for long.

    Args:
        home: of the embedded server, where that one is in use.
        conninfo: of another database than that of the environment.

    Raises:
        DatabaseError: it can't be reached.
    """
    connection = database.connect(conninfo or address(home), PATIENCE)
    connection.execute(f"set statement_timeout = '{SLOWEST_ANSWER}'")
    connection.execute(f"set lock_timeout = '{SLOWEST_ANSWER}'")
    return connection


def _answer(
    name: str, question: Question, connection: Connection, within: timedelta
) -> Finding:
    try:
        return question(connection, within)
    except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
        return Finding(name, "warn", f"not told within {SLOWEST_ANSWER}")
    except psycopg.errors.UndefinedTable:
        said = "its tables are not there, or of another release: status-engine init"
        return Finding(name, "warn", said)
    except (psycopg.Error, StatusEngineError) as error:
        reason = str(error).strip().partition("\n")[0]
        return Finding(name, "fail", reason)


def _database(connection: Connection) -> Finding:
    row = connection.execute(
        "select pg_database_size(current_database()), current_setting('server_version')"
    ).fetchone()
    assert row is not None
    size, version = row
    said = f"PostgreSQL {version} answers; it holds {size / 2**20:,.0f} MB"
    return Finding("database", "ok", said, {"database_bytes": size})


def _batch(connection: Connection, _: timedelta) -> Finding:
    """How often one comes is the business of its source, so none is too old."""
    row = connection.execute(_BATCH).fetchone()
    if row is None:
        return Finding("batch", "ok", "none was recorded yet")
    (age,) = row
    said = f"the newest was recorded {span(age)} ago"
    return Finding("batch", "ok", said, {"batch_age_seconds": age})


def _cut(connection: Connection, _: timedelta) -> Finding:
    """Who pins none has nothing new to build; what waits, `build` tells."""
    row = connection.execute(_CUT).fetchone()
    if row is None:
        return Finding("cut", "ok", "none was pinned yet")
    age, number = row
    said = f"cut {number} was pinned {span(age)} ago"
    return Finding("cut", "ok", said, {"cut_age_seconds": age})


def _build(connection: Connection, within: timedelta) -> Finding:
    if not exists(connection, PUBLISHED):
        return Finding("build", "ok", "nothing is built yet")
    row = connection.execute(_BUILT).fetchone()
    assert row is not None
    cut, age, waiting, oldest = row
    figures = {
        "built_cut_age_seconds": age or 0.0,
        "unbuilt_batches": waiting,
        "unbuilt_age_seconds": oldest or 0.0,
    }
    said = f"cut {cut} of {span(age or 0)} ago is built"
    if not waiting:
        return Finding("build", "ok", f"{said}, and nothing waits", figures)
    said += f"; {waiting:,} batches wait, the oldest for {span(oldest)}"
    if oldest <= within.total_seconds():
        return Finding("build", "ok", said, figures)
    more = f", of {minutes(within)} at most. Run: status-engine run"
    return Finding("build", "fail", said + more, figures)


def _alerts(connection: Connection, within: timedelta) -> Finding:
    """Alerts that fell due a while ago, and channels that did not take what they got.

    What a channel does not get in its silent hours does not count.
    """
    channels = channels_in_force(connection)
    if not channels:
        return Finding("alerts", "ok", "no channel is configured, so nobody is told")
    now = server_clock(connection)
    due, late, failing = 0, [], []
    is_built = exists(connection, PUBLISHED)
    for channel in channels:
        errors = [last_error(connection, channel, topic) for topic in (SLA, PIPELINE)]
        if any(errors):
            failing.append(channel.channel_name)
        if not is_built or is_silent(connection, channel, now):
            continue
        items = due_for(connection, channel, now)
        due += len(items)
        if items and min(item.due_at for item in items) < now - within:
            late.append(channel.channel_name)
    figures = {"alerts_due": due, "channels_failing": len(failing)}
    said = f"{due:,} are due"
    if late or failing:
        who = ", ".join(sorted({*late, *failing}))
        said += f"; not delivered through {who}: status-engine alerts deliver"
        return Finding("alerts", "fail", said, figures)
    return Finding("alerts", "ok", f"{said}, and all channels work", figures)


def _verification(connection: Connection, _: timedelta) -> Finding:
    failure = standing_failure(connection)
    figures = {"verification_failed": float(failure is not None)}
    if failure:
        return Finding("verification", "fail", str(failure), figures)
    return Finding("verification", "ok", "no failure stands", figures)


QUESTIONS: dict[str, Question] = {
    "batch": _batch,
    "cut": _cut,
    "build": _build,
    "alerts": _alerts,
    "verification": _verification,
}
