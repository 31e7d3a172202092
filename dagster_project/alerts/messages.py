"""Alerts in words: one by itself, or many in a digest with counts and the worst ten.

What is due belongs in due.py, and sending in channels.py.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, LiteralString, NamedTuple

from psycopg.rows import dict_row

from dagster_project.alerts.due import Due
from dagster_project.explain import deadline_lines, local_time, printable, span
from dagster_project.swap import no_swap
from dagster_project.terminal import shown
from ingest.store.database import Connection

# In a digest.
WORST = 10
_STAY: LiteralString = """
select
    stays.*,
    coalesce(stays.calendar_timezone, 'UTC') as zone,
    %(as_of)s::timestamptz as as_of,
    extract(epoch from stays.sla_deadline - %(as_of)s) as left_seconds,
    entities.entity_key,
    entities.business_entity_name,
    entities.last_user_name,
    entities.last_user_id,
    entities.last_system,
    entities.last_changed_at,
    coalesce(steps.status_label, stays.status) as status_label,
    steps.allowed_transitions
from sla.interval_explanations as stays
inner join sla.entities using (entity_type, entity_id)
left join raw.status_workflow_steps as steps on steps.id = stays.step_id
where
    stays.entity_type = %(entity_type)s
    and stays.entity_id = %(entity_id)s
    and stays.interval_id = %(interval_id)s
"""


class Message(NamedTuple):
    """What is sent at once, and for which alerts and corrections."""

    title: str
    body: str
    items: tuple[Due, ...]


def messages(
    connection: Connection, due: Sequence[Due], digest_above: int, as_of: datetime
) -> list[Message]:
    """What is due in as many messages as there are, or in one where they are more.

    Args:
        connection: open, outside a transaction.
        due: in the order in which it is told.
        digest_above: up to how many are told one by one.
        as_of: what the clock shows.
    """
    if len(due) > digest_above:
        return [_digest(connection, due, as_of)]
    found = (_by_itself(connection, item, as_of) for item in due)
    return [message for message in found if message]


def _by_itself(connection: Connection, item: Due, as_of: datetime) -> Message | None:
    """Its message; None of a stay that ended since it was asked what is due."""
    if not item.is_of_a_stay:
        return _of_a_target(item, as_of)
    stay = _stay(connection, item, as_of)
    if item.kind == "correction" or (stay and stay["left_at"] is None):
        return _message(item, stay, as_of)
    return None


def _of_a_target(item: Due, as_of: datetime) -> Message:
    """What a signal says that began, or that it is over."""
    where = f"{item.kind} {item.alert_id}, stage {item.stage}, as of {_utc(as_of)}"
    more = "More: status-engine report, or sla.target_compliance"
    return Message(_headline(item), "\n".join([item.said, more, where]), (item,))


def _headline(item: Due) -> str:
    return f"{'Over' if item.kind == 'end' else 'Signal'}: {item.title}"


def _stay(connection: Connection, item: Due, as_of: datetime) -> dict[str, Any]:
    """What a person needs to know of a stay; nothing where it is there no more."""
    with (
        no_swap(connection),
        connection.cursor(row_factory=dict_row) as cursor,
    ):
        values = item._asdict() | {"as_of": as_of}
        return printable(cursor.execute(_STAY, values).fetchone() or {})


def _message(item: Due, stay: dict[str, Any], as_of: datetime) -> Message:
    name = f"{item.entity_type} {item.entity_id}"
    if item.kind == "correction":
        title = f"Taken back: {name} is not {_words(item.stage)}"
        lines = _corrected(item, stay)
    else:
        title = f"{_words(item.stage).capitalize()}: {name} in {stay['status_label']}"
        lines = _told(item, stay)
    lines += [
        f"Why: status-engine explain {name}",
        f"{item.kind} {item.alert_id}, stage {item.stage}, as of {_utc(as_of)}",
    ]
    return Message(title, "\n".join(lines), (item,))


def _told(item: Due, stay: dict[str, Any]) -> list[str]:
    parts = (stay["entity_key"], stay["business_entity_name"])
    of = ", ".join(part for part in parts if part)
    who = stay["last_user_name"] or stay["last_user_id"]
    held = " through ".join(str(p) for p in (who, stay["last_system"]) if p)
    ways = ", ".join(stay["allowed_transitions"] or [])
    *_, explained = deadline_lines(stay)
    return [
        f"{item.entity_type} {item.entity_id}{f' ({of})' if of else ''} is "
        f"'{stay['status']}' since {local_time(stay['entered_at'], stay)}",
        f"{explained[:1].upper()}{explained[1:]}",
        _by_how_much(stay),
        f"Last changed {local_time(stay['last_changed_at'], stay)} by "
        f"{held or 'nobody who is named'}",
        f"May go to: {ways or 'nothing'}",
        f"Times are in {stay['zone']}",
    ]


def _by_how_much(stay: dict[str, Any]) -> str:
    seconds = stay["left_seconds"]
    taken = span(Decimal(int(abs(seconds))))
    return f"Overdue by {taken}" if seconds < 0 else f"{taken} left"


def _corrected(item: Due, stay: dict[str, Any]) -> list[str]:
    """What is known now of a stay of which something else was told."""
    told = f"Told before: {_words(item.stage)}, deadline {_utc(item.sla_deadline)}"
    if not stay:
        return [told, "By what is known now there was no such stay."]
    due = stay["sla_deadline"]
    deadline = "it has no deadline" if due is None else f"its deadline is {_utc(due)}"
    left = stay["left_at"]
    now = f"it left '{stay['status']}' {_utc(left)}" if left else "it is there still"
    return [told, f"By what is known now {now}, and {deadline}."]


def _digest(connection: Connection, due: Sequence[Due], as_of: datetime) -> Message:
    alerts = [item for item in due if item.kind == "alert"]
    stages = Counter(item.stage for item in alerts)
    taken_back = sum(item.kind == "correction" for item in due)
    of_targets = [item for item in due if not item.is_of_a_stay]
    counts = [f"{n:,} {_words(stage)}" for stage, n in sorted(stages.items())]
    counts += [f"{taken_back:,} taken back"] if taken_back else []
    counts += [f"{len(of_targets):,} of targets"] if of_targets else []
    worst: dict[Any, Due] = {}
    for item in sorted(alerts, key=lambda item: (item.sla_deadline, item.alert_id)):
        if len(worst) < WORST:
            worst.setdefault(item.interval_id, item)
    stays = [_stay(connection, item, as_of) for item in worst.values()]
    groups = Counter((item.entity_type, item.status) for item in alerts)
    lines = [
        *map(_headline, of_targets),
        *(
            f"{n:,} {kind} in '{shown(status)}'"
            for (kind, status), n in groups.most_common()
        ),
        *(["", "The worst:"] if worst else []),
        *(_line(stay) for stay in stays if stay),
        "",
        "All that is due: status-engine alerts",
        f"As of {_utc(as_of)}",
    ]
    return Message(f"SLA alerts: {', '.join(counts)}", "\n".join(lines), tuple(due))


def _line(stay: dict[str, Any]) -> str:
    deadline = local_time(stay["sla_deadline"], stay)
    return (
        f"{stay['entity_type']} {stay['entity_id']} in {stay['status_label']}, "
        f"deadline {deadline} {stay['zone']}: {_by_how_much(stay).lower()}"
    )


def _words(stage: str) -> str:
    return stage.replace("_", " ")


def _utc(instant: datetime | None) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if instant else "none"
