{# The one clock (S15): a session may set status_engine.as_of; otherwise it is now. #}
{% macro as_of() -%}
    coalesce(
        nullif(current_setting('status_engine.as_of', true), '')::timestamptz, now()
    )
{%- endmacro %}
