"""Channels: where alerts go, by their configuration in force, and the sending itself.

What is sent belongs in messages.py, and what is due for whom in due.py. Addresses are
in environment variables and nowhere else: no table, log or error holds one.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from psycopg.rows import class_row

from ingest.store.database import Connection

# After the first failure; twice as long after each further one.
FIRST_WAIT = timedelta(seconds=30)
LONGEST_WAIT = timedelta(minutes=15)
# How alerts differ that wait for each other, and whose failures hold them up.
SLA, PIPELINE = "sla", "pipeline"
_IN_FORCE = """
select
    channel_name, address_variable, entity_types, business_entities, roles, stages,
    calendar_name, digest_above, pipeline_alerts
from (
    select distinct on (channel_name) *
    from raw.alert_channels
    order by channel_name, created_at desc
) as newest
where is_active
order by channel_name
"""
# Numbers of a space of their own: see ingest/store/locks.py.
_TRY = "select pg_try_advisory_lock(hashtextextended(%s, 7361820152))"
_LEAVE = "select pg_advisory_unlock(hashtextextended(%s, 7361820152))"
_FAILURES = """
select count(*), max(sent_at), clock_timestamp()
from raw.alert_messages
where
    channel_name = %(channel)s
    and topic = %(topic)s
    and sent_at > coalesce(
        (
            select max(sent_at) from raw.alert_messages
            where channel_name = %(channel)s and topic = %(topic)s and is_delivered
        ),
        '-infinity'
    )
"""


class Channel(NamedTuple):
    """A channel in force; each list restricts what it gets, an empty one does not."""

    channel_name: str
    address_variable: str
    entity_types: list[str]
    business_entities: list[str]
    roles: list[str]
    stages: list[str]
    calendar_name: str | None
    digest_above: int
    pipeline_alerts: bool

    @property
    def address(self) -> str | None:
        """Its address in the environment; None where that has none."""
        return os.environ.get(self.address_variable) or None

    @property
    def without_address(self) -> str:
        """What is said where it has none."""
        return f"the environment variable {self.address_variable} is not set"


def channels_in_force(connection: Connection) -> list[Channel]:
    """Those that are configured and active, by name."""
    with connection.cursor(row_factory=class_row(Channel)) as cursor:
        return cursor.execute(_IN_FORCE).fetchall()


@contextmanager
def holding_channel(
    connection: Connection, channel: Channel, topic: str
) -> Iterator[bool]:
    """Whether no other session sends through a channel; none does in the block."""
    name = f"{topic}/{channel.channel_name}"
    row = connection.execute(_TRY, [name]).fetchone()
    is_held = row is not None and row[0]
    try:
        yield is_held
    finally:
        if is_held and not connection.closed:
            connection.execute(_LEAVE, [name])


def waits_until(
    connection: Connection, channel: Channel, topic: str
) -> datetime | None:
    """Until when a channel is left alone after failures; None where it is not."""
    values = {"channel": channel.channel_name, "topic": topic}
    row = connection.execute(_FAILURES, values).fetchone()
    assert row is not None
    failures, last, now = row
    if not failures:
        return None
    until: datetime = last + wait_after(failures)
    return until if until > now else None


def wait_after(failures: int) -> timedelta:
    """How long a channel is left alone after so many failures in a row."""
    # Of hundreds of them the power would have no end.
    times: int = 2 ** min(failures - 1, 10)
    return min(FIRST_WAIT * times, LONGEST_WAIT)


def last_error(connection: Connection, channel: Channel, topic: str) -> str | None:
    """Why the last attempt failed; None where it did not, or there was none."""
    row = connection.execute(
        "select error from raw.alert_messages where channel_name = %s and topic = %s "
        "order by sent_at desc limit 1",
        [channel.channel_name, topic],
    ).fetchone()
    return row[0] if row else None


def is_silent(connection: Connection, channel: Channel, as_of: datetime) -> bool:
    """Whether the calendar of a channel is closed at an instant."""
    if channel.calendar_name is None:
        return False
    row = connection.execute(
        "select raw.business_seconds(%s, %s, %s + interval '1 microsecond')",
        [channel.calendar_name, as_of, as_of],
    ).fetchone()
    # What a calendar does not cover, it can't be asked.
    return row is not None and row[0] == 0


def send(address: str, title: str, body: str) -> str | None:
    """Send a message; why it was not taken, in words without the address, or None."""
    # Only who sends needs it; it knows a hundred receivers.
    import apprise

    sender = apprise.Apprise()
    if not sender.add(address):
        return "its address is none that Apprise understands"
    capture: Any = apprise.LogCapture
    with capture(level=logging.WARNING) as said:
        is_taken = sender.notify(
            title=title, body=body, body_format=apprise.NotifyFormat.TEXT
        )
        words = said.getvalue()
    if is_taken:
        return None
    lines = [line for line in _without_address(words, address).splitlines() if line]
    return " ".join(lines) or "the receiver did not take it"


def _without_address(words: str, address: str) -> str:
    """Without what of an address may be a secret: it whole, and each part of it."""
    parts = urlsplit(address)
    secrets = {address, parts.netloc, parts.username, parts.password, parts.query}
    secrets |= {part for part in parts.path.split("/") if len(part) > 3}
    known = {unquote(secret) for secret in secrets if secret} | secrets
    for secret in sorted(filter(None, known), key=len, reverse=True):
        words = words.replace(secret, "…")
    return words
