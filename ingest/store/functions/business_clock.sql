-- S11: what a calendar's business clock shows at an instant; null where the calendar
-- does not cover it.
create or replace function raw.business_clock(calendar uuid, instant timestamptz)
returns timestamp
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    moment constant timestamp := instant at time zone 'UTC';
begin
    return (
        select
            p.business_clock[place]
            + (least(moment, p.closes_at[place]) - p.opens_at[place])
        from raw.calendar_pages as p
        cross join lateral (select width_bucket(moment, p.opens_at) as place) as found
        where
            p.calendar_id = calendar
            and not p.is_by_clock
            and p.page = (moment::date - date '2000-01-01') >> 4
            and moment <= p.covers_until
    );
end
$$;
