-- One row per business entity, as its newest version names it.
with

entities as (
    select * from {{ source("raw", "business_entities") }}
),

batches as (
    select * from {{ ref("stg_batches") }}
)

select distinct on (entities.id)
    entities.id::text as business_entity_id,
    entities.name as business_entity_name,
    entities.is_active,
    min(batches.batch_cut) over (partition by entities.id) as first_batch_cut
from entities
inner join batches using (batch_id)
order by entities.id asc, entities.created_at desc, entities.batch_id desc
