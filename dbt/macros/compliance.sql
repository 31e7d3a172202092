{# S21, told here alone: what compliance is a share of. An open stay that is not yet due
   is on neither side. Whoever sums groups up divides sums of counts, never averages. #}
{% macro due_count(met, breached, overdue) -%}
    {{ met }} + {{ breached }} + {{ overdue }}
{%- endmacro %}

{# Null where nothing is due. #}
{% macro compliance_ratio(met, breached, overdue) -%}
    {{ met }}::double precision
    / nullif({{ due_count(met, breached, overdue) }}, 0)
{%- endmacro %}

{# The naive ratio of what has ended alone; it stands beside the other, never instead. #}
{% macro closed_compliance_ratio(met, breached) -%}
    {{ met }}::double precision / nullif({{ met }} + {{ breached }}, 0)
{%- endmacro %}
