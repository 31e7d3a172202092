{{ config(materialized="standing_view") }}
-- One row per alert that is due as of the clock (S15): of a stay of the built cut that
-- no transition since then may have ended, or given another deadline.
select
    alerts.alert_id,
    alerts.interval_id,
    alerts.stage,
    alerts.due_at,
    alerts.entity_type,
    alerts.entity_id,
    alerts.status,
    alerts.entered_at,
    alerts.sla_deadline,
    alerts.roles,
    alerts.business_entity_id,
    alerts.workflow_id,
    alerts.step_id,
    alerts.calendar_id
from {{ ref("sla_alerts") }} as alerts
where
    alerts.due_at <= {{ as_of() }}
    and not exists (
        select 1
        from {{ ref("stg_transitions") }} as later
        where
            later.entity_type = alerts.entity_type
            and later.entity_id = alerts.entity_id
            and {{ is_after("later.batch_cut", built_cut()) }}
    )
