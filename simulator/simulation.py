"""The run of a company until an instant: transitions, customer by customer.

Nothing here reads or writes a file, a database, the clock or an SLA verdict.
"""

import random
from collections import deque
from collections.abc import Iterator
from math import log
from typing import NamedTuple

from simulator.company import Company, Json, SimulatedStep, Workflow
from simulator.habits import (
    ABANDONED,
    AFTER_HOURS,
    BEGINNINGS,
    HABITS,
    ILLEGAL,
    LINKED,
    MILESTONES,
    NO_APPROVER,
    PACE,
    PRIORITIES,
    PROMISED,
    PROMISED_SHARE,
    PROMISED_SPREAD,
    REASONS,
    REGIONS,
    REOPENED,
    REPLANNED,
    SILENT_SOURCES,
    SPAWNS,
    STAY_WITHOUT_SLA,
    STRAY_ENTITIES,
    STRAY_STATUS,
    USUAL_SHARE,
    USUAL_SPREAD,
    WRONG_ROLE,
)
from simulator.hours import DAY, HOUR, MINUTE, Office

SPAN = 120 * DAY


class SimulatedRow(NamedTuple):
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


class Simulation:
    """One run of the company until an instant, customer by customer."""

    def __init__(self, rng: random.Random, company: Company, end: int) -> None:
        self.end = end
        self._rng = rng
        self._company = company
        self._office = Office()
        self._last_id = dict.fromkeys(HABITS, 1000)

    def histories(self, entities: int) -> Iterator[list[SimulatedRow]]:
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

    def _spawned(self, entity: Entity, rows: list[SimulatedRow]) -> Iterator[Journey]:
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

    def _walk(self, entity: Entity) -> list[SimulatedRow]:
        """The rows of one entity: through its workflow until it rests or time is up."""
        rng, steps = self._rng, (workflow := self._bind(entity)).steps
        step, at, previous = steps[workflow.first], entity.starts_at, None
        rows: list[SimulatedRow] = []
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

    def _next(self, step: SimulatedStep) -> str | None:
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

    def _promise(self, step: SimulatedStep, at: int) -> int | None:
        """A date that someone promised: the end of an office day about an SLA away."""
        if step.key not in PROMISED:
            return None
        ends_at = step.sla_ends(at, self._rng.uniform(0.7, 1.2))
        return None if ends_at is None else self._office.closes(ends_at)

    def _leave(
        self,
        entity: Entity,
        step: SimulatedStep,
        arriving: SimulatedStep,
        at: int,
        promise: int | None,
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
        step: SimulatedStep,
        at: int,
        previous: str | None,
        promise: int | None,
    ) -> SimulatedRow:
        rng = self._rng
        user, system, approval = self._signature(step, previous == step.name)
        context = self._said(entity, previous, approval)
        reasons = REASONS.get(step.name)
        silent = system in SILENT_SOURCES
        return SimulatedRow(
            random_uuid(rng),
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

    def _strayed(
        self, first: SimulatedRow, second: SimulatedRow
    ) -> tuple[SimulatedRow, SimulatedRow]:
        """The second row of an entity, after a stay in a status nobody defined."""
        stray = first._replace(
            id=random_uuid(self._rng),
            created_at=(first.created_at + second.created_at) // 2,
            from_status=first.to_status,
            to_status=STRAY_STATUS,
            business_context=None,
            sla_deadline=None,
            is_milestone=False,
        )
        return stray, second._replace(from_status=STRAY_STATUS)

    def _signature(
        self, step: SimulatedStep, again: bool
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
        self, step: SimulatedStep, role: str
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


def random_uuid(rng: random.Random) -> str:
    """A UUID of version 4, by this source of chance."""
    bits = rng.getrandbits(128) & ~(0xF000C << 60) | (0x40008 << 60)
    digits = f"{bits:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
