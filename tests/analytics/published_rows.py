"""What a published file made by hand is made of: see the fixture `publish`."""

import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb

from analytics.published import Publication

Publish = Callable[..., Publication]

# A script fills `stays`; the rest of a stay, and its transition, follow from it.
STAYS = """
create temp table stays (
    entity_type varchar default 'order', entity_id bigint, status varchar,
    entered_at timestamptz, left_at timestamptz, sla_deadline timestamptz,
    workflow_name varchar default 'standard', calendar_id varchar,
    business_seconds bigint, is_final boolean default false, visit bigint default 1,
    transition_count bigint default 1, business_entity_id varchar,
    user_name varchar, system varchar, deadline_source varchar,
    sla_hours decimal(18, 6), brought_deadline timestamptz
);
"""
FILL = """
create temp table placed as
select
    *,
    uuid()::varchar as transition_id,
    row_number() over entity as place,
    1 + coalesce(sum(transition_count) over (
        entity rows between unbounded preceding and 1 preceding
    ), 0) as transition_place,
    lag(status) over entity as previous_status,
    lead(status) over entity as next_status
from stays
window entity as (
    partition by entity_type, entity_id order by entered_at, left_at nulls last
);

insert into status_intervals by name
select
    uuid()::varchar as interval_id, entity_type, entity_id, status, visit, entered_at,
    left_at, place as stay_number, previous_status, next_status, transition_count,
    false as is_waiting,
    transition_id as first_transition_id,
    transition_id as last_transition_id, workflow_name, calendar_id,
    business_entity_id, sla_deadline, is_final, sla_hours,
    if(sla_deadline is null, null, coalesce(deadline_source, 'workflow'))
        as deadline_source,
    case
        when left_at is null or sla_deadline is null then null
        when left_at <= sla_deadline then 'met'
        else 'breached'
    end as verdict,
    (epoch_us(left_at) - epoch_us(entered_at)) // 1000000 as elapsed_seconds,
    case
        when calendar_id is null
            then (epoch_us(left_at) - epoch_us(entered_at)) // 1000000
        else business_seconds
    end as business_seconds
from placed;

insert into audit_trail by name
select
    transition_id, entered_at as created_at, entity_type, entity_id,
    transition_place as entity_place, previous_status, status as to_status,
    brought_deadline as sla_deadline,
    user_name as triggered_by_user_id, user_name as triggered_by_user_name,
    system as triggered_by_system
from placed;

insert into entities by name
select
    entity_type, entity_id, min(entered_at) as created_at,
    max(entered_at) as last_changed_at
from placed
where (entity_type, entity_id) not in (select (entity_type, entity_id) from entities)
group by entity_type, entity_id;
"""


def write_file(published: Path, path: Path, script: str, as_of: str) -> None:
    """Write one file of the columns of another, with the rows of a script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # With its views and macros.
    shutil.copyfile(published, path)
    with duckdb.connect(str(path)) as connection:
        connection.execute("set timezone = 'UTC'")
        tables = connection.execute(
            "select table_name from duckdb_tables() where not internal"
        ).fetchall()
        for (table,) in tables:
            connection.execute(f"delete from {table}")
        connection.execute("insert into publication values (7, $1)", [as_of])
        connection.execute(f"{STAYS}{script};{FILL}")
