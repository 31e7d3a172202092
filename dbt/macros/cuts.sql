{# The cut a session reads (S17); null in a session that set none: it sees all. #}
{% macro session_cut() -%}
    nullif(current_setting('status_engine.cut', true), '')::bigint
{%- endmacro %}

{# Batches of the session's cut and all earlier ones; all, where none is set. #}
{% macro is_in_cut(batch_cut) -%}
    ({{ session_cut() }} is null or {{ batch_cut }} <= {{ session_cut() }})
{%- endmacro %}

{# The newest cut that all built tables hold; 0 before the first build. #}
{% macro built_cut() -%}
    (select coalesce(min(built.cut), 0) from {{ built_cuts() }} as built)
{%- endmacro %}

{% macro built_cuts() -%}
    {{ target.schema }}.built_cuts
{%- endmacro %}

{# A run without a cut would read different batches in each of its models. #}
{% macro require_cut() %}
    {% if execute and flags.WHICH in ("build", "run", "test") %}
        {% set cut = run_query("select " ~ session_cut()).columns[0].values()[0] %}
        {% if cut is none %}
            {{ exceptions.raise_compiler_error(
                "This session has no cut. Run it through: status-engine build."
            ) }}
        {% endif %}
    {% endif %}
{% endmacro %}

{% macro create_built_cuts() %}
    create table if not exists {{ built_cuts() }} (
        relation_name text primary key,
        cut bigint not null
    );
    create table if not exists {{ target.schema }}.tested_cuts (
        cut bigint primary key
    )
{% endmacro %}

{# Recorded in the transaction that changes the rows. #}
{% macro record_cut() %}
    insert into {{ built_cuts() }} as built (relation_name, cut)
    values ('{{ this.identifier }}', {{ session_cut() }})
    on conflict (relation_name) do update set cut = excluded.cut
{% endmacro %}

{# A cut is tested when one run built everything and every data test passed. #}
{% macro record_tested_cut(results) %}
    {% if execute %}
        {% set ran = results | selectattr("status", "in", ["success", "pass"]) | list %}
        {% set wanted = graph.nodes.values()
            | selectattr("resource_type", "in", ["model", "test"]) | list %}
        {% set passed = ran | map(attribute="node.unique_id") | list %}
        {% set left = wanted | rejectattr("unique_id", "in", passed) | list %}
        {% if flags.WHICH == "build" and not left %}
            insert into {{ target.schema }}.tested_cuts (cut)
            values ({{ session_cut() }})
            on conflict do nothing
        {% endif %}
    {% endif %}
{% endmacro %}
