{{ config(materialized="standing_view") }}
-- One row per entity type, built or not, in the newest version.
select
    entity_type,
    entity_type_label,
    position
from {{ ref("stg_entity_types") }}
