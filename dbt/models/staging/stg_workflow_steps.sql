-- One row per status of a workflow version (S9).
with

steps as (
    select * from {{ source("raw", "status_workflow_steps") }}
),

batches as (
    select * from {{ ref("stg_batches") }}
)

select
    steps.id as step_id,
    steps.workflow_id,
    steps.status_name,
    steps.status_label,
    steps.status_color,
    steps.step_order,
    steps.allowed_transitions,
    steps.sla_hours,
    steps.requires_approval,
    steps.approval_role,
    steps.auto_transition_conditions,
    steps.notification_settings,
    steps.is_final
from steps
inner join batches using (batch_id)
