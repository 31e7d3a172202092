{{ config(materialized="standing_view") }}
-- One row per target and span of days in which it asks the same.
-- [effective_from, effective_until).
select
    target_name,
    effective_from,
    effective_until,
    entity_type,
    workflow_name,
    status,
    business_entity_id,
    at_least::double precision / 100 as at_least_ratio,
    roles
from {{ ref("stg_targets") }}
where at_least is not null
