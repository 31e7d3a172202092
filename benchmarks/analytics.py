"""What analysts ask of 5 million stays: each question's seconds, in DuckDB.

Moves and variants are found by pm4py as well, in the same run.

Run by `make bench`, or alone: `python -m benchmarks.analytics [--quick]`.
"""

import io
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl

from analytics import breaches, findings, flow, forecast, survival, targets
from analytics.published import DATABASE, Publication, open_publication
from analytics.stays import Scope
from benchmarks.report import Figure, at_least, at_most, report, seconds

ENTITIES = 1_000_000
STAYS_EACH = 5
AS_OF = datetime(2026, 6, 1, tzinfo=UTC)
GOAL = 1.0
# The columns that are asked of, as a publication has them. Five stays an entity over a
# year, the last final, of 8 types and 5 statuses, in four of five business time of a
# calendar.
TABLES = """
create table publication as
    select 1::bigint as cut, timestamptz '2026-06-01 00:00:00Z' as as_of;
create table calendar_windows as
    select 'c' as calendar_id, 'office' as calendar_name,
        day + interval 9 hour as opens_at, day + interval 17 hour as closes_at
    from generate_series(
        timestamptz '2025-01-01 00:00:00Z', timestamptz '2035-01-01 00:00:00Z',
        interval 1 day
    ) as t (day)
    where isodow(day) < 6;
-- Every twentieth entity goes back once.
create temp macro status_at(e, place) as
    'status_' || if(place = 3 and e % 20 = 0, 1, place);
create table status_intervals as
with drawn as (
    select
        e as entity_id,
        'type_' || (e % 8) as entity_type,
        s,
        timestamptz '2025-06-01 00:00:00Z' + to_seconds(hash(e) % 31000000)
            + to_seconds(s * 90000) as entered_at,
        hash(e * 5 + s) as luck
    from range($entities) as entities (e), range($stays) as places (s)
),

timed as (
    select
        *,
        s = $stays - 1 as is_final,
        case when s < $stays - 2 or (not is_final and luck % 5 > 0)
            then entered_at + to_seconds(3600 + luck % 86400) end as left_at
    from drawn
    -- A fifth have not come to the last status yet.
    where not is_final or hash(entity_id * 5 + s - 1) % 5 > 0
)

select
    md5('i' || entity_id || '-' || s)::uuid::varchar as interval_id, entity_type,
    entity_id,
    status_at(entity_id, s) as status, 1 + (status_at(entity_id, s) <> 'status_' || s)
        ::bigint as visit,
    'Status ' || s as status_label, entered_at, timed.left_at,
    1 + (luck % 20 = 0)::bigint as transition_count,
    md5('t' || entity_id || '-' || s)::uuid::varchar as first_transition_id,
    'standard' as workflow_name, 'b' || (entity_id % 50) as business_entity_id,
    if(entity_id % 5 = 0, null, 'c') as calendar_id,
    if(is_final, null, entered_at + to_seconds(60000)) as sla_deadline,
    4::decimal(18, 6) as sla_hours,
    -- A tenth of the deadlines came along, and may have moved.
    if(luck % 10 = 0, 'explicit', 'workflow') as deadline_source, is_final,
    s + 1 as stay_number, false as is_waiting,
    if(s = 0, null, status_at(entity_id, s - 1)) as previous_status,
    if(timed.left_at is null, null, status_at(entity_id, s + 1)) as next_status,
    case when left_at is not null
        then if(left_at <= sla_deadline, 'met', 'breached') end as verdict,
    (epoch_us(left_at) - epoch_us(entered_at)) // 1000000 as elapsed_seconds,
    if(entity_id % 5 = 0, elapsed_seconds, elapsed_seconds // 4) as business_seconds,
    case when verdict = 'breached'
        then (epoch_us(left_at) - epoch_us(sla_deadline)) // 1000000
    end as late_business_seconds
from timed;
create table audit_trail as
    with placed as (
        select
            *,
            sum(transition_count) over (
                partition by entity_id order by stay_number
                rows between unbounded preceding and current row
            )::bigint - transition_count as before_count,
            unnest(range(transition_count)) as n
        from status_intervals
    )

    select
        if(n = 0, first_transition_id, md5(first_transition_id)::uuid::varchar)
            as transition_id,
        entity_type, entity_id, entered_at + interval (n) minute as created_at,
        if(deadline_source = 'explicit', sla_deadline - interval (1 - n) hour, null)
            as sla_deadline,
        before_count + n + 1 as entity_place,
        if(n = 0, previous_status, status) as previous_status, status as to_status,
        'u' || (hash(entity_id, status) % 40) as triggered_by_user_id,
        triggered_by_user_id as triggered_by_user_name, 'web' as triggered_by_system
    from placed;
create table entities as
    select entity_type, entity_id, max(entered_at) as last_changed_at,
        json_object('priority', ['low', 'high'][1 + entity_id % 2],
            'region', 'r' || (entity_id % 12))::varchar as first_context
    from status_intervals group by all;
create table entity_journeys as
    select
        entity_type, entity_id, min(entered_at) as started_at,
        if(count(left_at) = count(*), max(left_at), null) as ended_at,
        string_agg(status, ' → ' order by stay_number) as variant,
        md5(variant) as variant_id, count(*) as stay_count,
        count(*) filter (verdict = 'breached') as breached_count,
        (epoch_us(ended_at) - epoch_us(started_at)) // 1000000 as elapsed_seconds,
        sum(business_seconds)::bigint as touch_business_seconds,
        0::bigint as waiting_business_seconds
    from status_intervals group by all;
create table workflows as
    select 'w' || i as workflow_id, 'type_' || i as entity_type,
        'standard' as workflow_name, null::varchar as business_entity_id
    from range(8) as t (i);
create table workflow_steps as
    select workflow_id, entity_type, workflow_name, 'status_' || s as status,
        s::integer as step_order, '["status_' || (s + 1) || '"]' as allowed_transitions
    from workflows, range(5) as t (s);
"""


