"""Questions to Dagster's storage: the daemon's heartbeat, and its runs.

Its tables are read as they are. Dagster itself would tell the same (a test holds the
two equal), and takes a second longer to load than a probe should take in all.
"""

import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import yaml

from dagster_project.health.findings import Finding, minutes, span
from dagster_project.processes import PROCESS_TAG, lives
from ingest.errors import DatabaseError
from ingest.store import database

Rows = list[tuple[Any, ...]]
Ask = Callable[[str], Rows]
# Of Dagster's daemon; dead is who misses two.
INTERVAL = timedelta(seconds=30)
MISSED = 2
# A single one of its threads may be at work on something long.
LONGEST_TURN = timedelta(minutes=10)
# The longest run known, a verification of 5 million transitions, takes 5 minutes.
LONGEST_RUN = timedelta(hours=6)
JOB = "status_engine"
QUEUED = ("QUEUED", "NOT_STARTED")
_UNENDED = f"""
select runs.run_id, runs.pipeline_name, runs.status, runs.create_timestamp,
    runs.start_time, tags.value
from runs
left join run_tags as tags on tags.run_id = runs.run_id and tags.key = '{PROCESS_TAG}'
where runs.status in ('QUEUED', 'NOT_STARTED', 'STARTING', 'STARTED', 'CANCELING')
order by runs.id limit 1000
"""
_LAST = f"""
select run_id, status, end_time from runs
where pipeline_name = '{JOB}' and status in ('SUCCESS', 'FAILURE')
order by id desc limit 1
"""


class Storage(NamedTuple):
    """A way to ask it, and whether all its runs are of this machine, as with SQLite."""

    rows: Ask
    is_local: bool


class Unended(NamedTuple):
    """A run that waits, or goes on, as the storage has it."""

    run_id: str
    job: str
    status: str
    created_at: datetime | str
    start_time: float | None
    process: str | None


@contextmanager
def asking(home: Path) -> Iterator[Storage | None]:
    """A way to ask the storage; None where no instance was made yet.

    Raises:
        DatabaseError: it can't be reached, or is of a kind that is not known here.
    """
    folder = home / "dagster"
    settings = folder / "dagster.yaml"
    if not settings.exists():
        yield None
        return
    found = yaml.safe_load(settings.read_text()) or {}
    storage = found.get("storage") or {}
    if "postgres" in storage:
        # By its own variable where deploy/ keeps it.
        with database.reach(_postgres(storage["postgres"]), "dagster.yaml", 3) as reach:
            reach.execute("set statement_timeout = '1500ms'")
            yield Storage(lambda q: reach.execute(q.encode()).fetchall(), False)
        return
    if storage and "sqlite" not in storage:
        msg = f"Storage {', '.join(storage)} of {settings} is of no kind known here."
        raise DatabaseError(msg)
    base = Path(_value((storage.get("sqlite") or {}).get("base_dir", str(folder))))
    path = base / "history" / "runs.db"
    if not path.exists():
        yield None
        return
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=2)
    try:
        yield Storage(lambda query: connection.execute(query).fetchall(), True)
    except sqlite3.Error as error:
        msg = f"Dagster's storage {path} can't be read: {error}."
        raise DatabaseError(msg) from error
    finally:
        connection.close()


def _postgres(settings: dict[str, Any]) -> str:
    """The connection string, in either of the ways that Dagster takes."""
    if "postgres_url" in settings:
        # SQLAlchemy's way to name a driver, which libpq has not.
        url = str(_value(settings["postgres_url"]))
        return re.sub(r"^postgres(?:ql)?\+\w+://", "postgresql://", url)
    parts = {name: _value(v) for name, v in settings["postgres_db"].items()}
    names = {"username": "user", "hostname": "host", "db_name": "dbname"}
    return " ".join(
        f"{names.get(name, name)}='{value}'"
        for name, value in parts.items()
        if name in {*names, "password", "port"}
    )


def _value(given: Any) -> Any:
    """A value, or that of the environment variable that it names."""
    if isinstance(given, dict):
        return os.environ.get(given["env"], "")
    return given


