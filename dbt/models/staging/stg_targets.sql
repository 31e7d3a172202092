-- One row per target and day from which on it asks something else, in the newest
-- version of that day. [effective_from, effective_until); null at_least: it has ended.
with

versions as (
    select * from {{ source("raw", "targets") }}
),

batches as (
    select * from {{ ref("stg_batches") }}
),

newest as (
    select distinct on (versions.target_name, versions.effective_from) versions.*
    from versions
    inner join batches using (batch_id)
    order by
        versions.target_name asc,
        versions.effective_from asc,
        versions.created_at desc,
        versions.batch_id desc
)

select
    target_name,
    effective_from,
    lead(effective_from) over (
        partition by target_name order by effective_from
    ) as effective_until,
    entity_type,
    workflow_name,
    status,
    business_entity_id::text as business_entity_id,
    at_least,
    roles
from newest
