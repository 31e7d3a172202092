{# Business time (S11): what a calendar's business clock shows, a clock that stands
   still while the calendar is closed. It and its inverse are one equality join each, to
   a page of the calendar, and a search of the page's few windows: no loop over windows,
   no weeks to multiply with, no horizon.

   A clock is a timestamp without a zone, because its arithmetic is whole microseconds
   whatever the session's zone; an epoch would be numeric, and slow. #}

{# The page of an instant, to be joined to whatever has the instant; no row where the
   calendar does not cover it. #}
{% macro join_calendar_page(page, calendar_id, instant) -%}
    left join {{ ref("stg_calendar_pages") }} as {{ page }}
        on
            {{ calendar_id }} = {{ page }}.calendar_id
            and not {{ page }}.is_by_clock
            and (({{ instant }} {{ in_utc() }})::date - date '2000-01-01') >> 4
            = {{ page }}.page
            and {{ instant }} {{ in_utc() }} <= {{ page }}.covers_until
{%- endmacro %}

{# What the business clock shows at an instant, by its page. #}
{% macro business_clock(page, instant) -%}
    {%- set place %}width_bucket({{ instant }} {{ in_utc() }}, {{ page }}.opens_at){% endset -%}
    {{ page }}.business_clock[{{ place }}]
    + (
        least({{ instant }} {{ in_utc() }}, {{ page }}.closes_at[{{ place }}])
        - {{ page }}.opens_at[{{ place }}]
    )
{%- endmacro %}

{# The page of a reading of the business clock, to be joined likewise. The microsecond
   before decides: hours that run out at closing time end then, not at the opening. #}
{% macro join_clock_page(page, calendar_id, clock) -%}
    left join {{ ref("stg_calendar_pages") }} as {{ page }}
        on
            {{ calendar_id }} = {{ page }}.calendar_id
            and {{ page }}.is_by_clock
            and (({{ clock }} - interval '1 microsecond')::date - date '2000-01-01') >> 3
            = {{ page }}.page
{%- endmacro %}

{# The earliest instant at which the business clock shows a reading, by its page; null
   where the calendar ends before. #}
{% macro instant_of_clock(page, clock) -%}
    {%- set place %}width_bucket({{ clock }} - interval '1 microsecond', {{ page }}.business_clock){% endset -%}
    case
        when
            {{ clock }} - {{ page }}.business_clock[{{ place }}]
            <= {{ page }}.closes_at[{{ place }}] - {{ page }}.opens_at[{{ place }}]
            then
                (
                    {{ page }}.opens_at[{{ place }}]
                    + ({{ clock }} - {{ page }}.business_clock[{{ place }}])
                ) {{ in_utc() }}
    end
{%- endmacro %}

{# S11: when a stay's hours have run out, in the business time of its calendar; elapsed
   time without one. The clock's reading then, and its page, are joined. #}
{% macro business_deadline(calendar_id, entered_at, hours_given, time, page, clock) -%}
    case
        when {{ calendar_id }} is null or {{ hours_given }} = 0
            then {{ entered_at }} + {{ time }}
        else {{ instant_of_clock(page, clock) }}
    end
{%- endmacro %}

{# The page of a reading of the business clock that is looked for backwards, to be joined
   likewise: hours before an opening end at the opening, not at the closing before it. #}
{% macro join_lead_page(page, calendar_id, clock) -%}
    left join {{ ref("stg_calendar_pages") }} as {{ page }}
        on
            {{ calendar_id }} = {{ page }}.calendar_id
            and {{ page }}.is_by_clock
            and ({{ clock }}::date - date '2000-01-01') >> 3 = {{ page }}.page
{%- endmacro %}

{# S11 backwards: the latest instant with so much business time from it to a
   deadline; elapsed time without a calendar; null where the calendar does not cover it.
   Not before the years that clients can read. The clock's reading then, and its page,
   are joined. #}
{% macro business_lead(calendar_id, deadline, time, page, clock) -%}
    {%- set place %}width_bucket({{ clock }}, {{ page }}.business_clock){% endset -%}
    case
        when {{ deadline }} is null then null
        when {{ calendar_id }} is not null and {{ time }} > interval '0'
            then
                (
                    {{ page }}.opens_at[{{ place }}]
                    + ({{ clock }} - {{ page }}.business_clock[{{ place }}])
                ) {{ in_utc() }}
        when {{ deadline }} - {{ time }} >= timestamptz '0001-01-01 00:00Z'
            then {{ deadline }} - {{ time }}
    end
{%- endmacro %}

{# S11: whole seconds of business time from one instant to another, by the readings of
   the clock at both; elapsed time without a calendar. #}
{% macro business_seconds(calendar_id, earlier, later, earlier_clock, later_clock) -%}
    case
        when {{ calendar_id }} is null then {{ seconds_between(earlier, later) }}
        else {{ seconds_between(earlier_clock, later_clock) }}
    end
{%- endmacro %}

{# A number of hours, at most six decimals. Whole microseconds, because an interval is
   multiplied in floating point. #}
{% macro hours(number) -%}
    (({{ number }}) * 3600000000)::bigint * interval '1 microsecond'
{%- endmacro %}

{# Whole seconds from one instant, or reading of a business clock, to another. #}
{% macro seconds_between(earlier, later) -%}
    floor(extract(epoch from {{ later }} - {{ earlier }}))::bigint
{%- endmacro %}

{# To or from UTC. Not by its name, which PostgreSQL would parse for every row. #}
{% macro in_utc() -%}
    at time zone interval '0'
{%- endmacro %}
