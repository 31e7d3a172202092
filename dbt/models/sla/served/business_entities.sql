{{ config(materialized="standing_view") }}
-- One row per business entity, built or not, as its newest version names it.
select
    business_entity_id,
    business_entity_name
from {{ ref("stg_business_entities") }}
