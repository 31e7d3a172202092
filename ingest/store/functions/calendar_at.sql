-- S9: the version of a calendar in force at an instant; its first version before that.
create or replace function raw.calendar_at(named text, instant timestamptz) returns uuid
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
begin
    return (
        select c.id
        from raw.calendars as c
        where c.calendar_name = named
        order by
            case when c.created_at <= instant then c.created_at end desc nulls last,
            c.created_at
        limit 1
    );
end
$$;
