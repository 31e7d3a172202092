{{ config(materialized="table") }}
-- One row per entity whose derived rows may differ from what is built.
{{ touched_since(built_cut()) }}
union
-- Who is known, and with which roles, decides violations of any entity (S19).
select
    entity_type,
    entity_id
from {{ ref("stg_transitions") }}
where
    exists (
        select 1 from {{ ref("stg_user_accounts") }}
        where batch_cut > {{ built_cut() }}
    )
    or exists (
        select 1 from {{ ref("stg_business_entities") }}
        where first_batch_cut > {{ built_cut() }}
    )
