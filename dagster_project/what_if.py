"""What history would be under other workflows or calendars, beside what is published.

Rows of both are made by dbt's own models, and compared here; nothing that readers or
builds see is touched. How it is told belongs in what_if_text.py.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import LiteralString, NamedTuple

import psycopg
from psycopg.rows import class_row
from psycopg.sql import SQL, Identifier

from dagster_project import swap
from dagster_project.aside import run_aside
from dagster_project.builds import published_cut, session_environment
from dagster_project.resources import Warehouse
from ingest.configuration import workflows
from ingest.configuration.workflows import Configuration, Proposal
from ingest.errors import StatusEngineError
from ingest.store.cuts import Cut
from ingest.store.database import Connection

STAGING = swap.staging(swap.WHAT_IF)
# No test and nothing else: what these are derived from comes along.
RUN = ("run", "--full-refresh", "--select", "+sla_alerts +sla_performance")


class Compliance(NamedTuple):
    """Stays of a group that are due (S21)."""

    met: int = 0
    breached: int = 0
    overdue: int = 0

    @property
    def due(self) -> int:
        """All of them."""
        return sum(self)

    @property
    def ratio(self) -> float | None:
        """The share that was met; None where nothing is due."""
        return self.met / self.due if self.due else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Exact binomial bounds of the ratio (Clopper and Pearson), at 95 %."""
        if not self.due:
            return None
        # It takes a second to import; only who needs an interval waits.
        from analytics.proportions import exact_interval

        return exact_interval(self.met, self.due)


class Group(NamedTuple):
    """Stays by what they have in common, as they are judged before and after.

    by: `all`, `entity type`, `workflow`, `status` or `business entity`; a workflow and
    a status are of the entity type beside them.
    """

    by: str
    entity_type: str | None
    name: str | None
    before: Compliance
    after: Compliance


class Flip(NamedTuple):
    """A stay that is judged otherwise.

    Judgements are `met`, `breached`, `overdue` (open, past its deadline), `not yet due`
    and `no deadline`; instants are in UTC.
    """

    entity_type: str
    entity_id: int
    status: str
    entered_at: datetime
    left_at: datetime | None
    before: str
    after: str
    deadline_before: datetime | None
    deadline_after: datetime | None
    workflow_before: str | None
    workflow_after: str | None


class Change(NamedTuple):
    """How many stays go from one judgement to another, and have another deadline."""

    before: str
    after: str
    stays: int
    moved_deadlines: int


def is_flip(change: Change) -> bool:
    """Whether stays are judged otherwise; a deadline may move and change nothing."""
    return change.before != change.after


class Stage(NamedTuple):
    """Alerts of a stage.

    due, waiting: of open stays, as of the cut, and later. stays: all stays, ended ones
    too, that came to be at risk or breached; None of stages that a step names.
    """

    stage: str
    due_before: int
    due_after: int
    waiting_before: int
    waiting_after: int
    stays_before: int | None
    stays_after: int | None


class WhatIf(NamedTuple):
    """What would be otherwise, of the published cut at its instant.

    since: from when on; None is the beginning of history. changes: of all stays of the
    types that were judged again, those that stay as they are among them. flips: as many
    as were asked for.
    """

    cut: Cut
    since: datetime | None
    proposal: Proposal
    groups: tuple[Group, ...] = ()
    changes: tuple[Change, ...] = ()
    alerts: tuple[Stage, ...] = ()
    flips: tuple[Flip, ...] = ()

    @property
    def stays(self) -> int:
        """How many were judged again."""
        return sum(change.stays for change in self.changes)

    @property
    def moved_deadlines(self) -> int:
        """How many of them have another deadline, or one more, or none."""
        return sum(change.moved_deadlines for change in self.changes)

    @property
    def flip_count(self) -> int:
        """How many are judged otherwise."""
        return sum(change.stays for change in self.changes if is_flip(change))

    def below(self, ratio: float) -> tuple[Group, ...]:
        """Entity types whose compliance would be below a ratio."""
        return tuple(
            group
            for group in self.groups
            if group.by == "entity type"
            and group.after.ratio is not None
            and group.after.ratio < ratio
        )


def what_if(
    warehouse: Warehouse,
    configuration: Configuration,
    since: datetime | None = None,
    limit: int | None = None,
) -> WhatIf:
    """Judge the stays of the published cut again, as if files had been in force.

    Builds may go on meanwhile. A second one waits.

    Args:
        warehouse: the database and the home folder.
        configuration: of which what differs from what is in force is supposed.
        since: stays that began from then on are judged by it; with a zone. From the
            beginning by default.
        limit: how many flips are told.

    Raises:
        StatusEngineError: nothing is built, configuration waits for a build, the files
            would be refused, or dbt failed.
    """
    with _scratch(warehouse) as connection:
        _make_relations(connection, since)
        proposal = workflows.propose(connection, configuration, STAGING)
        with _snapshot(connection) as cut:
            _require_configured(connection, cut)
            _require_history(cut, since)
            if not proposal.changed:
                return WhatIf(cut, since, proposal)
            _judge_types(connection, proposal)
            _tell_clock(connection, cut)
            _keep_stays(connection, swap.PUBLISHED, "published_stays")
            before = _groups(connection, swap.PUBLISHED)
            alerts = _alerts(connection, swap.PUBLISHED, "published_stays")
        run_aside(
            warehouse.folder / "dbt-what-if",
            RUN,
            session_environment(warehouse.url, swap.WHAT_IF, cut, connection),
            {"is_supposed": True},
        )
        with connection.transaction():
            _tell_clock(connection, cut)
            return _compared(
                connection, WhatIf(cut, since, proposal), before, alerts, limit
            )


