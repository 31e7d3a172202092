"""A seeded ChargeCars for demonstrations and tests: what its sources would deliver.

Here belongs how customers, colleagues and source systems behave: who moves what, how
long it takes, and what goes wrong on the way to a file. What is legal comes from the
workflow files. Nothing here reads or writes a database, the clock or an SLA verdict.
"""

import gzip
import io
import json
import random
from abc import ABC, abstractmethod
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from itertools import accumulate
from math import log
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq

from ingest import workflows as workflow_files
from ingest.calendars import Calendar, Opening

Json = dict[str, Any]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
SPAN = 120 * DAY
RECENT = 7 * DAY

OFFICE_ZONE = ZoneInfo("Europe/Amsterdam")
OFFICE_OPENS, OFFICE_CLOSES = time(8), time(17, 30)

# Shares of transitions, or of entities where it says so.
LATE = 0.01
REPEATED = 0.005
ILLEGAL = 0.005
REOPENED = 0.05  # of the final steps that a workflow lets out of again
ABANDONED = 0.006
REPLANNED = 0.15  # of the stays with a promised date
AFTER_HOURS = 0.05
WRONG_ROLE = 0.04  # of the approvals
NO_APPROVER = 0.02  # of the approvals
STRAY_ENTITIES = 2  # entities, in all, that pass through a status nobody defined
STRAY_STATUS = "parked"

# Stays are lognormal around a share of the SLA, so that few are very late.
USUAL_SHARE, USUAL_SPREAD = log(0.30), 0.85
PROMISED_SHARE, PROMISED_SPREAD = log(0.78), 0.22
STAY_WITHOUT_SLA = 48 * HOUR
PACE = {"payment": 0.6, "invoice": 0.9, "customer_feedback": 1.25, "installation": 1.2}

