"""What the rules say, in plain Python: no SQL, and nothing of the project.

Rows are dicts with the columns of schema raw; a workflow version has its steps under
`steps`, by status. Written from the rules (S1-S21) and readable beside them; slow.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import business_time_oracle as business_time
from business_time_oracle import Calendar

Row = dict[str, Any]
Entity = tuple[str, int]
SECOND = timedelta(seconds=1)


class Facts(NamedTuple):
    """Everything that was appended: what a build reads."""

    transitions: list[Row]
    workflows: list[Row]
    users: list[Row]
    business_entities: list[Row]
    calendars: list[Row]
    targets: Sequence[Row] = ()


class Stay(NamedTuple):
    """The transitions of one interval, and what its entity is bound to."""

    transitions: list[Row]
    came_from: Row | None
    ended_by: Row | None
    number: int
    visit: int
    first: Row
    workflow: list[Row]


def in_order(transitions: Iterable[Row]) -> dict[Entity, list[Row]]:
    """Transitions of each entity (S2)."""
    entities: dict[Entity, list[Row]] = defaultdict(list)
    for row in transitions:
        entities[row["entity_type"], row["entity_id"]].append(row)
    for rows in entities.values():
        rows.sort(key=_place)
    return dict(entities)


def _place(row: Row) -> tuple[Any, ...]:
    order = row.get("source_order")
    return row["created_at"], order is None, order, row["batch_id"], row["batch_row"]


def contains(whole: Any, part: Any) -> bool:
    """JSON containment below the top level."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            key in whole and contains(whole[key], value) for key, value in part.items()
        )
    if isinstance(part, list):
        return isinstance(whole, list) and all(
            any(contains(item, wanted) for item in whole) for wanted in part
        )
    return type(whole) is type(part) and whole == part


def leaves(value: Any) -> int:
    """The number of leaf values (S8)."""
    if isinstance(value, dict):
        return sum(map(leaves, value.values()))
    if isinstance(value, list):
        return sum(map(leaves, value))
    return 1


def context_text(row: Row, member: str) -> str | None:
    """An id in the business context; UUIDs are the same in either case."""
    value = (row["business_context"] or {}).get(member)
    return None if value is None else str(value).lower()


def text(value: Any) -> str | None:
    return None if value is None else str(value)


def histories(workflows: Iterable[Row]) -> list[list[Row]]:
    """The versions of each workflow, oldest first (S7)."""
    keyed: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in workflows:
        key = (row["entity_type"], row["workflow_name"], row["business_entity_id"])
        keyed[key].append(row)
    return [sorted(rows, key=lambda r: r["created_at"]) for rows in keyed.values()]


def in_force(versions: list[Row], instant: datetime) -> Row | None:
    """The version in force; None before the first."""
    begun = [version for version in versions if version["created_at"] <= instant]
    return begun[-1] if begun else None


def in_force_for_bound(versions: list[Row], instant: datetime) -> Row | None:
    """As `in_force`, for what is bound: only active ones, the first from ever."""
    active = [version for version in versions if version["is_active"]]
    return (in_force(active, instant) or active[0]) if active else None


def matches(version: Row, first: Row) -> bool:
    wanted = text(version["business_entity_id"])
    return (
        version["is_active"]
        and version["entity_type"] == first["entity_type"]
        and wanted in (None, context_text(first, "business_entity_id"))
        and contains(first["business_context"] or {}, version["conditions"])
    )


def binding(first: Row, workflows: list[list[Row]]) -> list[Row]:
    """The versions of the workflow that binds an entity; [] where none does (S8)."""
    at = first["created_at"]
    found = []
    for versions in workflows:
        version = in_force(versions, at)
        if version is not None and matches(version, first):
            found.append((version, versions))
    if not found:
        firsts = [(v[0], v) for v in workflows if matches(v[0], first)]
        earliest = min((v["created_at"] for v, _ in firsts), default=at)
        if at < earliest:
            found = [pair for pair in firsts if pair[0]["created_at"] == earliest]
    return min(found, key=lambda pair: _rank(pair[0]))[1] if found else []


def _rank(version: Row) -> tuple[bool, int, bool, bytes]:
    return (
        version["business_entity_id"] is None,
        -leaves(version["conditions"]),
        not version["is_default"],
        version["workflow_name"].encode(),
    )


def stays(facts: Facts) -> list[Stay]:
    """The intervals of all entities (S3, S6)."""
    workflows = histories(facts.workflows)
    found = []
    for rows in in_order(facts.transitions).values():
        bound = binding(rows[0], workflows)
        groups: list[list[Row]] = []
        for row in rows:
            if groups and groups[-1][-1]["to_status"] == row["to_status"]:
                groups[-1].append(row)
            else:
                groups.append([row])
        origins = [None] + [group[-1] for group in groups[:-1]]
        ends = [group[0] for group in groups[1:]] + [None]
        visits: dict[str, int] = defaultdict(int)
        for number, group in enumerate(groups, 1):
            visits[group[0]["to_status"]] += 1
            visit = visits[group[0]["to_status"]]
            around = origins[number - 1], ends[number - 1]
            found.append(Stay(group, *around, number, visit, rows[0], bound))
    return found


