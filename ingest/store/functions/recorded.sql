-- A stored transition, with what its stay is under by then (S3, S9, S10).
create or replace function raw.recorded(stored raw.status_transitions)
returns raw.recorded_transition
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    -- Null is after all numbers (S2).
    last constant bigint := 9223372036854775807;
    place constant bigint := coalesce(stored.source_order, last);
    first record;
    before record;
    stay record;
    step record;
    version_id uuid;
    deadline timestamptz;
begin
    select t.created_at, t.business_context into first
    from raw.status_transitions as t
    where t.entity_type = stored.entity_type and t.entity_id = stored.entity_id
    order by t.created_at, t.source_order, t.batch_id, t.batch_row
    limit 1;

    select t.created_at, t.source_order, t.batch_id, t.batch_row into before
    from raw.status_transitions as t
    where
        t.entity_type = stored.entity_type
        and t.entity_id = stored.entity_id
        and t.created_at <= stored.created_at
        and (t.created_at, coalesce(t.source_order, last), t.batch_id, t.batch_row)
        < (stored.created_at, place, stored.batch_id, stored.batch_row)
        and t.to_status <> stored.to_status
    order by
        t.created_at desc, t.source_order desc, t.batch_id desc, t.batch_row desc
    limit 1;

    select
        min(t.created_at) as entered_at,
        (
            array_agg(
                t.sla_deadline
                order by
                    t.created_at desc, t.source_order desc,
                    t.batch_id desc, t.batch_row desc
            ) filter (where t.sla_deadline is not null)
        )[1] as explicit_deadline
    into stay
    from raw.status_transitions as t
    where
        t.entity_type = stored.entity_type
        and t.entity_id = stored.entity_id
        and t.created_at <= stored.created_at
        and (t.created_at, coalesce(t.source_order, last), t.batch_id, t.batch_row)
        <= (stored.created_at, place, stored.batch_id, stored.batch_row)
        and t.created_at >= coalesce(before.created_at, '-infinity')
        and (t.created_at, coalesce(t.source_order, last), t.batch_id, t.batch_row) > (
            coalesce(before.created_at, '-infinity'),
            coalesce(before.source_order, last),
            coalesce(before.batch_id, 0),
            coalesce(before.batch_row, 0)
        );

    version_id := raw.workflow_at(
        stay.entered_at, stored.entity_type, first.created_at, first.business_context
    );
    select w.workflow_name, s.id, s.sla_hours, s.is_final into step
    from raw.status_workflows as w
    left join raw.status_workflow_steps as s
        on w.id = s.workflow_id and s.status_name = stored.to_status
    where w.id = version_id;
    if version_id is not null and step.is_final is not true then
        deadline := coalesce(
            stay.explicit_deadline,
            raw.deadline_of(version_id, stay.entered_at, step.sla_hours)
        );
    end if;
    return (
        stored.id, stored.created_at, stored.from_status, stored.to_status,
        stored.batch_id, version_id, step.workflow_name, step.id, deadline,
        case
            when deadline is null then null
            when stay.explicit_deadline is null then 'workflow'
            else 'explicit'
        end
    );
end
$$;