# Entity type: status: (who brings an entity there, where it tends to go next).
# A name with @ is a system; any other is a role. The first status is the first one.
Habits = dict[str, tuple[str, dict[str, float]]]
HABITS: dict[str, Habits] = {
    "form_submission": {
        "received": ("@website", {"screened": 94, "spam": 6}),
        "screened": ("sales", {"contacted": 95, "duplicate": 5}),
        "contacted": ("sales", {"qualified": 76, "unreachable": 15, "disqualified": 9}),
        "unreachable": ("sales", {"contacted": 65, "disqualified": 35}),
        "qualified": ("sales", {"converted": 93, "disqualified": 7}),
        "converted": ("sales", {}),
        "disqualified": ("sales", {}),
        "duplicate": ("sales", {}),
        "spam": ("@website", {}),
    },
    "quote": {
        "draft": ("sales", {"sent": 76, "discount_requested": 21, "withdrawn": 3}),
        "discount_requested": ("sales", {"discount_approved": 84, "draft": 16}),
        "discount_approved": ("sales_manager", {"sent": 1}),
        "sent": (
            "sales",
            {"accepted": 62, "negotiation": 17, "rejected": 13, "expired": 8},
        ),
        "negotiation": (
            "sales",
            {"sent": 55, "discount_requested": 30, "rejected": 15},
        ),
        "accepted": ("@website", {}),
        "rejected": ("sales", {}),
        "expired": ("@sla-monitor", {}),
        "withdrawn": ("sales", {}),
    },
    "order": {
        "new": (
            "@webshop",
            {"confirmed": 92, "credit_check": 92, "on_hold": 4, "cancelled": 4},
        ),
        "credit_check": ("finance", {"confirmed": 90, "on_hold": 6, "cancelled": 4}),
        "confirmed": (
            "planner",
            {"surveying": 68, "scheduled": 25, "cancellation_requested": 4},
        ),
        "surveying": (
            "planner",
            {"scheduled": 91, "on_hold": 5, "cancellation_requested": 4},
        ),
        "scheduled": (
            "planner",
            {"installing": 92, "surveying": 4, "cancellation_requested": 2},
        ),
        "installing": ("installer", {"installed": 92, "scheduled": 6, "on_hold": 2}),
        "installed": ("installer", {"invoiced": 96, "installing": 4}),
        "invoiced": ("@accounting", {"completed": 98, "installed": 2}),
        "on_hold": (
            "planner",
            {"confirmed": 45, "scheduled": 40, "cancellation_requested": 15},
        ),
        "cancellation_requested": ("support", {"cancelled": 78, "confirmed": 22}),
        "completed": ("@accounting", {}),
        "cancelled": ("finance", {}),
    },
    "line_item": {
        "added": ("@webshop", {"reserved": 86, "backordered": 11, "removed": 3}),
        "backordered": ("@stock", {"reserved": 94, "removed": 6}),
        "reserved": ("@stock", {"picked": 96, "added": 2, "removed": 2}),
        "picked": ("warehouse", {"shipped": 97, "reserved": 3}),
        "shipped": ("warehouse", {"delivered": 97, "returned": 3}),
        "delivered": ("@carrier", {"installed": 95, "returned": 5}),
        "returned": ("warehouse", {"credited": 55, "reserved": 45}),
        "installed": ("installer", {}),
        "credited": ("finance", {}),
        "removed": ("sales", {}),
    },
    "visit": {
        "requested": ("@planning", {"planned": 96, "cancelled": 4}),
        "planned": (
            "planner",
            {"on_site": 83, "rescheduled": 10, "no_show": 4, "cancelled": 3},
        ),
        "on_site": ("@field-app", {"report_pending": 96, "rescheduled": 4}),
        "report_pending": ("@field-app", {"completed": 94, "planned": 6}),
        "rescheduled": ("planner", {"planned": 94, "cancelled": 6}),
        "no_show": ("installer", {"planned": 80, "cancelled": 20}),
        "completed": ("installer", {}),
        "cancelled": ("planner", {}),
    },
    "work_order": {
        "created": ("@planning", {"assigned": 97, "cancelled": 3}),
        "assigned": ("planner", {"accepted": 92, "created": 7, "cancelled": 1}),
        "accepted": ("installer", {"in_progress": 94, "assigned": 5, "cancelled": 1}),
        "in_progress": ("@field-app", {"work_done": 90, "paused": 10}),
        "paused": ("@field-app", {"in_progress": 97, "cancelled": 3}),
        "work_done": ("@field-app", {"signed_off": 91, "rework": 9}),
        "rework": ("operations_manager", {"in_progress": 1}),
        "signed_off": ("operations_manager", {}),
        "cancelled": ("planner", {}),
    },
    "installation": {
        "requested": (
            "@planning",
            {"scheduled": 80, "awaiting_grid_operator": 17, "cancelled": 3},
        ),
        "awaiting_grid_operator": ("planner", {"scheduled": 95, "cancelled": 5}),
        "scheduled": ("planner", {"in_progress": 94, "requested": 4, "cancelled": 2}),
        "in_progress": (
            "@field-app",
            {"quality_check": 93, "awaiting_grid_operator": 3, "scheduled": 4},
        ),
        "quality_check": ("@field-app", {"commissioned": 87, "rework": 13}),
        "rework": ("quality_manager", {"in_progress": 40, "quality_check": 60}),
        "commissioned": ("installer", {"completed": 98, "rework": 2}),
        "completed": ("@field-app", {}),
        "cancelled": ("planner", {}),
    },
    "invoice": {
        "draft": ("@accounting", {"sent": 97, "cancelled": 3}),
        "sent": (
            "finance",
            {"paid": 80, "overdue": 11, "partially_paid": 5, "disputed": 4},
        ),
        "partially_paid": ("@payments", {"paid": 88, "overdue": 9, "disputed": 3}),
        "overdue": (
            "@sla-monitor",
            {"paid": 84, "partially_paid": 6, "disputed": 4, "in_collection": 6},
        ),
        "disputed": ("support", {"sent": 62, "credited": 38}),
        "in_collection": ("finance", {"paid": 70, "written_off": 30}),
        "paid": ("@payments", {}),
        "credited": ("finance", {}),
        "written_off": ("finance", {}),
        "cancelled": ("finance", {}),
    },
    "payment": {
        "initiated": ("@payments", {"authorised": 92, "failed": 7, "cancelled": 1}),
        "authorised": ("@payments", {"captured": 98, "failed": 2}),
        "failed": ("@payments", {"initiated": 85, "cancelled": 15}),
        "captured": ("@payments", {"settled": 95, "refund_requested": 5}),
        "refund_requested": ("support", {"refunded": 85, "captured": 15}),
        "settled": ("@accounting", {}),
        "refunded": ("finance", {}),
        "cancelled": ("@payments", {}),
    },
    "customer_feedback": {
        "requested": ("@crm", {"received": 84, "no_response": 16}),
        "received": ("@website", {"in_review": 62, "resolved": 38}),
        "in_review": ("support", {"resolved": 88, "escalated": 12}),
        "escalated": ("support", {"in_review": 35, "resolved": 65}),
        "resolved": ("support", {"closed": 93, "in_review": 7}),
        "closed": ("@crm", {}),
        "no_response": ("@sla-monitor", {}),
    },
    "internal_task": {
        "open": ("operations_manager", {"in_progress": 93, "cancelled": 7}),
        "in_progress": ("planner", {"in_review": 35, "blocked": 13, "done": 52}),
        "blocked": ("planner", {"in_progress": 74, "escalated": 18, "cancelled": 8}),
        "escalated": ("@sla-monitor", {"in_progress": 90, "cancelled": 10}),
        "in_review": ("support", {"done": 87, "in_progress": 13}),
        "done": ("support", {}),
        "cancelled": ("support", {}),
    },
}

