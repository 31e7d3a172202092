-- What a body names is found in pg_catalog, whatever the search_path of the session;
-- a body of SQL is parsed now, so that queries take it up as before.
do $$
declare
    routine regprocedure;
begin
    for routine in
        select p.oid
        from pg_proc as p
        inner join pg_language as l on p.prolang = l.oid
        where
            p.pronamespace = 'raw'::regnamespace
            and l.lanname = 'plpgsql'
            and p.proname in (
                'refuse_change', 'refuse_restamp', 'workflow_at', 'recorded',
                'unknown_users', 'has_role', 'refuse', 'record_transition',
                'calendar_at', 'business_clock', 'business_deadline', 'deadline_of'
            )
    loop
        execute format(
            'alter function %s set search_path = pg_catalog, pg_temp', routine
        );
    end loop;
end
$$;

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

create or replace function raw.business_seconds(
    calendar uuid, entered_at timestamptz, left_at timestamptz
) returns numeric
language sql stable
return case
    when calendar is null then extract(epoch from left_at - entered_at)
    else extract(
        epoch from
        raw.business_clock(calendar, left_at) - raw.business_clock(calendar, entered_at)
    )
end;

create or replace function raw.business_deadline(
    calendar text, entered_at timestamptz, hours numeric
) returns timestamptz
language sql stable
begin atomic
    select raw.business_deadline(raw.calendar_at(calendar, entered_at), entered_at, hours)
    where raw.calendar_at(calendar, entered_at) is not null;
end;

create or replace function raw.business_seconds(
    calendar text, entered_at timestamptz, left_at timestamptz
) returns numeric
language sql stable
begin atomic
    select raw.business_seconds(raw.calendar_at(calendar, entered_at), entered_at, left_at)
    where raw.calendar_at(calendar, entered_at) is not null;
end;