@contextmanager
def _scratch(warehouse: Warehouse) -> Iterator[Connection]:
    """The schema and its staging, both empty; dropped at the end, however that comes.

    What a process that was killed has left is dropped here as well.
    """
    with warehouse.making_aside(swap.WHAT_IF) as connection:
        try:
            yield connection
        finally:
            # Who reads it, or a dead session, holds up nobody: the next one drops it.
            with suppress(StatusEngineError, psycopg.OperationalError):
                swap.drop(connection, swap.WHAT_IF)


def _make_relations(connection: Connection, since: datetime | None) -> None:
    """Tables that hold what is supposed; see the macros of dbt."""
    with connection.transaction():
        connection.execute(
            SQL("set local search_path = {}").format(Identifier(STAGING))
        )
        for name in ("status_workflows", "calendars", "calendar_windows"):
            connection.execute(_like_raw(name))
        # Whole: a plan that has to look into two relations is another one.
        for name in ("status_workflow_steps", "calendar_pages"):
            connection.execute(_like_raw(name))
            connection.execute(
                SQL("insert into {0} table raw.{0}").format(Identifier(name))
            )
        connection.execute("create table judged_types (entity_type text)")
        connection.execute("create table supposed_from (instant timestamptz)")
        connection.execute(
            "insert into supposed_from values (coalesce(%s, '-infinity'::timestamptz))",
            [since],
        )


def _like_raw(name: LiteralString) -> psycopg.sql.Composed:
    return SQL("create table {0} (like raw.{0} including all)").format(Identifier(name))


@contextmanager
def _snapshot(connection: Connection) -> Iterator[Cut]:
    """What is published, as it is now: its cut; a build may publish the next."""
    with swap.no_swap(connection):
        yield published_cut(connection)


def _require_configured(connection: Connection, cut: Cut) -> None:
    waiting = connection.execute(
        "select 1 from raw.batches where kind = 'configuration' "
        "and coalesce(cut > %s, true)",
        [cut.number],
    )
    if waiting.fetchone():
        msg = (
            "Configuration was applied after what is published was built. "
            "Run: status-engine build."
        )
        raise StatusEngineError(msg)


def _require_history(cut: Cut, since: datetime | None) -> None:
    if since is not None and since > cut.as_of:
        msg = f"No stay began since {since}: cut {cut.number} is as of {cut.as_of}."
        raise StatusEngineError(msg)


def _judge_types(connection: Connection, proposal: Proposal) -> None:
    connection.execute(
        f"insert into {STAGING}.judged_types select unnest(%s::text[])",
        [list(proposal.entity_types)],
    )
    for name in ("status_workflow_steps", "calendar_pages", "judged_types"):
        connection.execute(f"analyze {STAGING}.{name}")


def _tell_clock(connection: Connection, cut: Cut) -> None:
    """To what reads it in this transaction."""
    for name, value in (("cut", str(cut.number)), ("as_of", cut.as_of.isoformat())):
        connection.execute(
            "select set_config(%s, %s, true)", [f"status_engine.{name}", value]
        )


_AS_OF: LiteralString = "current_setting('status_engine.as_of')::timestamptz"
_IS_JUDGED: LiteralString = (
    "entity_type in (select entity_type from sla_what_if_staging.judged_types)"
)
_STAYS: LiteralString = f"""
select
    interval_id,
    entity_type,
    entity_id,
    status,
    visit,
    entered_at,
    left_at,
    workflow_name,
    sla_deadline,
    case
        when sla_deadline is null then 'no deadline'
        when verdict is not null then verdict
        when sla_deadline < {_AS_OF} and entered_at <= {_AS_OF} then 'overdue'
        else 'not yet due'
    end as judgement,
    (
        at_risk_from is not null
        and greatest(at_risk_from, entered_at) < coalesce(left_at, {_AS_OF})
    ) as was_at_risk
from {{schema}}.status_intervals
where {_IS_JUDGED}
"""


def _keep_stays(
    connection: Connection, schema: LiteralString, table: LiteralString
) -> None:
    stays = _STAYS.format(schema=schema)
    connection.execute(f"create table {STAGING}.{table} as {stays}".encode())
    connection.execute(f"analyze {STAGING}.{table}".encode())