# Reaching a status for the first time starts others: (type, probability, at most).
SPAWNS: dict[str, tuple[tuple[str, float, int], ...]] = {
    "form_submission.converted": (("quote", 1.0, 1),),
    "quote.accepted": (("order", 1.0, 1),),
    "order.confirmed": (("line_item", 1.0, 3), ("internal_task", 0.20, 1)),
    "order.surveying": (("visit", 1.0, 1),),
    "order.scheduled": (("installation", 1.0, 1),),
    "order.on_hold": (("internal_task", 0.6, 1),),
    "order.installed": (("invoice", 1.0, 1),),
    "order.completed": (("customer_feedback", 0.9, 1),),
    "installation.scheduled": (("work_order", 1.0, 1),),
    "installation.rework": (("work_order", 0.8, 1), ("internal_task", 0.4, 1)),
    "invoice.sent": (("payment", 0.95, 1),),
    "invoice.partially_paid": (("payment", 1.0, 1),),
    "customer_feedback.escalated": (("visit", 0.7, 1), ("internal_task", 0.7, 1)),
}
# How a journey begins, with weights: most customers fill in a form first.
BEGINNINGS = {"form_submission": 80, "order": 12, "internal_task": 5, "visit": 3}
LINKED = {"quote", "order", "installation", "invoice"}

PROMISED = {"visit.planned", "installation.scheduled", "invoice.sent"}
MILESTONES = {
    "form_submission.converted",
    "quote.sent",
    "quote.accepted",
    "order.confirmed",
    "order.installed",
    "order.completed",
    "visit.completed",
    "line_item.delivered",
    "work_order.signed_off",
    "installation.commissioned",
    "invoice.sent",
    "invoice.paid",
    "payment.settled",
}
REASONS = {
    "cancelled": ("customer withdrew", "no permission from the landlord", "duplicate"),
    "rejected": ("too expensive", "chose another supplier", "moving house"),
    "rescheduled": ("customer not available", "installer ill", "van, again, broken"),
    "no_show": ("nobody at home", "no access to the fuse box"),
    "on_hold": ("waiting for the customer", "waiting for parts"),
    "rework": ("cable duct not sealed", 'label reads "16 A", fuse is 20 A'),
    "failed": ("insufficient funds", "bank timeout"),
    "disputed": ("amount differs from the quote", "work not finished, says customer"),
    "awaiting_grid_operator": (
        "heavier connection needed: één fase, 35 A → drie fasen, 25 A",
    ),
    "returned": ("wrong cable length", "damaged in transport"),
}
REGIONS = (
    "Noord-Holland",
    "Zuid-Holland",
    "Utrecht",
    "Noord-Brabant",
    "Gelderland",
    "Fryslân",
)
PRIORITIES = {"normal": 78, "high": 15, "urgent": 7}
CUSTOMER_SHARES = (58, 22, 13, 7)  # in the order of business_entities.yml
SILENT_SOURCES = {"payments"}  # sources that never say where an entity came from

# A defect puts a text into a column of a copied row, or leaves the column out (None).
Defect = tuple[str, str | None]
CUT_OFF: Defect = ("", None)
CSV_DEFECTS: tuple[Defect, ...] = (
    ("created_at", "2026-13-45T09:00:00+00:00"),
    ("entity_type", "charging_pole"),
    ("entity_id", "A-1042"),
    ("business_context", '"{""priority"": "'),
    CUT_OFF,
)
JSONL_DEFECTS: tuple[Defect, ...] = (
    ("to_status", None),
    ("created_at", "yesterday"),
    CUT_OFF,
)

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class DemoFiles(NamedTuple):
    """What was written; transitions counts every row, repeated and malformed too."""

    paths: tuple[Path, ...]
    transitions: int
    malformed: int


class Row(NamedTuple):
    """One transition; instants are microseconds since 1970 in UTC."""

    id: str
    created_at: int
    entity_type: str
    entity_id: int
    from_status: str | None
    to_status: str
    transition_reason: str | None
    business_context: Json | None
    triggered_by_user_id: str | None
    triggered_by_system: str | None
    sla_deadline: int | None
    is_milestone: bool
    metadata: Json | None


class BusinessTime:
    """Elapsed time while a calendar is open, in microseconds (S11)."""

    def __init__(self, calendar: Calendar) -> None:
        windows = Opening(calendar).windows
        start = windows[0].business_clock
        self._opens = [_microseconds(w.opens_at.replace(tzinfo=UTC)) for w in windows]
        self._closes = [_microseconds(w.closes_at.replace(tzinfo=UTC)) for w in windows]
        self._clocks = [
            (w.business_clock - start) // timedelta(microseconds=1) for w in windows
        ]

    def ends(self, at: int, amount: int) -> int:
        """When so much of it has passed since an instant."""
        place = bisect_right(self._opens, at) - 1
        open_for = min(at, self._closes[place]) - self._opens[place]
        clock = self._clocks[place] + open_for + amount
        place = bisect_left(self._clocks, clock) - 1
        return self._opens[place] + clock - self._clocks[place]


