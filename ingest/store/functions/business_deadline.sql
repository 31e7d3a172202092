-- S11: the earliest instant since entered_at with so many hours of business time
-- between; null where the calendar ends before. Elapsed time without a calendar.
create or replace function raw.business_deadline(
    calendar uuid, entered_at timestamptz, hours numeric
) returns timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    -- Whole microseconds, because an interval is multiplied in floating point.
    amount constant interval := (hours * 3600000000)::bigint * interval '1 microsecond';
    runs_out timestamp;
begin
    if calendar is null or amount = interval '0' then
        return entered_at + amount;
    end if;
    runs_out := raw.business_clock(calendar, entered_at) + amount;
    return (
        select due at time zone 'UTC'
        from raw.calendar_pages as p
        cross join lateral (
            select width_bucket(
                runs_out - interval '1 microsecond', p.business_clock
            ) as place
        ) as found
        cross join lateral (
            select p.opens_at[place] + (runs_out - p.business_clock[place]) as due
        ) as reached
        where
            p.calendar_id = calendar
            and p.is_by_clock
            and p.page
            = ((runs_out - interval '1 microsecond')::date - date '2000-01-01') >> 3
            and due <= p.closes_at[place]
    );
end
$$;

-- The same by the calendar's name, in its version in force at entered_at.
create or replace function raw.business_deadline(
    calendar text, entered_at timestamptz, hours numeric
) returns timestamptz
language sql stable
begin atomic
    select
        raw.business_deadline(
            raw.calendar_at(calendar, entered_at), entered_at, hours
        )
    where raw.calendar_at(calendar, entered_at) is not null;
end;
