"""What the tables of journeys, flow and work must hold, in plain Python: no SQL.

Told from the rows of status_intervals as the oracle says them, and from the transitions
where stays do not tell. Nothing of the project.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

import business_time_oracle as business_time
from oracle import SECOND, Entity, Facts, Row, in_force, in_order, opening_of

MICROSECOND = timedelta(microseconds=1)
BANDS = ((2, 1, "0-50 %"), (4, 3, "50-75 %"), (10, 9, "75-90 %"), (1, 1, "90-100 %"))
UNTOUCHED = ((1, "0"), (4, "1-3"), (8, "4-7"), (31, "8-30"))


def day(instant: datetime) -> date:
    return instant.astimezone(UTC).date()


def _by_entity(stays: Iterable[Row]) -> dict[Entity, list[Row]]:
    """Stays of each entity, in their order."""
    entities: dict[Entity, list[Row]] = defaultdict(list)
    for stay in stays:
        entities[stay["entity_type"], stay["entity_id"]].append(stay)
    for rows in entities.values():
        assert [row["stay_number"] for row in rows] == list(range(1, len(rows) + 1))
    return entities


def journeys(facts: Facts, stays: list[Row]) -> list[Row]:
    """The rows of entity_journeys, without variant_id."""
    transitions = in_order(facts.transitions)
    return [
        _journey(rows, transitions[entity])
        for entity, rows in _by_entity(stays).items()
    ]


def _journey(stays: list[Row], transitions: list[Row]) -> Row:
    first, last = stays[0], stays[-1]
    statuses = [stay["status"] for stay in stays]
    taken = [stay["business_seconds"] for stay in stays[:-1]]
    waits = [stay for stay in stays[:-1] if stay["is_waiting"]]
    waited = [stay["business_seconds"] for stay in waits]
    users = [row["triggered_by_user_id"] for row in transitions]
    marked = [row for row in transitions if row["is_milestone"]]
    ended_at = last["entered_at"] if last["is_final"] else None
    return {
        "entity_type": first["entity_type"],
        "entity_id": first["entity_id"],
        "workflow_name": first["workflow_name"],
        "business_entity_id": first["business_entity_id"],
        "variant": " \N{RIGHTWARDS ARROW} ".join(statuses),
        "started_at": transitions[0]["created_at"],
        "last_entered_at": last["entered_at"],
        "last_transition_at": transitions[-1]["created_at"],
        "ended_at": ended_at,
        "outcome": last["status"] if last["is_final"] else None,
        "stay_count": len(stays),
        "transition_count": len(transitions),
        "elapsed_seconds": ended_at and (ended_at - first["entered_at"]) // SECOND,
        "business_seconds": None if None in taken else sum(taken),
        "touch_business_seconds": None
        if None in taken
        else sum(s["business_seconds"] for s in stays[:-1] if not s["is_waiting"]),
        "waiting_business_seconds": None if None in waited else sum(waited),
        "waiting_seconds": sum(stay["elapsed_seconds"] for stay in waits),
        "rework_count": len(statuses) - len(set(statuses)),
        "ping_pong_count": sum(
            a == b for a, b in zip(statuses, statuses[2:], strict=False)
        ),
        "user_count": len({*users} - {None}),
        "handover_count": sum(
            None not in (one, other) and one != other for one, other in pairwise(users)
        ),
        "breached_count": sum(stay["verdict"] == "breached" for stay in stays),
        "met_count": sum(stay["verdict"] == "met" for stay in stays),
        "milestone_count": len({row["to_status"] for row in marked}),
        "first_milestone_at": marked[0]["created_at"] if marked else None,
    }


def _summed(
    rows: Iterable[tuple[tuple[Any, ...], tuple[int, ...]]],
    names: tuple[str, ...],
    sums: tuple[str, ...],
) -> list[Row]:
    """Numbers by their group, added up."""
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * len(sums))
    for key, numbers in rows:
        groups[key] = [a + b for a, b in zip(groups[key], numbers, strict=True)]
    return [
        dict(zip((*names, *sums), (*key, *numbers), strict=True))
        for key, numbers in groups.items()
    ]


def flow(stays: list[Row]) -> list[Row]:
    """The rows of status_flow, without group_id."""
    rows = []
    for entity, own in _by_entity(stays).items():
        seen = set()
        for left, entered in zip([None, *own], own, strict=False):
            way = left and left["status"], entered["status"]
            elapsed, taken = 0, 0
            if left:
                elapsed, taken = left["elapsed_seconds"], left["business_seconds"]
            key = day(entered["entered_at"]), entity[0], entered["workflow_name"], *way
            numbers = 1, way not in seen, elapsed, taken or 0, taken is None
            rows.append((key, numbers))
            seen.add(way)
    return _summed(
        rows,
        ("changed_on", "entity_type", "workflow_name", "from_status", "to_status"),
        (
            "transition_count",
            "entity_count",
            "elapsed_seconds",
            "business_seconds",
            "beyond_calendar_count",
        ),
    )


def variants(facts: Facts, stays: list[Row]) -> list[Row]:
    """The rows of process_variants, without variant_id."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in journeys(facts, stays):
        groups[row["entity_type"], row["variant"]].append(row)
    return [
        {"entity_type": kind, "variant": variant} | _variant(rows)
        for (kind, variant), rows in groups.items()
    ]


