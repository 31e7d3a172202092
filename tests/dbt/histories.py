"""Random histories, the same for a seed: everything that the rules speak of, often.

Instants lie on a coarse grid, so that transitions tie with each other, with deadlines
and with new versions.
"""

import random
import uuid
from datetime import date, datetime, timedelta
from typing import NamedTuple

from facts import at, calendar, step, target, workflow
from oracle import Row

FLEET, HOME = (
    "729ed482-9c14-4980-99f6-7aa66bbbbdb6",
    "a91ff91d-2615-431f-a88a-8c685407cacf",
)
UNKNOWN = "00000000-0000-4000-8000-0000000000ff"
CLERK, BOSS, LEAVER = (f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2, 3))
TYPES = ("order", "quote", "invoice", "payment")
STATUSES = ("new", "review", "active", "done", "dropped", "mystery")
SYSTEMS = (None, "portal", "planning")
CLAIMS = (None, None, None, "new", "review", "active", "nowhere")
HOLIDAYS = [date(2026, 1, day) for day in (19, 20, 26)]
ONCE = date(2026, 1, 14)
DAYS = 40
ENTITIES = 300
MICROSECOND = timedelta(microseconds=1)
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday")
WEEK = (*WEEKDAYS, "saturday", "sunday")


class History(NamedTuple):
    """Batches in the order of their arrival, and configuration by its instant."""

    batches: list[list[Row]]
    configurations: list[tuple[datetime, list[Row]]]


def make(seed: int) -> History:
    """A history of ENTITIES entities over DAYS days in six batches."""
    rng = random.Random(seed)
    rows = [row for number in range(ENTITIES) for row in _entity(rng, number)]
    batches: list[list[Row]] = [[] for _ in range(6)]
    for row in rows:
        place = int((row["created_at"] - at(0)) / timedelta(days=DAYS) * 5)
        is_late = rng.random() < 0.2
        batches[rng.randint(place, 5) if is_late else place].append(row)
    for batch in batches:
        rng.shuffle(batch)
    for place, batch in enumerate(batches[1:], start=1):
        # Repeated rows: of an earlier batch, and within the batch.
        batch += rng.sample(batches[place - 1], k=min(20, len(batches[place - 1])))
        batch += rng.sample(batch, k=min(10, len(batch)))
    return History(batches, configurations(rng))


def _entity(rng: random.Random, number: int) -> list[Row]:
    # Some begin before their calendar covers anything.
    instant = at(rng.randrange(DAYS * 4) / 4 if number % 20 else 0)
    rows = []
    for _ in range(rng.randint(1, 9)):
        rows.append(_transition(rng, number, instant))
        # Self-transitions and returns come by chance; half of all gaps are ties.
        instant += timedelta(hours=rng.choice((0, 0, 0, 1.5, 6, 6, 12, 24)))
        instant += MICROSECOND * rng.choice((0, 0, 0, 1, -1))
    return [row for row in rows if row["created_at"] <= at(DAYS)]


def _transition(rng: random.Random, number: int, instant: datetime) -> Row:
    given = instant + timedelta(hours=rng.choice((0, 6, 12, 200)))
    key = uuid.UUID(int=rng.getrandbits(128), version=4)
    return {
        "id": str(key),
        "created_at": instant,
        "entity_type": TYPES[number % len(TYPES)],
        "entity_id": number // 2,
        "from_status": rng.choice(CLAIMS),
        "to_status": rng.choices(STATUSES, (6, 5, 5, 2, 1, 1))[0],
        "business_context": rng.choice((None, _context(rng), _context(rng))),
        "triggered_by_user_id": rng.choice((None, CLERK, BOSS, LEAVER, UNKNOWN)),
        "triggered_by_system": SYSTEMS[key.int % len(SYSTEMS)],
        "is_milestone": "true" if key.int % 7 == 0 else "false",
        "sla_deadline": given if rng.random() < 0.15 else None,
        "source_order": rng.choice((None, None, -1, 0, 1, 2**63 - 2)),
    }


def _context(rng: random.Random) -> Row:
    members: Row = {
        "business_entity_id": (FLEET, FLEET.upper(), HOME, UNKNOWN, None),
        "approved_by_user_id": (CLERK, BOSS, BOSS.upper(), LEAVER, UNKNOWN, None),
        "priority": ("urgent", "normal", 1),
        "site": ({"kind": "home", "floor": 2}, {"kind": "home"}, {"kind": "office"}),
        "tags": (["a", "b"], ["b"], [], "a"),
    }
    return {
        name: rng.choice(values)
        for name, values in members.items()
        if rng.random() < 0.5
    }


def configurations(rng: random.Random) -> list[tuple[datetime, list[Row]]]:
    """What is applied over time; the history is older than the first."""
    return [
        (
            at(8),
            [*_calendars([]), *parties([]), *_workflows(rng, hours=12), _targets()],
        ),
        (
            at(16),
            [
                *_calendars(HOLIDAYS),
                *parties(["boss"]),
                *_workflows(rng, hours=6, is_urgent_there=False),
                _changed_targets(),
            ],
        ),
        # A way and a status fewer, other hours, and a workflow that is new to its type.
        (
            at(24),
            [
                *_calendars(HOLIDAYS, opens="06:00"),
                *parties(["boss"]),
                *_workflows(rng, hours=1.5, nested_in="nights"),
                *_later(rng),
            ],
        ),
    ]


