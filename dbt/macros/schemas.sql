{% macro generate_schema_name(custom_schema_name, node) -%}
    {# Published relations live in the target schema, staging beside it. -#}
    {{ target.schema ~ ("_" ~ custom_schema_name if custom_schema_name else "") }}
{%- endmacro %}
