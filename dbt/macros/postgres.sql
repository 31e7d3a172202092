{# A view that is there stays untouched: it was made by these very files, or all would be
   built anew. dbt's own renames and drops it, and with it what depends on it, while
   people read. -#}
{% materialization standing_view, adapter="postgres" -%}
    {%- set target_relation = this.incorporate(type="view") -%}
    {% if load_cached_relation(this) is not none %}
        {% call noop_statement("main", "UNCHANGED") %}{% endcall %}
    {% else %}
        {% do require_builder() %}
        {% call statement("main") -%}
            {{ get_create_view_as_sql(target_relation, sql) }}
        {%- endcall %}
        {% do write_comments(target_relation) %}
        {% do adapter.commit() %}
    {% endif %}
    {{ return({"relations": [target_relation]}) }}
{%- endmaterialization %}

{# What YAML says of a model and its columns, in one statement. dbt's own `persist_docs`
   first asks twice which columns there are, a fifth of the time of a small build; a
   contract has them all, and of one that is not there PostgreSQL says so. -#}
{% macro write_comments(relation) %}
    {% if config.persist_relation_docs() %}
        {% call statement("comments") -%}
            {{ alter_relation_comment(relation, model.description) }}
            {%- for column in model.columns.values() %}
            comment on column {{ relation }}.{{ column.name }}
            is {{ postgres_escape_comment(column.description) }};
            {%- endfor %}
        {%- endcall %}
    {% endif %}
{% endmacro %}

{# A function, one a list of arguments in `overloads`. Its body is parsed now, so it
   follows its relations when a schema is renamed. It reads with its owner's rights, as the
   views do, or who may read these would be refused while something waits for a build, and
   raw tables would have to be opened to who asks a calendar. Strict, because PostgreSQL
   would else put the body of one that returns stays, with some forty nodes to start, into
   every query that may need it; `options` says otherwise. One that is there stays, as a view
   does. -#}
{% materialization owner_function, adapter="postgres" -%}
    {%- set options = "language sql stable security definer parallel safe "
        ~ config.get("options", "strict") -%}
    {%- set overloads = config.get("overloads", [""]) -%}
    {%- set name = this.include(database=False) -%}
    {%- set found = run_query(
        "select count(*) from pg_proc inner join pg_namespace as n on pronamespace = n.oid"
        " where nspname = '" ~ this.schema ~ "' and proname = '" ~ this.identifier ~ "'"
    ).columns[0].values()[0] -%}
    {% if found == overloads | length %}
        {% call noop_statement("main", "UNCHANGED") %}{% endcall %}
    {% else %}
        {% do require_builder() %}
        {% call statement("main") -%}
            {%- for given in overloads %}
            create or replace function {{ name }}({{ given }})
            returns {% if config.get("returns") %}{{ config.get("returns") }}{% else -%}
            table ({% for column, type in current_types().items() %}
                {{- column }} {{ type }}{{ ", " if not loop.last }}
            {%- endfor %})
            {%- endif %}
            {{ options }}
            begin atomic
                {{ sql }};
            end;
            comment on function {{ name }}({{
                modules.re.sub(" default [^,]+", "", given)
            }})
            is '{{ model.description | replace("'", "''") }}';
            {%- endfor %}
        {%- endcall %}
        {% do adapter.commit() %}
    {% endif %}
    {{ return({"relations": []}) }}
{%- endmaterialization %}

{# Of a column, an array of the values that 50, 90, 99 and 100 % of the rows do not
   exceed; null counts on no side. #}
{% macro quantiles(column) -%}
    percentile_disc(array[0.5, 0.9, 0.99, 1]) within group (order by {{ column }})
{%- endmacro %}

{# Whether a JSON object holds all members of another. #}
{% macro json_contains(whole, part) -%}
    {{ whole }} @> {{ part }}
{%- endmacro %}

{# Whether a JSON object has a member. #}
{% macro json_has(object, member) -%}
    ({{ object }} ? {{ member }})
{%- endmacro %}

{# One member of a JSON object as text; null where it is absent. #}
{% macro json_text(object, member) -%}
    ({{ object }} ->> '{{ member }}')
{%- endmacro %}

{# One member of a JSON object as a number; null where it is absent, or none. #}
{% macro json_number(object, member) -%}
    case jsonb_typeof({{ object }} -> '{{ member }}')
        when 'number' then ({{ object }} ->> '{{ member }}')::numeric
    end
{%- endmacro %}

{# The elements of a list that is a member of a JSON object, a row each; none where it is
   absent, or no list. #}
{% macro json_elements(object, member) -%}
    jsonb_array_elements(
        case jsonb_typeof({{ object }} -> '{{ member }}')
            when 'array' then {{ object }} -> '{{ member }}'
        end
    )
{%- endmacro %}

{# The texts of a JSON array as one, in an order of their own; null where it has none. #}
{% macro json_text_list(list) -%}
    (
        select string_agg(told.text, ', ' order by told.text collate "C")
        from jsonb_array_elements_text({{ list }}) as told (text)
    )
{%- endmacro %}

{# The number of leaf values of a JSON object (S8). #}
{% macro json_leaf_count(object) -%}
    (
        select count(*)
        from jsonb_path_query({{ object }}, 'strict $.**') as part
        where jsonb_typeof(part) not in ('object', 'array')
    )
{%- endmacro %}

{# An instant in ISO 8601, UTC: inside JSON it would be in the session's zone (S1). #}
{% macro instant_text(instant) -%}
    to_char(
        {{ instant }} at time zone interval '0', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'
    )
{%- endmacro %}

{# A UUID that follows from a text. #}
{% macro uuid_of(text) -%}
    md5({{ text }})::uuid
{%- endmacro %}

{# A UUID that follows from values, nulls among them, and from their order. #}
{% macro uuid_of_row(values) -%}
    md5(row({{ values | join(", ") }})::text)::uuid
{%- endmacro %}

{# The members of a JSON object, a row each: name, value as text. #}
{% macro json_members(object) -%}
    jsonb_each_text({{ object }})
{%- endmacro %}

{# The id of an entity that a text says, in digits only; null where it says none. #}
{% macro id_of_text(name) -%}
    case
        when {{ name }} ~ '^(0|[1-9][0-9]{0,18})$'
            then
                case
                    when {{ name }}::numeric <= 9223372036854775807
                        then {{ name }}::bigint
                end
    end
{%- endmacro %}
