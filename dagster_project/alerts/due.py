"""What is due for a channel: alerts that it did not get, and those to be taken back.

When an alert falls due is decided in dbt; here is what was told already.
"""

from datetime import datetime
from typing import LiteralString, NamedTuple
from uuid import UUID

from psycopg.rows import class_row

from dagster_project.alerts.channels import Channel
from dagster_project.swap import no_swap
from ingest.store.database import Connection

# What a channel gets of the alerts; a list that is empty restricts nothing.
_ROUTED: LiteralString = """
(%(entity_types)s::text[] = '{}' or entity_type = any(%(entity_types)s))
and (
    %(business_entities)s::text[] = '{}'
    or business_entity_id = any(%(business_entities)s)
)
and (%(roles)s::text[] = '{}' or roles ?| %(roles)s)
and (%(stages)s::text[] = '{}' or stage = any(%(stages)s))
"""
_LAST: LiteralString = """
select told.*
from raw.alert_deliveries as told
where told.channel_name = %(channel_name)s and told.alert_id = due.alert_id
order by told.delivery_id desc
limit 1
"""
_DUE: LiteralString = f"""
select
    'alert' as kind, due.alert_id, due.stage, due.interval_id, due.entity_type,
    due.entity_id, due.status, due.sla_deadline, due.due_at
from sla.due_alerts as due
where
    {_ROUTED}
    and coalesce((select last.kind from ({_LAST}) as last), '') <> 'alert'
order by due.due_at, due.alert_id
"""
# S5: what a late row or a configuration changed of what was told. What came after the
# built cut is judged by the next build.
_TAKEN_BACK: LiteralString = """
with told as (
    select distinct on (alert_id) *
    from raw.alert_deliveries
    where channel_name = %(channel_name)s
    order by alert_id, delivery_id desc
)

select
    'correction' as kind, told.alert_id, told.stage, told.interval_id,
    told.entity_type, told.entity_id, coalesce(stays.status, '') as status,
    told.sla_deadline, told.due_at
from told
left join sla.status_intervals as stays using (interval_id)
left join sla.sla_alerts as alerts using (alert_id)
where
    told.kind = 'alert'
    and (
        stays.interval_id is null
        or stays.left_at < told.due_at
        or (stays.left_at is null and coalesce(alerts.due_at > told.as_of, true))
        or (
            told.stage = 'breached'
            and stays.left_at is not null
            and stays.verdict is distinct from 'breached'
        )
    )
    and not exists (
        select from raw.status_transitions as later
        inner join raw.batches using (batch_id)
        where
            (later.entity_type, later.entity_id) = (told.entity_type, told.entity_id)
            and coalesce(batches.cut > (select min(cut) from sla.built_cuts), true)
    )
order by told.due_at, told.alert_id
"""


class Due(NamedTuple):
    """An alert that a channel is to get, or a correction of one that it got."""

    kind: str
    alert_id: UUID
    stage: str
    interval_id: UUID
    entity_type: str
    entity_id: int
    status: str
    sla_deadline: datetime | None
    due_at: datetime


def due_for(connection: Connection, channel: Channel, as_of: datetime) -> list[Due]:
    """What a channel is to get as of an instant: corrections, then alerts, by due_at.

    Args:
        connection: open, outside a transaction.
        channel: in force.
        as_of: what the clock shows (S15).

    Raises:
        StatusEngineError: the tables are of other models.
    """
    values = channel._asdict()
    with no_swap(connection), connection.cursor(row_factory=class_row(Due)) as cursor:
        connection.execute(
            "select set_config('status_engine.as_of', %s, true)", [as_of.isoformat()]
        )
        corrections = cursor.execute(_TAKEN_BACK, values).fetchall()
        return corrections + cursor.execute(_DUE, values).fetchall()