class Step(NamedTuple):
    """One status of a workflow, with the habits around it.

    sla: in microseconds, of business time where there is one.
    """

    name: str
    key: str
    sla: int | None
    is_final: bool
    approval_role: str | None
    actor: str
    allowed: tuple[str, ...]
    weights: tuple[float, ...]
    forbidden: tuple[str, ...]
    business_time: BusinessTime | None

    def sla_ends(self, at: int, share: float = 1) -> int | None:
        """When a share of the SLA of a stay that began at an instant has passed."""
        if self.sla is None:
            return None
        amount = int(self.sla * share)
        business_time = self.business_time
        return business_time.ends(at, amount) if business_time else at + amount


class Workflow(NamedTuple):
    """One workflow file; rank orders the candidates of a binding (S8)."""

    entity_type: str
    business_entity_id: str | None
    conditions: Json
    rank: tuple[bool, int, bool]
    first: str
    steps: dict[str, Step]


class Company(NamedTuple):
    """The workflows by entity type, who works here, and for whom."""

    workflows: dict[str, list[Workflow]]
    customers: dict[str, int]
    users: tuple[str, ...]
    by_role: dict[str, tuple[str, ...]]


class Entity(NamedTuple):
    """One entity before its first transition, at an instant in microseconds."""

    entity_type: str
    entity_id: int
    starts_at: int
    context: Json


class Journey(NamedTuple):
    """What still has to happen for one customer: the type, when, in which context."""

    entity_type: str
    starts_at: int
    context: Json


def write_demo(
    directory: Path, *, workflows: Path, entities: int, seed: int, end: datetime
) -> DemoFiles:
    """Write the source files of a simulated company, the same bytes for the same input.

    Args:
        directory: made if missing; receives 01_history.csv, 02_recent.jsonl.gz and
            03_late.parquet, each replaced if it exists.
        workflows: the folder of workflow files, business entities and user accounts.
        entities: entities over all types; 4,000 make about 20,000 transitions.
        seed: of the only source of chance.
        end: aware; the last instant. The first transition is at most 120 days before.

    Returns:
        The three paths, and the rows in them: all, and those that are malformed.

    Raises:
        ValueError: end is naive, or no workflow binds a type. Files may be left behind.
    """
    if end.tzinfo is None:
        raise ValueError("end has no time zone; give an aware datetime.")
    rng = random.Random(seed)
    simulation = Simulation(rng, read_company(workflows), _microseconds(end))
    directory.mkdir(parents=True, exist_ok=True)
    with Delivery(directory, rng, simulation.end, entities) as delivery:
        for rows in simulation.histories(entities):
            delivery.take(rows)
    return delivery.files()


def read_company(folder: Path) -> Company:
    """Read the workflows, calendars, business entities and users of a folder.

    Raises:
        WorkflowError: what stands there is not sound.
    """
    files = workflow_files.load(folder)
    ids = {entry["name"]: entry["id"] for entry in files.business_entities}
    times = {calendar.name: BusinessTime(calendar) for calendar in files.calendars}
    workflows: dict[str, list[Workflow]] = {name: [] for name in HABITS}
    for file in files.workflows:
        if file["entity_type"] in workflows and file["is_active"]:
            found = _workflow(file, ids, times.get(file["calendar"]))
            workflows[file["entity_type"]].append(found)
    for several in workflows.values():
        several.sort(key=lambda workflow: workflow.rank, reverse=True)
    users = [user for user in files.user_accounts if user["is_active"]]
    roles = sorted({role for user in users for role in user["roles"]})
    return Company(
        workflows,
        dict(zip(ids.values(), CUSTOMER_SHARES, strict=False)),
        tuple(user["id"] for user in users),
        {r: tuple(u["id"] for u in users if r in u["roles"]) for r in roles},
    )


def _workflow(
    file: Json, ids: dict[str, str], business_time: BusinessTime | None
) -> Workflow:
    steps = sorted(file["steps"], key=lambda step: int(step["step_order"]))
    unfinished = [step["status_name"] for step in steps if not step["is_final"]]
    owner = file["business_entity"]
    return Workflow(
        file["entity_type"],
        ids[owner] if owner else None,
        file["conditions"],
        (owner is not None, len(file["conditions"]), file["is_default"]),
        steps[0]["status_name"],
        {
            step["status_name"]: _step(
                file["entity_type"], step, unfinished, business_time
            )
            for step in steps
        },
    )


