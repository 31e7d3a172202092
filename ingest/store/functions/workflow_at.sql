-- S7 and S8: the version, at an instant, of the workflow that binds an entity by its
-- first transition; null where none does.
create or replace function raw.workflow_at(
    instant timestamptz, of_type text, bound_at timestamptz, bound_context jsonb
) returns uuid
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    bound record;
begin
    -- The best of those in force; else of those that were applied first, later on.
    select w.workflow_name, w.business_entity_id, w.created_at
    into bound
    from raw.matching_workflows(of_type, bound_context) as w
    where
        not exists (
            select from raw.status_workflows as other
            where
                other.entity_type = of_type
                and other.workflow_name = w.workflow_name
                and other.business_entity_id is not distinct from w.business_entity_id
                and case
                    when w.created_at <= bound_at
                        then
                            other.created_at > w.created_at
                            and other.created_at <= bound_at
                    else other.created_at < w.created_at
                end
        )
    order by
        greatest(w.created_at, bound_at), w.rank, w.workflow_name collate "C"
    limit 1;
    -- They hold for a history older than the configuration, and for no other.
    if bound.created_at > bound_at then
        perform from raw.matching_workflows(of_type, bound_context) as w
        where
            w.created_at <= bound_at
            and not exists (
                select from raw.status_workflows as other
                where
                    other.entity_type = of_type
                    and other.workflow_name = w.workflow_name
                    and other.business_entity_id
                    is not distinct from w.business_entity_id
                    and other.created_at < w.created_at
            );
        if found then
            return null;
        end if;
    end if;
    -- The last active version by then, else the first.
    return (
        select w.id
        from raw.status_workflows as w
        where
            w.entity_type = of_type
            and w.workflow_name = bound.workflow_name
            and w.business_entity_id is not distinct from bound.business_entity_id
            and w.is_active
        order by
            case when w.created_at <= instant then w.created_at end desc nulls last,
            w.created_at
        limit 1
    );
end
$$;