def intervals(facts: Facts) -> list[Row]:
    """The rows of status_intervals, without interval_id."""
    calendars: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(facts.calendars, key=lambda row: row["created_at"]):
        calendars[row["calendar_name"]].append(row)
    return [_interval(stay, calendars) for stay in stays(facts)]


def _interval(stay: Stay, calendars: dict[str, list[Row]]) -> Row:
    first, last = stay.transitions[0], stay.transitions[-1]
    makers = [*stay.transitions, *([stay.ended_by] if stay.ended_by else [])]
    entered_at = first["created_at"]
    left_at = stay.ended_by["created_at"] if stay.ended_by else None
    version = in_force_for_bound(stay.workflow, entered_at)
    step = version["steps"].get(first["to_status"]) if version else None
    calendar = _calendar_version(version, calendars, entered_at)
    opening = opening_of(calendar) if calendar else None
    deadline, source = _deadline(stay.transitions, version, step, opening)
    return {
        "entity_type": first["entity_type"],
        "entity_id": first["entity_id"],
        "status": first["to_status"],
        "visit": stay.visit,
        "entered_at": entered_at,
        "left_at": left_at,
        "transition_count": len(stay.transitions),
        "first_transition_id": first["id"],
        "last_transition_id": last["id"],
        "entity_created_at": stay.first["created_at"],
        "workflow_id": version["id"] if version else None,
        "workflow_name": version["workflow_name"] if version else None,
        "step_id": step["id"] if step else None,
        "status_label": step["status_label"] if step else None,
        "status_color": step["status_color"] if step else None,
        "business_entity_id": context_text(stay.first, "business_entity_id"),
        "sla_hours": step["sla_hours"] if step else None,
        "calendar_id": calendar["id"] if calendar else None,
        "sla_deadline": deadline,
        "deadline_source": source,
        "at_risk_from": _at_risk_from(step, deadline, opening),
        "is_final": bool(step and step["is_final"]),
        "verdict": _verdict(left_at, deadline),
        "elapsed_seconds": left_at and (left_at - entered_at) // SECOND,
        "business_seconds": left_at and _business_seconds(opening, entered_at, left_at),
        "late_business_seconds": _business_seconds(opening, deadline, left_at)
        if left_at and deadline and deadline < left_at
        else None,
        "batch_id": max(row["batch_id"] for row in makers),
        "stay_number": stay.number,
        "next_status": stay.ended_by["to_status"] if stay.ended_by else None,
        "is_waiting": bool(step and step.get("is_waiting")),
        "previous_status": stay.came_from["to_status"] if stay.came_from else None,
    }


def _at_risk_from(
    step: Row | None, deadline: datetime | None, opening: Calendar | None
) -> datetime | None:
    hours = step["notification_settings"].get("at_risk_hours") if step else None
    if hours is None or deadline is None:
        return None
    try:
        return business_time.lead(opening, deadline, Decimal(str(hours)))
    except OverflowError:
        # Before the first year.
        return None


def _calendar_version(
    workflow: Row | None, calendars: dict[str, list[Row]], instant: datetime
) -> Row | None:
    """The version of a workflow's calendar in force; its first before that (S9)."""
    if workflow is None or workflow["calendar_name"] is None:
        return None
    versions = calendars[workflow["calendar_name"]]
    return in_force(versions, instant) or versions[0]


def opening_of(row: Row) -> Calendar:
    """When a calendar version is open."""
    return business_time.calendar(
        row["timezone"],
        row["windows"],
        row["covers_from"],
        row["covers_until"],
        row["closed_dates"],
        row["special_dates"],
    )


def _business_seconds(
    opening: Calendar | None, entered_at: datetime, left_at: datetime
) -> int | None:
    taken = business_time.business_time(opening, entered_at, left_at)
    return None if taken is None else taken // SECOND


def _deadline(
    transitions: list[Row],
    version: Row | None,
    step: Row | None,
    opening: Calendar | None,
) -> tuple[datetime | None, str | None]:
    """S10, S14; an unbound entity has none, even if one is given."""
    if version is None or (step and step["is_final"]):
        return None, None
    given = [t["sla_deadline"] for t in transitions if t["sla_deadline"]]
    if given:
        return given[-1], "explicit"
    if step is None or step["sla_hours"] is None:
        return None, None
    entered_at = transitions[0]["created_at"]
    due = business_time.deadline(opening, entered_at, step["sla_hours"])
    return due, None if due is None else "workflow"