def main(words: list[str]) -> int:
    """Generate the file, ask each question three times, keep the median."""
    entities = ENTITIES // 10 if "--quick" in words else ENTITIES
    with tempfile.TemporaryDirectory(prefix="analytics-") as folder:
        path = Path(folder) / DATABASE
        path.parent.mkdir(parents=True)
        with duckdb.connect(str(path)) as connection:
            connection.execute("set timezone = 'UTC'")
            _generate(connection, entities)
        with open_publication(Path(folder)) as publication:
            figures = [_figure(name, ask) for name, ask in _questions(publication)]
            figures.append(_beside_pm4py(publication))
    return report("analytics", figures)


def _beside_pm4py(publication: Publication) -> Figure:
    """Moves and variants of one log, found by both, and how many times as fast."""
    # It prints its licence.
    with redirect_stderr(io.StringIO()):
        import pm4py

    log = publication.connection.execute(
        "select entity_type || '-' || entity_id as entity, status, entered_at"
        " from status_intervals order by entity_type, entity_id, stay_number"
    ).df()
    keys = {
        "activity_key": "status",
        "timestamp_key": "entered_at",
        "case_id_key": "entity",
    }
    theirs: list[object] = []
    ours: list[pl.DataFrame] = []
    their_seconds = seconds(
        lambda: theirs.extend(
            (pm4py.discover_dfg(log, **keys)[0], pm4py.get_variants(log, **keys))
        )
    )
    our_seconds = seconds(
        lambda: ours.extend(
            (flow.directly_follows(publication), flow.variants(publication))
        )
    )
    moves, variants = ours
    found = (
        {(one, other): n for one, other, n, *_ in moves.iter_rows()},
        {
            tuple(variant.split(" → ")): n
            for variant, n in variants.select("variant", "entity_count").iter_rows()
        },
    )
    if list(found) != theirs:
        msg = "pm4py finds other moves or variants."
        raise AssertionError(msg)
    return at_least("moves and variants beside pm4py", their_seconds / our_seconds, 10)


def _generate(connection: duckdb.DuckDBPyConnection, entities: int) -> None:
    for statement in TABLES.split(";\n"):
        values = {"entities": entities, "stays": STAYS_EACH}
        used = {k: v for k, v in values.items() if f"${k}" in statement}
        connection.execute(statement, used or None)


def _figure(name: str, ask: Callable[[], object]) -> Figure:
    taken = sorted(seconds(ask) for _ in range(3))
    return at_most(name, taken[1], GOAL, "s")


def _questions(publication: Publication) -> list[tuple[str, Callable[[], object]]]:
    month = Scope(since=AS_OF - timedelta(days=30))
    before = Scope(since=AS_OF - timedelta(days=60), until=AS_OF - timedelta(days=30))
    target = targets.Target("type_1", None, None, 0.9, date(2026, 1, 1))
    kinds = {
        "bottlenecks": findings.bottlenecks,
        "rework": findings.rework,
        "ping-pong": findings.ping_pong,
        "skipped steps": findings.skipped_steps,
        "idle": findings.idle,
        "repetition": findings.repetition,
    }
    return [
        (
            "medians of elapsed time with open stays",
            lambda: survival.quantiles(publication, clock="elapsed_seconds"),
        ),
        (
            "medians of business time with open stays",
            lambda: survival.quantiles(publication),
        ),
        *((name, lambda find=find: find(publication)) for name, find in kinds.items()),
        (
            "skipped steps of a month",
            lambda: findings.skipped_steps(publication, month),
        ),
        ("what goes with breaches", lambda: breaches.associations(publication)),
        (
            "what goes with breaches of a month",
            lambda: breaches.associations(publication, month),
        ),
        (
            "two months side by side",
            lambda: breaches.compare(publication, before, month),
        ),
        ("moves of all", lambda: flow.directly_follows(publication)),
        ("statuses of all", lambda: flow.statuses(publication)),
        ("variants of all", lambda: flow.variants(publication)),
        ("open and overdue by day", lambda: flow.work_by_day(publication)),
        ("forecast of all open stays", lambda: forecast.forecast(publication)),
        (
            "forecast by what was known a month ago",
            lambda: forecast.forecast(publication, month.since),
        ),
        ("burn rates", lambda: targets.burn_rates(publication, target)),
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
