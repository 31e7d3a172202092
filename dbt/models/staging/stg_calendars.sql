-- One row per calendar version (S9, S12). [in_force_from, in_force_until); the first
-- version holds for the time before.
{% if var("is_supposed") -%}
{{ supposed_calendars(ref("stg_batches")) }}
{%- else -%}
{{ calendars_of(ref("stg_batches")) }}
{%- endif %}
