create table raw.calendars (
    id uuid primary key,
    created_at timestamptz not null,
    calendar_name text not null,
    timezone text not null,
    windows jsonb not null,
    closed_dates jsonb not null,
    special_dates jsonb not null,
    covers_from date not null,
    covers_until date not null check (covers_until >= covers_from),
    opening_sha256 text not null,
    batch_id bigint not null references raw.batches,
    unique (calendar_name, created_at)
);

comment on table raw.calendars is
'One row per calendar version, in force from created_at until the next version of its name (S9, S12); dates and windows in the calendar''s own zone, covers_until inclusive.';
comment on column raw.calendars.opening_sha256 is
'Of its opening windows: another version where the rules of its zone changed.';

create table raw.calendar_windows (
    calendar_id uuid not null references raw.calendars,
    opens_at timestamptz not null,
    closes_at timestamptz not null check (closes_at >= opens_at),
    next_opens_at timestamptz check (next_opens_at >= closes_at),
    business_clock timestamp not null,
    primary key (calendar_id, opens_at)
);

comment on table raw.calendar_windows is
'One row per opening window of a calendar version, [opens_at, closes_at), none touching another, closed from closes_at to next_opens_at. Where the version begins to cover and where it ends is a window without length.';
comment on column raw.calendar_windows.business_clock is
'What a clock that stands still while the calendar is closed shows at opens_at; it began at 2000-01-01 00:00 where the calendar begins to cover.';

-- A look-up is an equality on a page and a search of its few windows: as fast for one
-- row as for a million, where a range over all windows is neither.
create table raw.calendar_pages (
    calendar_id uuid not null references raw.calendars,
    is_by_clock boolean not null,
    page integer not null,
    covers_until timestamp not null,
    opens_at timestamp[] not null,
    closes_at timestamp[] not null,
    business_clock timestamp[] not null,
    primary key (calendar_id, is_by_clock, page)
);

comment on table raw.calendar_pages is
'One row per calendar version and 16 days in UTC, or 8 days of its business clock (is_by_clock): the windows of calendar_windows that begin there, after the one before, as arrays in UTC.';

alter table raw.status_workflows add column calendar_name text;

comment on column raw.status_workflows.calendar_name is
'In whose business time the hours of its steps are counted; null for elapsed time (S10, S11).';

do $$
declare
    name text;
begin
    foreach name in array array['calendars', 'calendar_windows', 'calendar_pages'] loop
        execute format(
            'create trigger append_only before update or delete or truncate on raw.%I '
            'for each statement execute function raw.refuse_change()', name);
    end loop;
end
$$;

-- S9: the version of a calendar in force at an instant; its first version before that.
create function raw.calendar_at(named text, instant timestamptz) returns uuid
language plpgsql stable as $$
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

-- S11: what a calendar's business clock shows at an instant; null where the calendar
-- does not cover it.
create function raw.business_clock(calendar uuid, instant timestamptz)
returns timestamp
language plpgsql stable as $$
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

-- S11: the earliest instant since entered_at with so many hours of business time
-- between; null where the calendar ends before. Elapsed time without a calendar.
create function raw.business_deadline(
    calendar uuid, entered_at timestamptz, hours numeric
) returns timestamptz
language plpgsql stable as $$
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

-- S11: business time from one instant to another, in seconds, exact to the microsecond;
-- null where the calendar does not cover both.
create function raw.business_seconds(
    calendar uuid, entered_at timestamptz, left_at timestamptz
) returns numeric
language sql stable as $$
    select case
        when calendar is null then extract(epoch from left_at - entered_at)
        else extract(
            epoch from
            raw.business_clock(calendar, left_at) - raw.business_clock(calendar, entered_at)
        )
    end
$$;

-- The same by the calendar's name, in its version in force at entered_at.
create function raw.business_deadline(
    calendar text, entered_at timestamptz, hours numeric
) returns timestamptz
language sql stable as $$
    select raw.business_deadline(raw.calendar_at(calendar, entered_at), entered_at, hours)
    where raw.calendar_at(calendar, entered_at) is not null
$$;

create function raw.business_seconds(
    calendar text, entered_at timestamptz, left_at timestamptz
) returns numeric
language sql stable as $$
    select raw.business_seconds(raw.calendar_at(calendar, entered_at), entered_at, left_at)
    where raw.calendar_at(calendar, entered_at) is not null
$$;

-- When a step's hours have run out, in the business time of its workflow's calendar.
create or replace function raw.deadline_of(
    workflow_id uuid, entered_at timestamptz, sla_hours numeric
) returns timestamptz
language plpgsql stable as $$
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
