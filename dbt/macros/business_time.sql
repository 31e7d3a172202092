{# S11: the instant at which a number of hours, at most six decimals, has run out.
   Elapsed time: whatever the clocks do, an hour has 3,600 seconds. Whole microseconds,
   because an interval is multiplied in floating point. #}
{% macro business_deadline(entered_at, hours) -%}
    {{ entered_at }}
    + ({{ hours }} * 3600000000)::bigint * interval '1 microsecond'
{%- endmacro %}

{# Whole seconds from one instant to another. #}
{% macro elapsed_seconds(entered_at, left_at) -%}
    floor(extract(epoch from {{ left_at }} - {{ entered_at }}))::bigint
{%- endmacro %}
