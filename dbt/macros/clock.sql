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
