-- depends_on: {{ source("raw", "cuts") }}
-- One row per status of a workflow version (S9). Of a version in the cut, because only
-- those are joined.
select
    id as step_id,
    workflow_id,
    status_name,
    status_label,
    status_color,
    step_order,
    allowed_transitions,
    sla_hours::numeric(18, 6) as sla_hours,
    {{ hours("sla_hours") }} as sla_time,
    requires_approval,
    approval_role,
    auto_transition_conditions,
    notification_settings,
    {{ hours(json_number("notification_settings", "at_risk_hours")) }} as at_risk_time,
    is_final,
    is_waiting
from {{ configured("status_workflow_steps") }}
