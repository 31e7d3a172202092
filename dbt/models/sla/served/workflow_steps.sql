{{ config(materialized="standing_view") }}
-- One row per workflow, built or not, and status of its newest version.
select
    steps.step_id,
    steps.workflow_id,
    workflows.entity_type,
    workflows.workflow_name,
    steps.status_name as status,
    steps.status_label,
    steps.status_color,
    steps.step_order,
    steps.allowed_transitions,
    steps.sla_hours,
    steps.requires_approval,
    steps.approval_role,
    steps.is_final,
    steps.is_waiting
from {{ ref("stg_workflow_steps") }} as steps
inner join {{ ref("workflows") }} as workflows using (workflow_id)
