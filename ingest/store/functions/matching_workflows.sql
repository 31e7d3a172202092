-- S8: the active versions that an entity's first transition matches, in force or not.
-- The lower rank is the more specific.
create or replace function raw.matching_workflows(of_type text, context jsonb)
returns table (
    workflow_name text, business_entity_id uuid, created_at timestamptz, rank integer[]
)
language sql stable
begin atomic
    select
        w.workflow_name,
        w.business_entity_id,
        w.created_at,
        array[
            (w.business_entity_id is null)::integer,
            -(
                select count(*)
                from jsonb_path_query(w.conditions, 'strict $.**') as part
                where jsonb_typeof(part) not in ('object', 'array')
            )::integer,
            (not w.is_default)::integer
        ]
    from raw.status_workflows as w
    where
        w.entity_type = of_type
        and w.is_active
        and (
            w.business_entity_id is null
            or w.business_entity_id::text = lower(context ->> 'business_entity_id')
        )
        and coalesce(context, '{}') @> w.conditions;
end;
