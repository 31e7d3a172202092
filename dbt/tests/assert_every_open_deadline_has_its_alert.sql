{{ config(
    meta={
        "description":
            "Who is told of breaches is told of all: each open stay with a deadline has"
            ~ " one alert of stage breached, no other stay has any (S13).",
        "dagster": {"ref": {"name": "sla_alerts"}},
    },
) }}
with

alerts as (
    select * from {{ fresh(ref("sla_alerts")) }}
    where stage = 'breached'
),

open_stays as (
    select * from {{ fresh(ref("status_intervals")) }}
    where
        left_at is null
        and sla_deadline is not null
)

select
    alerts.alert_id,
    open_stays.entity_type,
    open_stays.entity_id,
    open_stays.status,
    interval_id
from open_stays
full outer join alerts using (interval_id, sla_deadline)
where
    alerts.alert_id is null
    or open_stays.interval_id is null