def _step(
    entity_type: str,
    step: Json,
    unfinished: list[str],
    business_time: BusinessTime | None,
) -> Step:
    name = step["status_name"]
    allowed = tuple(step["allowed_transitions"])
    actor, tendencies = HABITS[entity_type].get(name, ("operations_manager", {}))
    weights = [tendencies.get(status, 0.0) for status in allowed]
    if not any(weights):
        weights = [1.0] * len(allowed)
    hours = step["sla_hours"]
    return Step(
        name=name,
        key=f"{entity_type}.{name}",
        sla=None if hours is None else round(hours * HOUR),
        is_final=step["is_final"],
        approval_role=step["approval_role"],
        actor=actor,
        allowed=allowed,
        weights=tuple(accumulate(weights)),
        forbidden=tuple(s for s in unfinished if s not in allowed and s != name),
        business_time=business_time,
    )


class Office:
    """When people are at work: weekdays, local time, as instants in microseconds."""

    def __init__(self) -> None:
        self._hours: dict[int, tuple[int, int] | None] = {}

    def is_open(self, at: int) -> bool:
        """Whether an instant lies within [opening, closing)."""
        hours = self._of(at // DAY)
        return hours is not None and hours[0] <= at < hours[1]

    def opens(self, at: int) -> int:
        """The first opening at or after an instant."""
        day = at // DAY
        while (hours := self._of(day)) is None or hours[0] < at:
            day += 1
        return hours[0]

    def closes(self, at: int) -> int:
        """The first closing at or after an instant."""
        day = at // DAY
        while (hours := self._of(day)) is None or hours[1] < at:
            day += 1
        return hours[1]

    def closed(self, at: int) -> int:
        """The last closing at or before an instant."""
        day = at // DAY
        while (hours := self._of(day)) is None or hours[1] > at:
            day -= 1
        return hours[1]

    def _of(self, day: int) -> tuple[int, int] | None:
        if day not in self._hours:
            on = EPOCH.date() + timedelta(days=day)
            weekday = on.weekday() < 5
            edges = (_local(on, OFFICE_OPENS), _local(on, OFFICE_CLOSES))
            self._hours[day] = edges if weekday else None
        return self._hours[day]


def _local(on: date, at: time) -> int:
    return _microseconds(datetime.combine(on, at, OFFICE_ZONE))


def _microseconds(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


class Simulation:
    """One run of the company until an instant, customer by customer."""

    def __init__(self, rng: random.Random, company: Company, end: int) -> None:
        self.end = end
        self._rng = rng
        self._company = company
        self._office = Office()
        self._last_id = dict.fromkeys(HABITS, 1000)

    def histories(self, entities: int) -> Iterator[list[Row]]:
        """The rows of one entity after another, each in the order of its events."""
        rng = self._rng
        strays = sorted(rng.randrange(max(1, entities)) for _ in range(STRAY_ENTITIES))
        queue: deque[Journey] = deque()
        for number in range(entities):
            if not queue:
                queue.append(self._begin())
            journey = queue.popleft()
            entity_type = journey.entity_type
            self._last_id[entity_type] += 1
            entity = Entity(
                entity_type,
                self._last_id[entity_type],
                journey.starts_at,
                journey.context,
            )
            rows = self._walk(entity)
            if strays and number >= strays[0] and len(rows) > 1:
                rows[1:2] = self._strayed(rows[0], rows[1])
                strays.pop(0)
            queue.extend(self._spawned(entity, rows))
            yield rows

    def _begin(self) -> Journey:
        rng = self._rng
        entity_type = _weighted(rng, BEGINNINGS)
        starts_at = self.end - SPAN + rng.randrange(SPAN)
        if entity_type == "internal_task" or rng.random() < 0.5:
            starts_at = min(self._at_work(starts_at, starts_at), self.end)
        context = {
            "business_entity_id": _weighted(rng, self._company.customers),
            "priority": _weighted(rng, PRIORITIES),
            "region": rng.choice(REGIONS),
            "amount": round(rng.lognormvariate(log(1650), 0.5), 2),
        }
        return Journey(entity_type, starts_at, context)

    def _spawned(self, entity: Entity, rows: list[Row]) -> Iterator[Journey]:
        rng = self._rng
        seen: set[str] = set()
        for row in rows:
            if row.to_status in seen:
                continue
            seen.add(row.to_status)
            key = f"{entity.entity_type}.{row.to_status}"
            for entity_type, probability, most in SPAWNS.get(key, ()):
                if rng.random() >= probability:
                    continue
                context = self._context_of_child(entity)
                for _ in range(rng.randint(1, most)):
                    starts_at = row.created_at + rng.randrange(MINUTE, 2 * HOUR)
                    if starts_at <= self.end:
                        yield Journey(entity_type, starts_at, context)

    def _context_of_child(self, entity: Entity) -> Json:
        if entity.entity_type not in LINKED:
            return entity.context
        return {**entity.context, f"{entity.entity_type}_id": entity.entity_id}

    def _bind(self, entity: Entity) -> Workflow:
        for workflow in self._company.workflows[entity.entity_type]:
            owner = workflow.business_entity_id
            if owner not in (None, entity.context["business_entity_id"]):
                continue
            if workflow.conditions.items() <= entity.context.items():
                return workflow
        raise ValueError(
            f"No workflow binds a new {entity.entity_type}; add one without conditions."
        )

    def _walk(self, entity: Entity) -> list[Row]:
        """The rows of one entity: through its workflow until it rests or time is up."""
        rng, steps = self._rng, (workflow := self._bind(entity)).steps
        step, at, previous = steps[workflow.first], entity.starts_at, None
        rows: list[Row] = []
        while at <= self.end:
            promise = self._promise(step, at)
            rows.append(self._row(entity, step, at, previous, promise))
            following = self._next(step)
            if following is None:
                break
            arriving = steps[following]
            leaves_at = self._leave(entity, step, arriving, at, promise)
            if promise is not None and rng.random() < REPLANNED:
                moved = self._office.closes(promise + rng.randint(1, 7) * DAY)
                replanned_at = rng.randrange(at + 1, leaves_at)
                if replanned_at <= self.end:
                    rows.append(self._row(entity, step, replanned_at, step.name, moved))
                    leaves_at += moved - promise
            previous, step, at = step.name, arriving, leaves_at
        return rows

    def _next(self, step: Step) -> str | None:
        """Where it goes from here, or None if it stays for good."""
        rng = self._rng
        chance = rng.random()
        if chance < ILLEGAL and step.forbidden:
            return rng.choice(step.forbidden)
        if step.is_final:
            reopens = step.allowed and chance > 1 - REOPENED
            return step.allowed[0] if reopens else None
        if chance > 1 - ABANDONED:
            return None
        return rng.choices(step.allowed, cum_weights=step.weights)[0]

    def _promise(self, step: Step, at: int) -> int | None:
        """A date that someone promised: the end of an office day about an SLA away."""
        if step.key not in PROMISED:
            return None
        ends_at = step.sla_ends(at, self._rng.uniform(0.7, 1.2))
        return None if ends_at is None else self._office.closes(ends_at)

    def _leave(
        self, entity: Entity, step: Step, arriving: Step, at: int, promise: int | None
    ) -> int:
        """When an entity that arrived at an instant moves on, strictly later."""
        rng = self._rng
        ends_at = step.sla_ends(at) if promise is None else promise
        span = STAY_WITHOUT_SLA if ends_at is None else ends_at - at
        if arriving.actor == "@sla-monitor":
            return at + span + rng.randrange(MINUTE, 10 * MINUTE)
        if promise is not None:
            stay = span * rng.lognormvariate(PROMISED_SHARE, PROMISED_SPREAD)
        else:
            pace = PACE.get(entity.entity_type, 1.0)
            stay = pace * span * rng.lognormvariate(USUAL_SHARE, USUAL_SPREAD)
        leaves_at = at + MINUTE + int(stay) + rng.randrange(1_000_000)
        if arriving.actor[0] == "@":
            return leaves_at
        return self._at_work(at, leaves_at)

    def _at_work(self, since: int, at: int) -> int:
        """Moves an instant into office hours: before closing, or after opening."""
        rng, office = self._rng, self._office
        if office.is_open(at) or rng.random() < AFTER_HOURS:
            return at
        before = office.closed(at) - rng.randrange(2 * HOUR)
        if before > since + MINUTE and rng.random() < 0.6:
            return before
        return office.opens(at) + rng.randrange(3 * HOUR)

    def _row(
        self,
        entity: Entity,
        step: Step,
        at: int,
        previous: str | None,
        promise: int | None,
    ) -> Row:
        rng = self._rng
        user, system, approval = self._signature(step, previous == step.name)
        context = self._said(entity, previous, approval)
        reasons = REASONS.get(step.name)
        silent = system in SILENT_SOURCES
        return Row(
            _uuid(rng),
            at,
            entity.entity_type,
            entity.entity_id,
            None if silent else previous,
            step.name,
            rng.choice(reasons) if reasons and rng.random() < 0.8 else None,
            context,
            user,
            system,
            promise,
            step.key in MILESTONES,
            self._metadata(system),
        )

    def _strayed(self, first: Row, second: Row) -> tuple[Row, Row]:
        """The second row of an entity, after a stay in a status nobody defined."""
        stray = first._replace(
            id=_uuid(self._rng),
            created_at=(first.created_at + second.created_at) // 2,
            from_status=first.to_status,
            to_status=STRAY_STATUS,
            business_context=None,
            sla_deadline=None,
            is_milestone=False,
        )
        return stray, second._replace(from_status=STRAY_STATUS)

    def _signature(
        self, step: Step, again: bool
    ) -> tuple[str | None, str | None, str | None]:
        """Who moved it: a user or a system, and who approved it if that is another."""
        rng, by_role = self._rng, self._company.by_role
        if step.approval_role is not None and not again:
            return self._approval(step, step.approval_role)
        if step.actor[0] == "@":
            return None, step.actor[1:], None
        users = by_role.get(step.actor) or self._company.users
        return users[int(rng.random() * len(users))], None, None

    def _approval(
        self, step: Step, role: str
    ) -> tuple[str | None, str | None, str | None]:
        rng, company = self._rng, self._company
        approvers = company.by_role.get(role) or company.users
        chance = rng.random()
        if chance < NO_APPROVER:
            return None, "accounting", None
        if chance < NO_APPROVER + WRONG_ROLE:
            others = [user for user in company.users if user not in approvers]
            return rng.choice(others or company.users), None, None
        if chance < 0.35:
            return rng.choice(approvers), None, None
        users = company.by_role.get(step.actor, company.users)
        return rng.choice(users), None, rng.choice(approvers)

    def _said(
        self, entity: Entity, previous: str | None, approval: str | None
    ) -> Json | None:
        """The business context of a row: all at first, later what the source sends."""
        if previous is None:
            return entity.context
        said: Json = {}
        if approval is not None:
            said["approved_by_user_id"] = approval
        if self._rng.random() < 0.15:
            said["business_entity_id"] = entity.context["business_entity_id"]
            said["priority"] = entity.context["priority"]
        return said or None

    def _metadata(self, system: str | None) -> Json | None:
        chance = self._rng.random()
        if chance > 0.2:
            return None
        if system is None:
            return {"source": "back-office", "screen": "detail"}
        return {"source": system, "attempt": 1 if chance > 0.02 else 2}


def _weighted(rng: random.Random, weights: dict[str, int]) -> str:
    return rng.choices(tuple(weights), tuple(weights.values()))[0]


def _uuid(rng: random.Random) -> str:
    bits = rng.getrandbits(128) & ~(0xF000C << 60) | (0x40008 << 60)
    digits = f"{bits:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


class SourceFile(ABC):
    """A file that rows are written to one by one."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows, self.malformed = path, 0, 0

    def write(self, row: Row) -> None:
        """Write a row."""
        self._put(row)
        self.rows += 1

    @abstractmethod
    def _put(self, row: Row) -> None:
        """Write one row in the file's format."""


class TextFile(SourceFile):
    """A file that can hold what is no row: with a defect here and there."""

    def __init__(
        self, path: Path, rng: random.Random, defects: tuple[Defect, ...], within: int
    ) -> None:
        """Spreads the defects at random over the first rows, within so many."""
        super().__init__(path)
        self._rng = rng
        places = sorted(rng.randint(1, max(1, within)) for _ in defects)
        self._defects = deque(zip(places, defects, strict=True))
        self._last: Row | None = None

    def write(self, row: Row) -> None:
        """Write a row, and the defects that come after it."""
        super().write(row)
        self._last = row
        while self._defects and self._defects[0][0] <= self.rows:
            self._spoil(row)

    def close(self) -> None:
        """Write the defects that are still due, if there is a row to copy."""
        while self._defects and self._last is not None:
            self._spoil(self._last)

    def _spoil(self, row: Row) -> None:
        _, defect = self._defects.popleft()
        self._put_spoiled(row._replace(id=_uuid(self._rng)), defect)
        self.rows += 1
        self.malformed += 1

    @abstractmethod
    def _put_spoiled(self, row: Row, defect: Defect) -> None:
        """Write one row with a defect."""


class HistoryFile(TextFile):
    """CSV: null is an empty field, JSON is its text."""

    def __init__(
        self, path: Path, rng: random.Random, defects: tuple[Defect, ...], within: int
    ) -> None:
        super().__init__(path, rng, defects, within)
        self._file = path.open("w", encoding="utf-8", newline="")
        self._file.write(",".join(Row._fields) + "\n")

    def close(self) -> None:
        """Write the defects that are still due, then the rest of the file."""
        super().close()
        self._file.close()

    def _put(self, row: Row) -> None:
        self._file.write(",".join(_csv_fields(row)) + "\n")

    def _put_spoiled(self, row: Row, defect: Defect) -> None:
        column, text = defect
        fields = _csv_fields(row)
        if defect == CUT_OFF:
            fields = fields[:6]
        else:
            fields[Row._fields.index(column)] = text or ""
        self._file.write(",".join(fields) + "\n")


class RecentFile(TextFile):
    """JSON Lines in gzip, without a time in its header so that the bytes repeat."""

    def __init__(
        self, path: Path, rng: random.Random, defects: tuple[Defect, ...], within: int
    ) -> None:
        super().__init__(path, rng, defects, within)
        self._raw = path.open("wb")
        packed = gzip.GzipFile("", "wb", compresslevel=6, fileobj=self._raw, mtime=0)
        self._file = io.TextIOWrapper(packed, encoding="utf-8", newline="\n")

    def close(self) -> None:
        """Write the defects that are still due, then the end of the archive."""
        super().close()
        self._file.close()
        self._raw.close()

    def _put(self, row: Row) -> None:
        self._file.write(_encode(_document(row)) + "\n")

    def _put_spoiled(self, row: Row, defect: Defect) -> None:
        column, text = defect
        document = _document(row)
        if text is None:
            document.pop(column, None)
        else:
            document[column] = text
        line = _encode(document)
        self._file.write((line[: len(line) // 2] if defect == CUT_OFF else line) + "\n")


class LateFile(SourceFile):
    """Parquet with typed columns, one row group after another."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = pq.ParquetWriter(path, LATE_COLUMNS)
        self._rows: list[tuple[Any, ...]] = []

    def close(self) -> None:
        """Write the last row group and the end of the file."""
        self._flush()
        self._file.close()

    def _put(self, row: Row) -> None:
        self._rows.append(
            (*row[:7], _json(row.business_context), *row[8:12], _json(row.metadata))
        )
        if len(self._rows) >= LATE_ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        columns = list(zip(*self._rows, strict=True)) or [()] * len(LATE_COLUMNS)
        self._file.write_table(pa.table(columns, schema=LATE_COLUMNS))
        self._rows.clear()


LATE_ROW_GROUP = 50_000
LATE_TYPES = {
    "created_at": pa.timestamp("us", "UTC"),
    "entity_id": pa.int64(),
    "sla_deadline": pa.timestamp("us", "UTC"),
    "is_milestone": pa.bool_(),
}
LATE_COLUMNS = pa.schema(
    [(name, LATE_TYPES.get(name, pa.string())) for name in Row._fields]
)


def _csv_fields(row: Row) -> list[str]:
    return [
        row.id,
        _text(row.created_at),
        row.entity_type,
        str(row.entity_id),
        row.from_status or "",
        row.to_status,
        _quoted(row.transition_reason),
        _quoted(_json(row.business_context)),
        row.triggered_by_user_id or "",
        row.triggered_by_system or "",
        "" if row.sla_deadline is None else _text(row.sla_deadline),
        "true" if row.is_milestone else "false",
        _quoted(_json(row.metadata)),
    ]


def _quoted(text: str | None) -> str:
    if text is None:
        return ""
    if '"' in text or "," in text:
        return '"' + text.replace('"', '""') + '"'
    return text


def _json(value: Json | None) -> str | None:
    return None if value is None else _encode(value)


def _document(row: Row) -> Json:
    document = row._asdict()
    document["created_at"] = _text(row.created_at)
    if row.sla_deadline is not None:
        document["sla_deadline"] = _text(row.sla_deadline)
    return document


def _text(at: int) -> str:
    return (EPOCH + timedelta(microseconds=at)).isoformat(timespec="microseconds")


class Delivery:
    """The three files, open for rows, with the defects that deliveries have."""

    def __init__(
        self, directory: Path, rng: random.Random, end: int, entities: int
    ) -> None:
        self._rng = rng
        self._recent_from = end - RECENT
        self.history = HistoryFile(
            directory / "01_history.csv", rng, CSV_DEFECTS, entities * 3
        )
        self.recent = RecentFile(
            directory / "02_recent.jsonl.gz", rng, JSONL_DEFECTS, entities // 5
        )
        self.late = LateFile(directory / "03_late.parquet")

    def take(self, rows: list[Row]) -> None:
        """Write the rows of one entity, some late, then the repeated ones again."""
        rng = self._rng
        again: list[tuple[SourceFile, Row]] = []
        for row in rows:
            file: SourceFile = self.history
            if row.created_at >= self._recent_from:
                file = self.recent
            elif rng.random() < LATE:
                file = self.late
            file.write(row)
            if rng.random() < REPEATED:
                other = self.late if file is self.recent else self.recent
                again.append((file if rng.random() < 0.6 else other, row))
        for file, row in again:
            file.write(row)

    def files(self) -> DemoFiles:
        """What was written."""
        files: tuple[SourceFile, ...] = (self.history, self.recent, self.late)
        return DemoFiles(
            tuple(file.path for file in files),
            sum(file.rows for file in files),
            sum(file.malformed for file in files),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.history.close()
        self.recent.close()
        self.late.close()
