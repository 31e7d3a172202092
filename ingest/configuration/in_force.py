"""What is in force: workflows, calendars, parties, entity types and targets (S7).

Rows only: texts are made of them in dagster_project/cli/workflow_text.py.
"""

from datetime import date, datetime
from typing import Any, NamedTuple

from ingest.configuration.calendars import WEEKDAYS
from ingest.errors import WorkflowError
from ingest.store.database import Connection


class Definition(NamedTuple):
    """The version of a definition in force, and how many there were up to it."""

    kind: str
    name: str
    business_entity: str | None
    is_active: bool
    versions: int
    in_force_since: datetime


class StepInForce(NamedTuple):
    """One status of a workflow version; hours in the calendar's business time."""

    status: str
    label: str
    order: int
    sla_hours: str | None
    calendar: str | None
    allowed_next: tuple[str, ...]
    approval_role: str | None
    is_final: bool
    is_waiting: bool


class CalendarVersion(NamedTuple):
    """A calendar version; windows by weekday or date, dates in its own zone.

    today: the date there at the instant that was asked for.
    """

    name: str
    timezone: str
    in_force_since: datetime
    covers_from: date
    covers_until: date
    windows: dict[str, list[str]]
    closed_dates: dict[date, str]
    special_dates: dict[date, list[str]]
    today: date


# One row per version of anything, of those that began by the instant asked for.
_VERSIONS = """
with entity_names as (
    select distinct on (id) id, name
    from raw.business_entities
    order by id, created_at desc
),

versions as (
    select
        1 as place, 'workflow' as kind, entity_type || '/' || workflow_name as name,
        business_entity_id, is_active, created_at, id as version_id,
        concat_ws('/', entity_type, workflow_name, business_entity_id) as identity
    from raw.status_workflows
    union all
    select
        2, 'calendar', calendar_name, null, true, created_at, id, calendar_name
    from raw.calendars
    union all
    select 3, 'business entity', name, null, is_active, created_at, null, id::text
    from raw.business_entities
    union all
    select
        4, 'user', name, business_entity_id, is_active, created_at, null, id::text
    from raw.user_accounts
    union all
    select 5, 'entity type', entity_type, null, true, created_at, null, entity_type
    from raw.entity_type_versions
    union all
    select
        6, 'target', target_name || ' from ' || effective_from, business_entity_id,
        at_least is not null, created_at, null,
        concat_ws('/', effective_from, target_name)
    from raw.targets
),

numbered as (
    select
        *,
        count(*) over since as versions,
        lead(created_at) over since as next_at
    from versions
    window since as (partition by kind, identity order by created_at)
)

select
    kind, numbered.name, entity_names.name as business_entity, is_active, versions,
    created_at, version_id
from numbered
left join entity_names on entity_names.id = business_entity_id
where
    created_at <= coalesce(%(at)s, now())
    and (next_at > coalesce(%(at)s, now()) or next_at is null)
order by place, numbered.name collate "C", entity_names.name collate "C" nulls first
"""


def types_without_workflow(connection: Connection) -> set[str]:
    """Entity types of which no workflow was ever active, so that none binds them."""
    rows = connection.execute(
        "select entity_type from raw.entity_types "
        "except select entity_type from raw.status_workflows where is_active"
    ).fetchall()
    return {entity_type for (entity_type,) in rows}


def definitions(connection: Connection, at: datetime | None = None) -> list[Definition]:
    """Everything in force at an instant, now by default: workflows first, by name."""
    return [Definition(*row[:-1]) for row in _in_force(connection, at)]


def steps_of(
    connection: Connection,
    name: str,
    business_entity: str | None = None,
    at: datetime | None = None,
) -> tuple[Definition, list[StepInForce]]:
    """A workflow in force, named order/standard, and its steps in their order.

    Raises:
        WorkflowError: there was none, or it is one of several business entities.
    """
    *found, version_id = _found(connection, "workflow", name, business_entity, at)
    rows = connection.execute(
        """
        select
            status_name, status_label, step_order, trim_scale(sla_hours)::text,
            calendar_name, allowed_transitions, approval_role, is_final,
            is_waiting
        from raw.status_workflow_steps as steps
        join raw.status_workflows as workflows on workflows.id = workflow_id
        where workflow_id = %s
        order by step_order
        """,
        [version_id],
    ).fetchall()
    steps = [StepInForce._make((*row[:5], tuple(row[5]), *row[6:])) for row in rows]
    return Definition(*found), steps


def calendar_in_force(
    connection: Connection, name: str, at: datetime | None = None
) -> CalendarVersion:
    """A calendar in force at an instant, now by default.

    Raises:
        WorkflowError: there was none.
    """
    version_id = _found(connection, "calendar", name, None, at)[-1]
    row = connection.execute(
        """
        select
            calendar_name, timezone, created_at, covers_from, covers_until, windows,
            closed_dates, special_dates,
            (coalesce(%s, now()) at time zone timezone)::date
        from raw.calendars
        where id = %s
        """,
        [at, version_id],
    ).fetchone()
    assert row is not None
    *head, windows, closed, special, today = row
    week = {day: windows[day] for day in WEEKDAYS}
    days = (_by_date(closed), _by_date(special))
    return CalendarVersion._make((*head, week, *days, today))


def _by_date(days: dict[str, Any]) -> dict[date, Any]:
    return {date.fromisoformat(day): what for day, what in sorted(days.items())}


def _in_force(connection: Connection, at: datetime | None) -> list[tuple[Any, ...]]:
    return connection.execute(_VERSIONS, {"at": at}).fetchall()


def _found(
    connection: Connection,
    kind: str,
    name: str,
    business_entity: str | None,
    at: datetime | None,
) -> tuple[Any, ...]:
    """The row of what is named; that for all business entities unless one is."""
    rows = [row for row in _in_force(connection, at) if row[0] == kind]
    named = [row for row in rows if row[1] == name]
    found = [row for row in named if row[2] == business_entity]
    if not found and business_entity is None and len(named) == 1:
        found = named
    if found:
        return found[0]
    when = "now" if at is None else f"at {at}"
    if named:
        whose = ", ".join(f"{row[2]!r}" if row[2] else "all" for row in named)
        msg = f"{kind} {name!r} is in force {when} for {whose}; name whose is meant."
    else:
        known = ", ".join(dict.fromkeys(row[1] for row in rows)) or "none"
        msg = f"No {kind} {name!r} is in force {when}; in force are {known}."
    raise WorkflowError(msg)
