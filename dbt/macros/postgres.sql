{# dbt renames and drops views, and with them what depends on them, while people
   read. Replacing in place needs no exclusive moment; other columns need
   --full-refresh. -#}
{% macro postgres__create_view_as(relation, sql) -%}
    {%- set contract = config.get("contract") -%}
    {%- if contract and contract.enforced %}{{ get_assert_columns_equivalent(sql) }}{% endif %}
    create or replace view {{ relation }} as (
        {{ sql }}
    );
{%- endmacro %}

{% materialization view, adapter="postgres" -%}
    {%- set existing = load_cached_relation(this) -%}
    {%- set target_relation = this.incorporate(type="view") -%}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {% if existing is not none and (existing.type != "view" or should_full_refresh()) %}
        {% do adapter.drop_relation(existing) %}
    {% endif %}
    {% call statement("main") -%}
        {{ get_create_view_as_sql(target_relation, sql) }}
    {%- endcall %}
    {% do persist_docs(target_relation, model) %}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({"relations": [target_relation]}) }}
{%- endmaterialization %}

{# Whether a JSON object holds all members of another. #}
{% macro json_contains(whole, part) -%}
    {{ whole }} @> {{ part }}
{%- endmacro %}

{# One member of a JSON object as text; null where it is absent. #}
{% macro json_text(object, member) -%}
    ({{ object }} ->> '{{ member }}')
{%- endmacro %}

{# The number of leaf values of a JSON object (S8). #}
{% macro json_leaf_count(object) -%}
    (
        select count(*)
        from jsonb_path_query({{ object }}, 'strict $.**') as part
        where jsonb_typeof(part) not in ('object', 'array')
    )
{%- endmacro %}

{# A UUID that follows from a text. #}
{% macro uuid_of(text) -%}
    md5({{ text }})::uuid
{%- endmacro %}

{# The members of a JSON object, a row each: name, value as text. #}
{% macro json_members(object) -%}
    jsonb_each_text({{ object }})
{%- endmacro %}
