{{ config(materialized="standing_view") }}
-- One row per entity that its source knows by a text, built or not.
select
    entity_type,
    entity_id,
    entity_key,
    namespace
from {{ ref("stg_entity_keys") }}
