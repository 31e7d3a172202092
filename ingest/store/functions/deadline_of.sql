-- S11: when a step's hours have run out, in the business time of its workflow's
-- calendar; elapsed time without one.
create or replace function raw.deadline_of(
    workflow_id uuid, entered_at timestamptz, sla_hours numeric
) returns timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    named text;
begin
    if sla_hours is null then
        return null;
    end if;
    select w.calendar_name into named
    from raw.status_workflows as w where w.id = workflow_id;
    return raw.business_deadline(
        case when named is not null then raw.calendar_at(named, entered_at) end,
        entered_at,
        sla_hours
    );
end
$$;