def _calendars(holidays: list[date], opens: str = "09:00") -> list[Row]:
    """One covers none of the first hours, one opens but for a day."""
    return [
        calendar(
            "office",
            "America/New_York",
            _daily(f"{opens}-12:00", "13:00-17:00", days=WEEKDAYS),
            closed_dates=holidays,
        ),
        calendar(
            "nights",
            # Its clocks go back on 15 February.
            "Africa/Casablanca",
            _daily("23:00-04:00"),
            special_dates={date(2026, 1, 21): ["20:00-24:00"]},
        ),
        calendar("once", "Asia/Kathmandu", {}, special_dates={ONCE: ["00:00-24:00"]}),
        calendar("always", "Pacific/Apia", _daily("00:00-24:00")),
    ]


def _daily(*windows: str, days: tuple[str, ...] = WEEK) -> dict[str, list[str]]:
    return {day: list(windows) for day in days}


def parties(clerk_is_also: list[str]) -> list[Row]:
    """Business entities and users, one of whom gains a role, one of whom leaves."""
    users = (
        (CLERK, "Clerk", ["clerk", *clerk_is_also], True),
        (BOSS, "Boss", ["boss"], True),
        (LEAVER, "Leaver", ["boss"], not clerk_is_also),
    )
    return [
        {
            "business_entities": [
                {"id": FLEET, "name": "Fleet"},
                {"id": HOME, "name": "Home"},
            ]
        },
        {
            "user_accounts": [
                {
                    "id": key,
                    "name": name,
                    "roles": roles,
                    "business_entity": None,
                    "is_active": is_active,
                }
                for key, name, roles, is_active in users
            ]
        },
    ]


def _steps(rng: random.Random, hours: float | None) -> list[Row]:
    names = ("new", "review", "active", "done", "dropped")
    ways = {
        name: sorted(rng.sample([n for n in names if n != name], k=2))
        for name in names[:3]
    }
    # Every step must be reachable from the first.
    ways["new"] = sorted({*ways["new"], "review", "active"})
    ways["active"] = sorted({*ways["active"], "done", "dropped"})
    return [
        step(
            "new",
            1,
            ways["new"],
            sla_hours=hours,
            notification_settings={"at_risk_hours": 6},
        ),
        step(
            "review",
            2,
            ways["review"],
            sla_hours=0,
            notification_settings={"at_risk_hours": None, "notify": ["boss"]},
            is_waiting=True,
        ),
        step("active", 3, ways["active"], sla_hours=24, approval_role="boss"),
        step("done", 4, [], approval_role="clerk"),
        step("dropped", 5, []),
    ]


def _workflows(
    rng: random.Random,
    *,
    hours: float,
    is_urgent_there: bool = True,
    nested_in: str | None = None,
) -> list[Row]:
    """Orders compete for several; quotes have one with conditions; payments none."""
    urgent = {"priority": "urgent"}
    nested = {"site": {"kind": "home"}, "tags": ["a"]}
    return [
        workflow(
            "order", "standard", _steps(rng, hours), is_default=True, calendar="office"
        ),
        workflow("order", "another", _steps(rng, 12)),
        workflow(
            "order",
            "urgent",
            _steps(rng, 1.5),
            conditions=urgent,
            is_active=is_urgent_there,
        ),
        workflow(
            "order", "nested", _steps(rng, 6), conditions=nested, calendar=nested_in
        ),
        workflow(
            "order",
            "fleet",
            _steps(rng, 0.000001),
            business_entity="Fleet",
            calendar="nights",
        ),
        workflow(
            "quote", "Zulu", _steps(rng, hours), conditions=urgent, calendar="once"
        ),
        workflow("invoice", "alpha", _steps(rng, hours)),
        workflow("invoice", "Zulu", _steps(rng, None), calendar="always"),
    ]


def _targets() -> Row:
    """Of several scopes, one that ends and is set again, one that is to come."""
    new = {"workflow": "standard", "status": "new"}
    fleet = {"business_entity": "Fleet"}
    return {
        "targets": [
            target("orders", "order", "2026-01-03", at_least=90),
            target("orders", "order", "2026-01-20", at_least=97.5),
            target("new orders", "order", "2026-01-01", at_least=100, **new),
            target("fleet", "order", "2026-01-10", at_least=50, **fleet),
            target("fleet", "order", "2026-01-19", at_least=None),
            target("fleet", "order", "2026-02-02", at_least=33.3333),
            target("invoices", "invoice", "2025-12-01", status="active"),
            target("quotes", "quote", "2027-01-01"),
        ]
    }


def _changed_targets() -> Row:
    """A version that has not begun is another now, and one follows it."""
    return {
        "targets": [
            target("orders", "order", "2026-01-20", at_least=60, workflow="standard"),
            target("orders", "order", "2026-01-30", at_least=80),
        ]
    }


def _later(rng: random.Random) -> list[Row]:
    return [workflow("quote", "later", _steps(rng, 6), is_default=True)]
