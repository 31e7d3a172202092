"""What is due for a channel: alerts that it did not get, and those to be taken back.

When an alert falls due is decided in dbt, and which signals stand in signals.py; here
is what was told already.
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


# One that ended, or began and ended, before a channel could be told, is not told.
_SIGNALS: LiteralString = f"""
select
    case when is_standing then 'signal' else 'end' end as kind, due.alert_id, due.stage,
    null::uuid as interval_id, due.entity_type, null::bigint as entity_id,
    due.target_name as status, null::timestamptz as sla_deadline, due.due_at, due.title,
    due.said
from (
    select distinct on (signal_id)
        *, signal_id as alert_id, rule as stage, observed_at as due_at
    from raw.target_signals
    order by signal_id, event_id desc
) as due
where
    {_ROUTED}
    and due.is_standing
    <> (coalesce((select last.kind from ({_LAST}) as last), 'end') = 'signal')
order by due.due_at, due.alert_id
"""


class Due(NamedTuple):
    """An alert that a channel is to get, or a correction of one that it got.

    A signal of a target, or its end, is of no stay: its status is the target's name,
    its stage the rule, and it has a title and what is said of it.
    """

    kind: str
    alert_id: UUID
    stage: str
    interval_id: UUID | None
    entity_type: str
    entity_id: int | None
    status: str
    sla_deadline: datetime | None
    due_at: datetime
    title: str = ""
    said: str = ""

    @property
    def is_of_a_stay(self) -> bool:
        """Or of a target."""
        return self.interval_id is not None


def due_for(connection: Connection, channel: Channel, as_of: datetime) -> list[Due]:
    """What a channel is to get as of an instant: corrections, alerts, then signals.

    Each of these by due_at.

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
        alerts = cursor.execute(_DUE, values).fetchall()
        return corrections + alerts + cursor.execute(_SIGNALS, values).fetchall()