def ask(
    home: Path, within: timedelta, now: datetime, *, is_daemon_expected: bool | None
) -> Iterator[Finding]:
    """What Dagster's storage tells.

    Args:
        home: the home folder, in which the instance's settings are.
        within: how long a run may wait for its turn.
        now: the instant, with a zone.
        is_daemon_expected: whether one has to run; where it ever did, by default.
    """
    with asking(home) as storage:
        rows: Ask = storage.rows if storage else lambda _: []
        beats = rows("select daemon_type, body from daemon_heartbeats")
        yield daemon(
            {kind: json.loads(body)["timestamp"] for kind, body in beats},
            now,
            is_expected=is_daemon_expected,
        )
        unended = [Unended(*row) for row in rows(_UNENDED)]
        is_local = storage is not None and storage.is_local
        yield stuck(unended, within, now, is_local=is_local)
        yield last_run(rows(_LAST), now)


def daemon(
    beats: dict[str, float], now: datetime, *, is_expected: bool | None
) -> Finding:
    """Whether the daemon lives, by the instants of its threads' last heartbeats."""
    if is_expected is False:
        return Finding("daemon", "ok", "none is asked for")
    if not beats:
        state, said = ("fail", "none runs") if is_expected else ("ok", "none ever ran")
        more = "; runs begin by hand or by cron" if not is_expected else ""
        return Finding("daemon", "fail" if state == "fail" else "ok", said + more)
    age = max(now.timestamp() - max(beats.values()), 0.0)
    figures = {"daemon_age_seconds": age}
    if age > MISSED * INTERVAL.total_seconds():
        said = f"it is dead: no heartbeat for {span(age)}. Start status-engine ui"
        return Finding("daemon", "fail", said, figures)
    silent = sorted(
        kind
        for kind, beat in beats.items()
        if now.timestamp() - beat > LONGEST_TURN.total_seconds()
    )
    if silent:
        said = f"no heartbeat of {', '.join(silent)} for {minutes(LONGEST_TURN)}"
        return Finding("daemon", "warn", said, figures)
    return Finding("daemon", "ok", f"its heart beat {span(age)} ago", figures)


def stuck(
    unended: Sequence[Unended], within: timedelta, now: datetime, *, is_local: bool
) -> Finding:
    """Runs that nobody executes, that wait for too long, or that go on for hours."""
    queued = [run for run in unended if run.status in QUEUED]
    found = [_why_stuck(run, within, now, is_local=is_local) for run in unended]
    reasons = [reason for reason in found if reason]
    figures = {"runs_stuck": len(reasons), "runs_queued": len(queued)}
    if reasons:
        more = f", and {len(reasons) - 3:,} more" if len(reasons) > 3 else ""
        return Finding("runs", "fail", "; ".join(reasons[:3]) + more, figures)
    said = f"{len(unended) - len(queued)} go on, {len(queued)} wait, none is stuck"
    return Finding("runs", "ok", said, figures)


def _why_stuck(
    run: Unended, within: timedelta, now: datetime, *, is_local: bool
) -> str | None:
    since = run.start_time or _instant(run.created_at).timestamp()
    age = now.timestamp() - since
    name = f"run {run.run_id[:8]} of {run.job}"
    if run.status in QUEUED:
        if age > within.total_seconds():
            return f"{name} waits for {span(age)}"
        return None
    # The next tick of the schedule ends it, if there is one.
    is_old = age > within.total_seconds()
    if is_old and run.process and not _lives(run.process, is_local=is_local):
        return f"{name} has no process any more, since {span(age)} it counts as started"
    if age > LONGEST_RUN.total_seconds():
        return f"{name} goes on for {span(age)}"
    return None


def _lives(process: str, *, is_local: bool) -> bool:
    try:
        return lives(process, is_local=is_local)
    # Nobody else's, nor what is no tag of ours.
    except (psutil.Error, ValueError):
        return False


def _instant(stored: datetime | str) -> datetime:
    """In UTC, as Dagster stores it without a zone; SQLite has it as text."""
    found = datetime.fromisoformat(stored) if isinstance(stored, str) else stored
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def last_run(rows: Rows, now: datetime) -> Finding:
    """Whether the last run of the job that ended did so well."""
    if not rows:
        return Finding("last_run", "ok", f"none of {JOB} has ended yet")
    ((run_id, status, ended),) = rows
    is_failed = status == "FAILURE"
    figures = {"last_run_failed": float(is_failed)}
    ago = span(now.timestamp() - ended) if ended else "some time"
    said = f"run {run_id[:8]} of {JOB} {'failed' if is_failed else 'ended well'}"
    more = "; why is in the UI, or said by: status-engine run" if is_failed else ""
    return Finding(
        "last_run", "fail" if is_failed else "ok", f"{said} {ago} ago{more}", figures
    )
