{{ config(materialized="scratch_table") }}
-- One row per entity whose derived rows may differ from what is published; none in a
-- full build, which reads all.
{% set previous = previous_cut() %}
{{ touched_since(previous) }}
union
-- Who is known, and with which roles, decides violations of any entity (S19).
select
    entity_type,
    entity_id
from {{ ref("stg_transitions") }}
where
    exists (
        select 1 from {{ ref("stg_user_accounts") }}
        where batch_cut > {{ previous }}
    )
    or exists (
        select 1 from {{ ref("stg_business_entities") }}
        where first_batch_cut > {{ previous }}
    )
{% if is_full_build() %}limit 0{% endif %}