_GROUPS: LiteralString = f"""
select
    grouping(entity_type, workflow_name, status, business_entity_id),
    entity_type,
    workflow_name,
    status,
    business_entity_id,
    sum(met_count)::bigint,
    sum(breached_count)::bigint,
    sum(overdue_count)::bigint
from {{schema}}.sla_performance
where {_IS_JUDGED}
group by grouping sets (
    (),
    (entity_type),
    (entity_type, workflow_name),
    (entity_type, status),
    (business_entity_id)
)
"""
# By the columns that were grouped away.
_LEVELS = {
    0b1111: "all",
    0b0111: "entity type",
    0b0011: "workflow",
    0b0101: "status",
    0b1110: "business entity",
}
_Key = tuple[str, str | None, str | None]


def _groups(connection: Connection, schema: LiteralString) -> dict[_Key, Compliance]:
    rows = connection.execute(_GROUPS.format(schema=schema).encode()).fetchall()
    found = {}
    for level, entity_type, workflow, status, business_entity, *counts in rows:
        by = _LEVELS[level]
        name = {"workflow": workflow, "status": status}.get(by, business_entity)
        # Of no stay at all there is one row, of nothing.
        found[by, entity_type, name] = Compliance(*(count or 0 for count in counts))
    return found


_ALERTS: LiteralString = f"""
select
    stage,
    count(*) filter (where due_at <= {_AS_OF}),
    count(*) filter (where due_at > {_AS_OF})
from {{schema}}.sla_alerts
where {_IS_JUDGED}
group by stage
"""
_EVER: LiteralString = """
select
    count(*) filter (where was_at_risk),
    count(*) filter (where judgement in ('breached', 'overdue'))
from sla_what_if_staging.{stays}
"""
# Of each stage: alerts that are due, that wait, and stays that ever came to it.
_Alerts = dict[str, tuple[int, int, int | None]]


def _alerts(
    connection: Connection, schema: LiteralString, stays: LiteralString
) -> _Alerts:
    rows = connection.execute(_ALERTS.format(schema=schema).encode()).fetchall()
    open_ones = {stage: (due, waiting) for stage, due, waiting in rows}
    counted = connection.execute(_EVER.format(stays=stays).encode()).fetchone()
    assert counted is not None
    ever = dict(zip(("at_risk", "breached"), counted, strict=True))
    return {
        stage: (*open_ones.get(stage, (0, 0)), ever.get(stage))
        for stage in {**ever, **open_ones}
    }


_CHANGES: LiteralString = """
select
    published.judgement,
    supposed.judgement,
    count(*),
    count(*) filter (
        where published.sla_deadline is distinct from supposed.sla_deadline
    )
from sla_what_if_staging.published_stays as published
inner join sla_what_if_staging.supposed_stays as supposed using (interval_id)
group by published.judgement, supposed.judgement
order by published.judgement, supposed.judgement
"""
_FLIPS: LiteralString = """
select
    published.entity_type,
    published.entity_id,
    published.status,
    published.entered_at,
    published.left_at,
    published.judgement as before,
    supposed.judgement as after,
    published.sla_deadline as deadline_before,
    supposed.sla_deadline as deadline_after,
    published.workflow_name as workflow_before,
    supposed.workflow_name as workflow_after
from sla_what_if_staging.published_stays as published
inner join sla_what_if_staging.supposed_stays as supposed using (interval_id)
where published.judgement <> supposed.judgement
order by
    published.entered_at, published.entity_type, published.entity_id, published.visit,
    published.status
limit %s
"""


def _compared(
    connection: Connection,
    asked: WhatIf,
    before: Mapping[_Key, Compliance],
    alerts: _Alerts,
    limit: int | None,
) -> WhatIf:
    schema: LiteralString = swap.WHAT_IF
    _keep_stays(connection, schema, "supposed_stays")
    after = _groups(connection, schema)
    with connection.cursor(row_factory=class_row(Flip)) as cursor:
        flips = cursor.execute(_FLIPS, [limit]).fetchall()
    return asked._replace(
        groups=tuple(
            Group(*key, before.get(key, Compliance()), after.get(key, Compliance()))
            for key in sorted({*before, *after}, key=_place)
        ),
        changes=tuple(Change(*row) for row in connection.execute(_CHANGES)),
        alerts=_stages(alerts, _alerts(connection, schema, "supposed_stays")),
        flips=tuple(flips),
    )


def _place(key: _Key) -> tuple[int, str, str]:
    """Larger groups first, then by name; those without one at their end."""
    by, entity_type, name = key
    return list(_LEVELS.values()).index(by), entity_type or "", name or "\U0010ffff"


def _stages(before: _Alerts, after: _Alerts) -> tuple[Stage, ...]:
    of_none = (0, 0, None)
    pairs = (
        (stage, before.get(stage, of_none), after.get(stage, of_none))
        for stage in sorted({*before, *after})
    )
    return tuple(
        Stage._make(
            (stage, *(n for both in zip(one, other, strict=True) for n in both))
        )
        for stage, one, other in pairs
    )
