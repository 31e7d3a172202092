-- S11: business time from one instant to another, in seconds, exact to the microsecond;
-- null where the calendar does not cover both.
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

-- The same by the calendar's name, in its version in force at entered_at.
create or replace function raw.business_seconds(
    calendar text, entered_at timestamptz, left_at timestamptz
) returns numeric
language sql stable
begin atomic
    select
        raw.business_seconds(
            raw.calendar_at(calendar, entered_at), entered_at, left_at
        )
    where raw.calendar_at(calendar, entered_at) is not null;
end;
