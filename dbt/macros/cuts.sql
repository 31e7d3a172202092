{# The cut a session reads (S17); null in a session that set none: it sees all. What a
   build as of an instant makes shows its own cut for ever. #}
{% macro session_cut() -%}
    {%- if var("frozen_cut") is not none -%}
        {{ var("frozen_cut") }}::bigint
    {%- else -%}
        nullif(current_setting('status_engine.cut', true), '')::bigint
    {%- endif -%}
{%- endmacro %}

{# Batches of the session's cut and all earlier ones; all, where none is set. #}
{% macro is_in_cut(batch_cut) -%}
    ({{ session_cut() }} is null or {{ batch_cut }} <= {{ session_cut() }})
{%- endmacro %}

{# The cut that all built tables are of, told by one of them: a limit would be one more
   node for every query to start. #}
{% macro built_cut() -%}
    (
        select built.cut from {{ ref("built_cuts") }} as built
        where built.relation_name = 'status_intervals'
    )
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

{# The tables that are no models. `definitions` names what a full build made, and by which
   files, once it is complete; releases that noted the SQL of each table called it so. #}
{% macro create_ledgers() %}
    create schema if not exists {{ target.schema }}_staging;
    create table if not exists {{ target.schema }}_staging.definitions (
        relation_name text primary key,
        definition text not null
    );
    create table if not exists {{ target.schema }}_staging.fingerprint (
        fingerprint text not null
    );
    create table if not exists {{ target.schema }}.tested_cuts (
        cut bigint primary key
    );
    create table if not exists {{ target.schema }}.verifications (
        cut bigint not null,
        found_at timestamptz not null,
        failure text,
        difference_count bigint,
        first_differences text
    );
    comment on table {{ target.schema }}.verifications is
    'One row per failed verification of these tables that nothing has mended since (failure says what was found), and one with failure null: the last cut of which they were, or equalled, a full build.';
    create table if not exists {{ changed_entities() }} (
        entity_type text,
        entity_id bigint,
        cut bigint not null,
        primary key (entity_type, entity_id)
    );
    create index if not exists changed_entities_cut on {{ changed_entities() }} (cut);
    comment on table {{ changed_entities() }} is
    'One row per entity of which a build changed rows of status_intervals or workflow_violations after the last full build (which begins with none): the last cut that did.'
{% endmacro %}

{# Whoever copies built tables, as publishing does, reads here what to copy again. #}
{% macro changed_entities() -%}
    {{ target.schema }}.changed_entities
{%- endmacro %}

{# A cut is tested when one run built everything and every data test passed; those of the
   whole belong to full builds. #}
{% macro record_tested_cut(results) %}
    {% if execute %}
        {% set passed = results | selectattr("status", "in", ["success", "pass"])
            | map(attribute="node.unique_id") | list %}
        {% set left = [] %}
        {% for node in graph.nodes.values()
            if node.resource_type in ("model", "test")
            and node.unique_id not in passed
            and (is_full_build() or "whole" not in node.tags) %}
            {% do left.append(node.unique_id) %}
        {% endfor %}
        {% if flags.WHICH == "build" and not left %}
            insert into {{ target.schema }}.tested_cuts (cut)
            values ({{ session_cut() }})
            on conflict do nothing
        {% endif %}
    {% endif %}
{% endmacro %}
