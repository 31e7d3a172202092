"""Pipeline alerts: what is in trouble, sent through channels that ask for it.

They go out while the database is down: channels and what was told are remembered in
the home folder, and recorded in `raw` as soon as it can be. What is a trouble belongs
in watching.py and in health; when it is told in incidents.py.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psycopg

from dagster_project.alerts.channels import (
    PIPELINE,
    Channel,
    channels_in_force,
    holding_channel,
    is_silent,
    send,
    wait_after,
)
from dagster_project.alerts.delivery import record_message
from dagster_project.alerts.incidents import (
    Looked,
    Observation,
    Telling,
    after,
    compose,
    due,
    forget,
    observe,
)
from dagster_project.alerts.remembered import (
    Attempt,
    Failures,
    Memory,
    keep,
    recall,
    remember_channels,
    remembered_channels,
    remembering,
)
from dagster_project.health import warehouse
from dagster_project.health.findings import Finding
from ingest.errors import StatusEngineError
from ingest.store.database import Connection

BUSY = "another process tells of the pipeline just now"
NOBODY = "no channel has pipeline_alerts, so nobody is told of the pipeline"


def alarm(
    home: Path, findings: Sequence[Finding], *, now: float | None = None
) -> list[str]:
    """Tell of what health found, and of what is over; what was done, in words."""
    if not home.exists():
        return [NOBODY]
    return tell(home, lambda memory, _: [looked_at(findings, memory)], now=now)


def looked_at(findings: Sequence[Finding], memory: Memory) -> Looked:
    """What failed of what health looked at; what it could not ask is as it was."""
    failed = [
        Observation(f"health/{f.name}", f"{f.name} failed", f.said, is_level=True)
        for f in findings
        if f.state == "fail"
    ]
    asked = {f"health/{f.name}" for f in findings}
    return Looked("health/", failed, frozenset(memory.incidents) - asked)


def tell(
    home: Path,
    look: Callable[[Memory, Connection | None], Sequence[Looked]],
    *,
    conninfo: str | None = None,
    now: float | None = None,
) -> list[str]:
    """Look for troubles, and send each channel what it is to be told of them.

    Args:
        home: the home folder.
        look: what to look at; given what is remembered, and a connection where the
            database answers.
        conninfo: of the database; where the home and the environment say, by default.
        now: seconds since 1970; this machine's clock by default.

    Returns:
        A sentence for each channel that had something to be told, or why none was.
    """
    instant = time.time() if now is None else now
    with remembering(home) as memory, _reached(home, conninfo) as connection:
        if memory is None:
            return [BUSY]
        channels = _channels(home, memory, connection)
        memory.told = {
            channel.channel_name: memory.told.get(channel.channel_name, {})
            for channel in channels
        }
        forget(memory.incidents, list(memory.told.values()), instant)
        observe(memory.incidents, look(memory, connection), instant)
        keep(home, memory)
        said = [
            line
            for channel in channels
            for line in _tell(home, memory, channel, connection, instant)
        ]
        if connection:
            _record(connection, memory)
        return said if channels else [NOBODY]


@contextmanager
def _reached(home: Path, conninfo: str | None) -> Iterator[Connection | None]:
    """A connection, or None where the database can't be asked."""
    try:
        connection = warehouse.connecting(home, conninfo)
    except (StatusEngineError, psycopg.Error):
        yield None
        return
    with closing(connection):
        yield connection


def _channels(
    home: Path, memory: Memory, connection: Connection | None
) -> list[Channel]:
    """Those that ask for it, as the database has them, and what it says they know."""
    found = remembered_channels(home)
    # It may go away at any time, or not be set up or upgraded yet.
    with suppress(psycopg.Error):
        if connection:
            found = channels_in_force(connection)
            remember_channels(home, found)
            recall(connection, memory, found)
    return [channel for channel in found if channel.pipeline_alerts]


def _tell(
    home: Path,
    memory: Memory,
    channel: Channel,
    connection: Connection | None,
    now: float,
) -> Iterator[str]:
    """One message with all that a channel is to be told; why it was not sent."""
    told = memory.told[channel.channel_name]
    tellings = due(memory.incidents, told, now)
    if not tellings:
        return
    name = f"pipeline alerts to {channel.channel_name}"
    why_not = _held_up(memory, channel, connection, now)
    if why_not:
        yield f"{name}: {len(tellings)} wait ({why_not})"
        return
    with _turn(connection, channel) as is_held:
        if not is_held:
            yield f"{name}: {BUSY}"
            return
        error = _send(memory, channel, tellings, now)
        keep(home, memory)
    yield f"{name}: {len(tellings)} {f'failed ({error})' if error else 'told'}"


def _held_up(
    memory: Memory, channel: Channel, connection: Connection | None, now: float
) -> str | None:
    """Why nothing is sent now; None where it is.

    Whether its calendar is open only the database can say; while that is down, people
    are told at night as well.
    """
    if channel.address is None:
        return channel.without_address
    failures = memory.failures.get(channel.channel_name)
    if failures:
        wait = wait_after(failures.count)
        if now < failures.last_at + wait.total_seconds():
            return "it failed, and is left alone for a while"
    with suppress(psycopg.Error):
        instant = datetime.fromtimestamp(now, UTC)
        if connection and is_silent(connection, channel, instant):
            return f"calendar {channel.calendar_name} is closed"
    return None


@contextmanager
def _turn(connection: Connection | None, channel: Channel) -> Iterator[bool]:
    """Whether no other home sends through a channel now, as far as can be told."""
    is_held, stack = True, ExitStack()
    with suppress(psycopg.Error):
        if connection:
            turn = holding_channel(connection, channel, PIPELINE)
            is_held = stack.enter_context(turn)
    try:
        yield is_held
    finally:
        # It may have gone away meanwhile, and its lock with it.
        with suppress(psycopg.Error):
            stack.close()


def _send(
    memory: Memory, channel: Channel, tellings: Sequence[Telling], now: float
) -> str | None:
    """Send them as one message, and remember it; why it was not taken, or None."""
    address = channel.address
    assert address is not None
    title, body = compose(tellings)
    error = send(address, title, body)
    known = {telling.incident.cause: after(telling, now) for telling in tellings}
    causes = [
        {
            "cause": cause,
            "told": msgspec.to_builtins(told),
            "incident": msgspec.to_builtins(memory.incidents[cause]),
        }
        for cause, told in known.items()
    ]
    memory.unrecorded.append(
        Attempt(
            uuid.uuid4(),
            channel.channel_name,
            title,
            len(tellings),
            now,
            error,
            {"process": os.getpid(), "causes": causes},
        )
    )
    if error is None:
        memory.told[channel.channel_name].update(known)
        memory.failures.pop(channel.channel_name, None)
    else:
        before = memory.failures.get(channel.channel_name)
        count = before.count + 1 if before else 1
        memory.failures[channel.channel_name] = Failures(count, now)
    return error


def _record(connection: Connection, memory: Memory) -> None:
    """Record in `raw` what was sent, also while the database could not be reached."""
    while memory.unrecorded:
        attempt = memory.unrecorded[0]
        try:
            record_message(
                connection,
                attempt.message_id,
                attempt.channel,
                PIPELINE,
                attempt.title,
                attempt.count,
                attempt.error,
                attempt.details,
                datetime.fromtimestamp(attempt.sent_at, UTC),
            )
        # It went away; the next time will do.
        except psycopg.Error:
            return
        memory.unrecorded.pop(0)
