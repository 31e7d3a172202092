-- One row per entity type, as its newest version in the session's cut names it.
with

types as (
    select * from {{ source("raw", "entity_types") }}
),

versions as (
    select * from {{ source("raw", "entity_type_versions") }}
),

batches as (
    select * from {{ ref("stg_batches") }}
),

newest as (
    select distinct on (versions.entity_type)
        versions.entity_type,
        versions.label
    from versions
    inner join batches using (batch_id)
    order by versions.entity_type asc, versions.created_at desc, versions.batch_id desc
)

select
    types.entity_type,
    coalesce(
        newest.label, initcap(replace(types.entity_type, '_', ' '))
    ) as entity_type_label,
    types.position::integer as position
from types
left join newest using (entity_type)
