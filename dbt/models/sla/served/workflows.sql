{{ config(materialized="standing_view") }}
-- One row per workflow, built or not, in the newest version.
select
    versions.workflow_id,
    versions.entity_type,
    versions.workflow_name,
    versions.business_entity_id,
    names.business_entity_name,
    versions.is_default,
    versions.is_active,
    versions.conditions,
    versions.calendar_name,
    versions.in_force_from
from {{ ref("stg_workflow_versions") }} as versions
left join {{ ref("stg_business_entities") }} as names using (business_entity_id)
where versions.in_force_until is null
