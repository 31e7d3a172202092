{# The one clock (S15): a session may set status_engine.as_of; otherwise it is now. In
   what a build as of an instant makes, it stands at that instant. #}
{% macro as_of() -%}
    {%- if var("frozen_as_of") is not none -%}
        timestamptz '{{ var("frozen_as_of") }}'
    {%- else -%}
        coalesce(
            nullif(current_setting('status_engine.as_of', true), '')::timestamptz, now()
        )
    {%- endif -%}
{%- endmacro %}

{# The instant that status_as_of tells of; by default the clock. #}
{% macro at_instant() -%}
    coalesce(
        nullif(current_setting('status_engine.at', true), '')::timestamptz, {{ as_of() }}
    )
{%- endmacro %}

{# Up to when what was recorded counts in status_as_of; by default all does. #}
{% macro known_at() -%}
    coalesce(
        nullif(current_setting('status_engine.known_at', true), '')::timestamptz,
        'infinity'
    )
{%- endmacro %}