def _variant(rows: list[Row]) -> Row:
    taken = sorted(row["elapsed_seconds"] for row in rows if row["ended_at"])

    def least(tenths: int) -> int | None:
        return taken[-(-len(taken) * tenths // 10) - 1] if taken else None

    return {
        "stay_count": rows[0]["stay_count"],
        "entity_count": len(rows),
        "ended_count": len(taken),
        "breached_entity_count": sum(row["breached_count"] > 0 for row in rows),
        "elapsed_seconds": sum(taken),
        "median_elapsed_seconds": least(5),
        "p90_elapsed_seconds": least(9),
    }


def handovers(facts: Facts) -> list[Row]:
    """The rows of handovers, without group_id."""
    accounts: dict[Any, list[Row]] = defaultdict(list)
    for account in sorted(facts.users, key=lambda row: row["created_at"]):
        accounts[account["id"]].append(account)

    def roles(row: Row) -> str | None:
        versions = accounts.get(row["triggered_by_user_id"])
        if not versions:
            return None
        account = in_force(versions, row["created_at"]) or versions[0]
        return ", ".join(sorted(account["roles"])) or None

    rows = []
    for entity, transitions in in_order(facts.transitions).items():
        for one, other in pairwise(transitions):
            users = one["triggered_by_user_id"], other["triggered_by_user_id"]
            kinds = {
                "user": tuple(user and str(user) for user in users),
                "system": (one["triggered_by_system"], other["triggered_by_system"]),
            }
            if users[0] != users[1]:
                kinds["role"] = (roles(one), roles(other))
            seconds = (other["created_at"] - one["created_at"]) // SECOND
            rows += [
                ((day(other["created_at"]), entity[0], kind, *parties), (1, seconds))
                for kind, parties in kinds.items()
                if None not in parties and parties[0] != parties[1]
            ]
    names = ("handed_over_on", "entity_type", "kind", "from_party", "to_party")
    return _summed(rows, names, ("handover_count", "elapsed_seconds"))


def workload(stays: list[Row], as_of: datetime) -> list[Row]:
    """The rows of workload: each day of each group counted by itself."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for stay in stays:
        groups[stay["entity_type"], stay["workflow_name"], stay["status"]].append(stay)
    rows = []
    for key, own in groups.items():
        counted_on = min(day(stay["entered_at"]) for stay in own)
        while counted_on <= day(as_of):
            rows.append(_workload_of(key, own, counted_on, as_of))
            counted_on += timedelta(days=1)
    return rows


def _workload_of(
    key: tuple[Any, ...], stays: list[Row], counted_on: date, as_of: datetime
) -> Row:
    at_its_end = [
        stay
        for stay in stays
        if day(stay["entered_at"]) <= counted_on
        and not (stay["left_at"] and day(stay["left_at"]) <= counted_on)
    ]
    left = [stay for stay in stays if stay["left_at"]]
    names = ("entity_type", "workflow_name", "status")
    return dict(zip(names, key, strict=True)) | {
        "counted_on": counted_on,
        "arriving_count": sum(day(stay["entered_at"]) == counted_on for stay in stays),
        "leaving_count": sum(day(stay["left_at"]) == counted_on for stay in left),
        "open_count": len(at_its_end),
        "overdue_count": sum(_is_past(stay, counted_on, as_of) for stay in at_its_end),
    }


def _is_past(stay: Row, counted_on: date, as_of: datetime) -> bool:
    """Whether an open stay is overdue when a day ends; by the clock on its own day."""
    if stay["sla_deadline"] is None:
        return False
    overdue_from = max(stay["sla_deadline"] + MICROSECOND, stay["entered_at"])
    if counted_on == day(as_of) and stay["left_at"] is None:
        return bool(overdue_from <= as_of)
    return day(overdue_from) <= counted_on


def open_work(facts: Facts, stays: list[Row], as_of: datetime) -> list[Row]:
    """The rows of open_work."""
    touched = {
        entity: rows[-1]["created_at"]
        for entity, rows in in_order(facts.transitions).items()
    }
    calendars = {row["id"]: opening_of(row) for row in facts.calendars}
    counts = Counter(
        (
            stay["entity_type"],
            stay["workflow_name"],
            stay["status"],
            stay["business_entity_id"],
            _used_band(stay, calendars.get(stay["calendar_id"]), as_of),
            _untouched_band(touched[stay["entity_type"], stay["entity_id"]], as_of),
        )
        for stay in stays
        if stay["left_at"] is None and not stay["is_final"]
    )
    names = (
        "entity_type",
        "workflow_name",
        "status",
        "business_entity_id",
        "used_band",
        "untouched_band",
        "open_count",
    )
    return [
        dict(zip(names, (*key, count), strict=True)) for key, count in counts.items()
    ]


def _used_band(
    stay: Row, opening: business_time.Calendar | None, as_of: datetime
) -> str | None:
    entered_at, deadline = stay["entered_at"], stay["sla_deadline"]
    if deadline is None or entered_at > as_of:
        return None
    if deadline < as_of:
        return "overdue"
    used = business_time.business_time(opening, entered_at, as_of)
    given = business_time.business_time(opening, entered_at, deadline)
    if used is None or given is None:
        return None
    for whole, part, band in BANDS[:-1]:
        if used * whole < given * part:
            return band
    return BANDS[-1][2]


def _untouched_band(touched_at: datetime, as_of: datetime) -> str | None:
    if touched_at > as_of:
        return None
    for days, band in UNTOUCHED:
        if as_of - touched_at < timedelta(days=days):
            return band
    return "over 30"


def target_compliance(facts: Facts, stays: list[Row], as_of: datetime) -> list[Row]:
    """The rows of target_compliance: each window of each day counted by itself."""
    decisions = [(stay, *told) for stay in stays if (told := _decided(stay, as_of))]
    names = sorted({row["target_name"] for row in facts.targets})
    return [row for name in names for row in _compliance(name, facts, decisions, as_of)]


def _decided(stay: Row, as_of: datetime) -> tuple[date, bool] | None:
    """On which day it was known whether a stay breached, and whether it did."""
    if stay["verdict"] == "met":
        return day(stay["left_at"]), False
    deadline = stay["sla_deadline"]
    lasts = stay["left_at"] is None and deadline is not None
    is_overdue = lasts and deadline < as_of and stay["entered_at"] <= as_of
    if stay["verdict"] == "breached" or is_overdue:
        return day(deadline), True
    return None


def _asked_on(versions: Sequence[Row], when: date) -> Row | None:
    """What a target asks on a day: the newest version of the newest day until then."""
    begun = [row for row in versions if row["effective_from"] <= when]
    newest = max(
        begun, key=lambda row: (row["effective_from"], row["created_at"]), default=None
    )
    return newest if newest and newest["at_least"] is not None else None


def _compliance(
    name: str, facts: Facts, decisions: list[tuple[Row, date, bool]], as_of: datetime
) -> Iterable[Row]:
    versions = [row for row in facts.targets if row["target_name"] == name]
    last = day(as_of) - timedelta(days=1)
    judged: list[tuple[date, bool, Fraction]] = []
    for stay, when, is_breached in decisions:
        asked = _asked_on(versions, when) if when <= last else None
        if asked and _is_about(asked, stay):
            judged.append((when, is_breached, 1 - Fraction(asked["at_least"]) / 100))
    through = min((when for when, *_ in judged), default=last)
    while through <= last:
        asked = _asked_on(versions, through)
        for days in (1, 7, 28) if asked else ():
            since = through - timedelta(days=days)
            own = [one for one in judged if since < one[0] <= through]
            yield _window(asked, through, days, own)
        through += timedelta(days=1)


def _is_about(target: Row, stay: Row) -> bool:
    owner = target["business_entity_id"]
    return (
        target["entity_type"] == stay["entity_type"]
        and target["workflow_name"] in (None, stay["workflow_name"])
        and target["status"] in (None, stay["status"])
        and (owner is None or str(owner) == stay["business_entity_id"])
    )


def _window(
    asked: Row | None, through: date, days: int, own: list[tuple[date, bool, Fraction]]
) -> Row:
    assert asked is not None
    breached = sum(is_breached for _, is_breached, _ in own)
    allowed = sum((share for *_, share in own), Fraction())
    owner = asked["business_entity_id"]
    burn: float | None = None
    if own:
        burn = breached / float(allowed) if allowed else breached and float("inf")
    return {
        "target_name": asked["target_name"],
        "through_on": through,
        "window_days": days,
        "entity_type": asked["entity_type"],
        "workflow_name": asked["workflow_name"],
        "status": asked["status"],
        "business_entity_id": owner and str(owner),
        "at_least_ratio": float(asked["at_least"]) / 100,
        "due_count": len(own),
        "met_count": len(own) - breached,
        "breached_count": breached,
        "compliance_ratio": (len(own) - breached) / len(own) if own else None,
        "allowed_count": float(allowed),
        "left_count": float(allowed - breached),
        "burn_rate": None if burn is None else float(burn),
        "is_kept": breached <= allowed if own else None,
    }