def _verdict(left_at: datetime | None, deadline: datetime | None) -> str | None:
    if left_at is None or deadline is None:
        return None
    return "met" if left_at <= deadline else "breached"


def is_overdue(interval: Row, as_of: datetime) -> bool:
    """Open, entered, and its deadline is past (S13, S15)."""
    deadline = interval["sla_deadline"]
    return (
        interval["left_at"] is None
        and deadline is not None
        and interval["entered_at"] <= as_of
        and deadline < as_of
    )


def current_status(stays: list[Row], as_of: datetime) -> list[Row]:
    """The rows of entity_current_status (S4), by the stays; without id."""
    same = (
        "entity_type",
        "entity_id",
        "sla_deadline",
        "workflow_id",
        "last_transition_id",
        "workflow_name",
        "business_entity_id",
        "visit",
        "deadline_source",
        "is_final",
        "status_label",
        "status_color",
    )
    return [
        {name: row[name] for name in same}
        | {
            "created_at": row["entity_created_at"],
            "current_status": row["status"],
            "status_since": row["entered_at"],
            "is_overdue": is_overdue(row, as_of),
            "is_at_risk": _is_at_risk(row, as_of),
            "seconds_in_status": (as_of - row["entered_at"]) // SECOND
            if row["entered_at"] <= as_of
            else None,
            "seconds_to_deadline": (row["sla_deadline"] - as_of) // SECOND
            if row["sla_deadline"] and row["entered_at"] <= as_of
            else None,
            # The facts name entities by their ids.
            "entity_key": None,
            "entity_key_namespace": None,
            "at_risk_from": row["at_risk_from"],
        }
        for row in stays
        if row["left_at"] is None
    ]


def _is_at_risk(interval: Row, as_of: datetime) -> bool:
    """Open, its deadline near by the step's settings, and not past."""
    risky_from = interval["at_risk_from"]
    return (
        interval["left_at"] is None
        and risky_from is not None
        and max(risky_from, interval["entered_at"]) <= as_of
        and as_of <= interval["sla_deadline"]
    )


def performance(stays: list[Row], as_of: datetime) -> list[Row]:
    """The rows of sla_performance (S21), by those of status_intervals."""
    grain = ("entity_type", "workflow_name", "status", "business_entity_id")
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in stays:
        day = row["entered_at"].astimezone(UTC).date()
        groups[day, *(row[name] for name in grain)].append(row)
    names = ("entered_on", *grain)
    return [
        dict(zip(names, key, strict=True)) | _counts(rows, as_of)
        for key, rows in groups.items()
    ]


def _counts(rows: list[Row], as_of: datetime) -> Row:
    closed = [row for row in rows if row["left_at"] is not None]
    met = sum(row["verdict"] == "met" for row in rows)
    breached = sum(row["verdict"] == "breached" for row in rows)
    overdue = sum(is_overdue(row, as_of) for row in rows)
    return {
        "interval_count": len(rows),
        "closed_count": len(closed),
        "open_count": len(rows) - len(closed),
        "met_count": met,
        "breached_count": breached,
        "overdue_count": overdue,
        "due_count": met + breached + overdue,
        "compliance_ratio": _ratio(met, met + breached + overdue),
        "closed_compliance_ratio": _ratio(met, met + breached),
        "elapsed_seconds": sum(row["elapsed_seconds"] for row in closed),
    }


QUANTILES = ((50, "p50"), (90, "p90"), (99, "p99"), (100, "worst"))
WHO = {"user_id": "triggered_by_user_id", "system": "triggered_by_system"}


def performance_by(
    facts: Facts, as_of: datetime, period: str, by: list[str], keys: list[str]
) -> list[Row]:
    """The rows of sla_performance_by (S21): stays by period, and by what is named.

    by: columns of the result, users and systems among them; keys: of the context.
    """
    names = ("workflow_name", "status", "business_entity_id", *WHO)
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    entities = in_order(facts.transitions)
    for row in intervals(facts):
        rows = entities[row["entity_type"], row["entity_id"]]
        places = [
            place
            for place, r in enumerate(rows)
            if r["id"] == row["last_transition_id"]
        ]
        until = rows[: places[0] + 1]
        said = row | {name: text(until[-1][of]) for name, of in WHO.items()}
        key = (
            _begin_of(period, row["entered_at"].astimezone(UTC)),
            row["entity_type"],
            *(said[name] if name in by else None for name in names),
            tuple(_last_said(until, key) for key in keys),
        )
        groups[key].append(row)
    return [
        dict(zip(("period_start", "entity_type", *names), key, strict=False))
        | {"context": _told(keys, key[-1]) if keys else None}
        | {k: v for k, v in _counts(rows, as_of).items() if k != "elapsed_seconds"}
        | _quantiles(rows)
        for key, rows in groups.items()
    ]


