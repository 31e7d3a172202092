"""Delivering: each channel gets what is due for it, in order, and it is recorded.

At least once: where the process ends between a receiver's answer and the record, the
alert is sent again, under the same id. Never again once it is recorded: deliveries
through a channel take turns by a lock.
"""

import json
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from dagster_project.alerts.channels import (
    SLA,
    Channel,
    channels_in_force,
    holding_channel,
    is_silent,
    last_error,
    send,
    waits_until,
)
from dagster_project.alerts.due import Due, due_for
from dagster_project.alerts.messages import Message, messages
from dagster_project.alerts.signals import observe_signals
from dagster_project.swap import PUBLISHED, exists
from ingest.store.database import Connection, server_clock

State = Literal[
    "delivered",
    "nothing due",
    "dry run",
    "no address",
    "silent",
    "waiting",
    "failed",
    "busy",
]
DRY_RUN = "dry run: no channel is configured; see alert_channels files"
_COPY = """
copy raw.alert_deliveries (
    message_id, channel_name, kind, alert_id, stage, interval_id, entity_type,
    entity_id, sla_deadline, due_at, as_of
) from stdin
"""


class ChannelResult(NamedTuple):
    """What became of a channel: of `due` alerts and corrections, `delivered` went out.

    said: why not all did, for a person.
    """

    channel_name: str
    state: State
    due: int
    delivered: int
    messages: int
    said: str = ""


def deliver_alerts(
    connection: Connection, *, as_of: datetime | None = None, is_dry_run: bool = False
) -> list[ChannelResult]:
    """Send through every channel what is due for it, and record it.

    Which signals of targets began and ended is seen and recorded before.

    Args:
        connection: open, outside a transaction.
        as_of: what the clock shows; the database's clock by default.
        is_dry_run: whether nothing is sent or recorded.

    Returns:
        A result for each channel in force; none where none is configured, or nothing
        is built.
    """
    if not exists(connection, PUBLISHED):
        return []
    instant = as_of or server_clock(connection)
    channels = channels_in_force(connection)
    if channels and not is_dry_run:
        observe_signals(connection, instant)
    return [
        _deliver(connection, channel, instant, is_dry_run=is_dry_run)
        for channel in channels
    ]


def describe(results: Sequence[ChannelResult]) -> list[str]:
    """What became of each channel that had something to do, in words."""
    return [
        f"alerts to {result.channel_name}: {result.state}, {result.delivered:,} of "
        f"{result.due:,} in {result.messages} messages"
        + (f" ({result.said})" if result.said else "")
        for result in results
        if result.state != "nothing due"
    ]


def deliverable(connection: Connection) -> list[str]:
    """Names of the channels that could take now what is due for them."""
    if not exists(connection, PUBLISHED):
        return []
    as_of = server_clock(connection)
    found = []
    for channel in channels_in_force(connection):
        is_ready = channel.address is not None and not (
            is_silent(connection, channel, as_of)
            or waits_until(connection, channel, SLA)
        )
        if is_ready and due_for(connection, channel, as_of):
            found.append(channel.channel_name)
    return found


def standing_failures(connection: Connection) -> list[str]:
    """A sentence for each channel that has alerts to get, and can't, or did not."""
    if not exists(connection, PUBLISHED):
        return []
    as_of = server_clock(connection)
    found = []
    for channel in channels_in_force(connection):
        name, error = channel.channel_name, last_error(connection, channel, SLA)
        due = due_for(connection, channel, as_of)
        if due and channel.address is None:
            why = channel.without_address
            found.append(f"{name}: {len(due):,} are due, and {why}.")
        elif due and error:
            found.append(f"{name}: {len(due):,} are due, and it failed: {error}.")
    return found


def _deliver(
    connection: Connection, channel: Channel, as_of: datetime, *, is_dry_run: bool
) -> ChannelResult:
    with holding_channel(connection, channel, SLA) as is_held:
        if not is_held:
            said = "another process sends through it"
            return ChannelResult(channel.channel_name, "busy", 0, 0, 0, said)
        due = due_for(connection, channel, as_of)
        held_up = _held_up(connection, channel, due, as_of, is_dry_run=is_dry_run)
        if held_up is not None:
            return held_up
        composed = messages(connection, due, channel.digest_above, as_of)
        sent = list(_send(connection, channel, composed, as_of))
    delivered = sum(len(message.items) for message, error in sent if error is None)
    error = sent[-1][1] if sent else None
    state: State = "failed" if error else "delivered"
    return ChannelResult(
        channel.channel_name, state, len(due), delivered, len(sent), error or ""
    )


def _held_up(
    connection: Connection,
    channel: Channel,
    due: list[Due],
    as_of: datetime,
    *,
    is_dry_run: bool,
) -> ChannelResult | None:
    """Why nothing is sent now; None where it is."""

    def because(state: State, said: str = "") -> ChannelResult:
        return ChannelResult(channel.channel_name, state, len(due), 0, 0, said)

    if not due:
        return because("nothing due")
    if is_dry_run:
        return because("dry run", "asked for")
    if channel.address is None:
        return because("no address", channel.without_address)
    if is_silent(connection, channel, as_of):
        return because("silent", f"calendar {channel.calendar_name} is closed")
    until = waits_until(connection, channel, SLA)
    if until is not None:
        said = f"it failed; the next attempt is at {until.astimezone(UTC):%H:%M:%S} UTC"
        return because("waiting", said)
    return None


def _send(
    connection: Connection, channel: Channel, composed: list[Message], as_of: datetime
) -> Iterator[tuple[Message, str | None]]:
    """Each message after the one before it; after a failure, no further one."""
    for message in composed:
        address = channel.address
        assert address is not None
        error = send(address, message.title, message.body)
        _record(connection, channel, message, as_of, error)
        yield message, error
        if error is not None:
            return


def _record(
    connection: Connection,
    channel: Channel,
    message: Message,
    as_of: datetime,
    error: str | None,
) -> None:
    message_id = uuid.uuid4()
    with connection.transaction():
        record_message(
            connection,
            message_id,
            channel.channel_name,
            SLA,
            message.title,
            len(message.items),
            error,
        )
        if error is not None:
            return
        with connection.cursor().copy(_COPY) as copy:
            for item in message.items:
                copy.write_row(
                    (
                        message_id,
                        channel.channel_name,
                        item.kind,
                        item.alert_id,
                        item.stage,
                        item.interval_id,
                        item.entity_type,
                        item.entity_id,
                        item.sla_deadline,
                        item.due_at,
                        as_of,
                    )
                )


def record_message(
    connection: Connection,
    message_id: uuid.UUID,
    channel_name: str,
    topic: str,
    title: str,
    alert_count: int,
    error: str | None,
    details: dict[str, Any] | None = None,
    sent_at: datetime | None = None,
) -> None:
    """Record an attempt to send a message, taken or not; safe to call twice.

    It was sent now, by the database's clock, where `sent_at` does not say when.
    """
    connection.execute(
        "insert into raw.alert_messages (message_id, channel_name, topic, is_delivered,"
        " alert_count, title, error, details, sent_at) values (%s, %s, %s, %s, %s, %s,"
        " %s, %s, coalesce(%s, clock_timestamp())) on conflict (message_id) do nothing",
        [
            message_id,
            channel_name,
            topic,
            error is None,
            alert_count,
            title.replace("\x00", ""),
            error and error.replace("\x00", ""),
            None if details is None else json.dumps(details),
            sent_at,
        ],
    )
