{{ config(materialized="owner_function", returns="jsonb") }}
-- The entities of reconfigured_status, as members of one object: looked up row by row.
select
    coalesce(
        jsonb_object_agg(concat_ws('/', entity_type, entity_id), null), '{}'
    ) as entities
from {{ ref("reconfigured_status") }}()