def _told(keys: list[str], values: tuple[str | None, ...]) -> Row:
    return {k: v for k, v in zip(keys, values, strict=True) if v is not None}


def _begin_of(period: str, instant: datetime) -> datetime:
    day = instant.replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if period == "month" else day


def _last_said(transitions: list[Row], key: str) -> str | None:
    said = [(row["business_context"] or {}).get(key) for row in transitions]
    return next((text(value) for value in reversed(said) if value is not None), None)


def _quantiles(rows: list[Row]) -> Row:
    late = [row for row in rows if row["verdict"] == "breached"]
    measured = {
        "elapsed_seconds": [row["elapsed_seconds"] for row in rows],
        "business_seconds": [row["business_seconds"] for row in rows],
        "late_seconds": [(r["left_at"] - r["sla_deadline"]) // SECOND for r in late],
        "late_business_seconds": [row["late_business_seconds"] for row in late],
    }
    found: Row = {}
    for name, values in measured.items():
        ranked = sorted(value for value in values if value is not None)
        for share, suffix in QUANTILES:
            place = -(-share * len(ranked) // 100) - 1
            found[f"{name}_{suffix}"] = ranked[place] if ranked else None
    return found


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def violations(facts: Facts, stays: list[Row]) -> list[Row]:
    """The rows of workflow_violations, without detail (S8, S12, S19)."""
    workflows = histories(facts.workflows)
    beyond = beyond_calendar(stays)
    entities = {str(row["id"]) for row in facts.business_entities}
    users: dict[str, list[Row]] = defaultdict(list)
    for user in sorted(facts.users, key=lambda user: user["created_at"]):
        users[str(user["id"])].append(user)
    found = []
    for rows in in_order(facts.transitions).values():
        bound = binding(rows[0], workflows)
        for previous, row in zip([None, *rows], rows, strict=False):
            before = previous["to_status"] if previous else None
            version = in_force_for_bound(bound, row["created_at"])
            names = [
                *(["no_workflow"] if previous is None and not bound else []),
                *(["beyond_calendar"] if row["id"] in beyond else []),
                *_of_steps(row, before, version["steps"] if version else None),
                *_of_approval(row, before, version["steps"] if version else {}, users),
                *_of_names(row, users, entities),
            ]
            if row["from_status"] is not None and row["from_status"] != before:
                names.append("broken_chain")
            found += [
                {
                    "transition_id": row["id"],
                    "violation": name,
                    "created_at": row["created_at"],
                    "entity_type": row["entity_type"],
                    "entity_id": row["entity_id"],
                    "previous_status": before,
                    "from_status": row["from_status"],
                    "to_status": row["to_status"],
                    "workflow_id": version["id"] if version else None,
                    "workflow_name": version["workflow_name"] if version else None,
                }
                for name in names
            ]
    return found


def beyond_calendar(stays: list[Row]) -> set[Any]:
    """First transitions of stays whose hours don't run out in their calendar (S12)."""
    return {
        row["first_transition_id"]
        for row in stays
        if row["calendar_id"] is not None
        and row["sla_hours"] is not None
        and row["sla_deadline"] is None
        and not row["is_final"]
    }


def _of_steps(
    row: Row, before: str | None, steps: dict[str, Row] | None
) -> Iterable[str]:
    if steps is None:
        return
    if row["to_status"] not in steps:
        yield "unknown_status"
    left = steps.get(before) if before is not None else None
    if (
        left is not None
        and before != row["to_status"]
        and row["to_status"] not in left["allowed_transitions"]
    ):
        yield "left_final" if left["is_final"] else "illegal_transition"


def approver(row: Row) -> str | None:
    named = context_text(row, "approved_by_user_id")
    return named if named is not None else text(row["triggered_by_user_id"])


def _of_approval(
    row: Row, before: str | None, steps: dict[str, Row], users: dict[str, list[Row]]
) -> Iterable[str]:
    step = steps.get(row["to_status"])
    if step is None or not step["requires_approval"] or before == row["to_status"]:
        return
    name = approver(row)
    if name is None:
        yield "missing_approval"
    elif name in users:
        account = in_force(users[name], row["created_at"]) or users[name][0]
        if not account["is_active"] or step["approval_role"] not in account["roles"]:
            yield "wrong_role"


def _of_names(
    row: Row, users: dict[str, list[Row]], entities: set[str]
) -> Iterable[str]:
    named = {
        context_text(row, "approved_by_user_id"),
        text(row["triggered_by_user_id"]),
    }
    if named - {None} - users.keys():
        yield "unknown_user"
    entity = context_text(row, "business_entity_id")
    if entity is not None and entity not in entities:
        yield "unknown_business_entity"
