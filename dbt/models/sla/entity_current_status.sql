{{ config(materialized="view") }}
-- One row per entity: its open interval, as of the clock (S4, S13, S15). The built
-- rows, replaced for entities that changed after the built cut by the same SQL (S16).
with

{{ live_interval_ctes() }}

select
    {{ uuid_of("concat_ws('/', open.entity_type, open.entity_id)") }} as id,
    open.entity_created_at as created_at,
    open.entity_type,
    open.entity_id,
    open.status as current_status,
    open.entered_at as status_since,
    open.sla_deadline,
    -- Not coalesce, so that an index on the deadline serves it.
    (open.sla_deadline is not null and open.sla_deadline < {{ as_of() }}) as is_overdue,
    open.workflow_id,
    open.last_transition_id,
    steps.status_label,
    steps.status_color,
    open.is_final,
    open.business_entity_id,
    open.visit,
    open.deadline_source,
    {{ seconds_between("open.entered_at", as_of()) }} as seconds_in_status,
    {{ seconds_between(as_of(), "open.sla_deadline") }} as seconds_to_deadline,
    coalesce(
        open.at_risk_from <= {{ as_of() }} and open.sla_deadline >= {{ as_of() }}, false
    ) as is_at_risk,
    open.workflow_name
from live_intervals as open
left join {{ ref("stg_workflow_steps") }} as steps using (step_id)
where open.left_at is null
