-- One row per workflow version (S7). [in_force_from, in_force_until) is when it binds
-- new entities; [bound_from, bound_until) when it judges those bound to its workflow:
-- the first active version from ever, the last active one for ever.
with

applied as (
    select * from {{ source("raw", "status_workflows") }}
),

batches as (
    select * from {{ ref("stg_batches") }}
),

workflows as (
    select
        applied.*,
        batches.batch_cut,
        concat_ws(
            '/',
            applied.entity_type,
            coalesce(applied.business_entity_id::text, ''),
            applied.workflow_name
        ) as workflow_key
    from applied
    inner join batches using (batch_id)
),

versions as (
    select
        *,
        row_number() over (
            partition by workflow_key order by created_at, batch_id
        ) = 1 as is_first,
        lead(created_at) over (
            partition by workflow_key order by created_at, batch_id
        ) as in_force_until
    from workflows
),

bounds as (
    select
        id,
        case
            when
                row_number() over (
                    partition by workflow_key order by created_at, batch_id
                ) = 1
                then '-infinity'::timestamptz
            else created_at
        end as bound_from,
        lead(created_at) over (
            partition by workflow_key order by created_at, batch_id
        ) as bound_until
    from workflows
    where is_active
)

select
    versions.id as workflow_id,
    versions.workflow_key,
    versions.entity_type,
    versions.workflow_name,
    versions.business_entity_id::text as business_entity_id,
    versions.conditions,
    {{ json_leaf_count("versions.conditions") }} as condition_count,
    versions.is_default,
    versions.calendar_name,
    versions.is_active,
    versions.is_first,
    versions.created_at as in_force_from,
    versions.in_force_until,
    bounds.bound_from,
    bounds.bound_until,
    versions.batch_cut
from versions
left join bounds using (id)
