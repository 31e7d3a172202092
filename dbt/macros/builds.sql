{# How stored tables come about (S5, S17). A full build makes them whole, in a schema of
   its own that is swapped in afterwards. Any other derives all rows of the touched
   entities beside the published tables, and the model built_cuts then changes every
   table, and the number of its cut, in one transaction. #}

{# A unit test judges a model as a full build makes it. Tests without a build, as they are
   asked for by hand, judge all rows: nothing is fresh. #}
{% macro is_full_build() %}
    {{ return(
        flags.FULL_REFRESH
        or flags.WHICH == "test"
        or (model and model.resource_type == "unit_test")
    ) }}
{% endmacro %}

{# Restricts a relation with entity_type and entity_id, unless all is built. #}
{% macro only_touched() %}
    {%- if not is_full_build() -%}
        inner join {{ ref("touched_entities") }} using (entity_type, entity_id)
    {%- endif %}
{%- endmacro %}

{# The rows of a stored table that this build made: all, or those of touched entities. #}
{% macro fresh(relation) %}
    {{ return(relation if is_full_build() else changes_of(relation)) }}
{% endmacro %}

{# For a table that is added to: the stays that a build made, and those that it replaces,
   which are taken off. #}
{% macro stays_to_count(columns) -%}
    select
        {{ columns | join(", ") }},
        1 as sign
    from {{ fresh(ref("status_intervals")) }}
    {% if not is_full_build() -%}
    union all
    select
        {{ columns | join(", ") }},
        -1 as sign
    from {{ ref("status_intervals") }}
    inner join {{ ref("touched_entities") }} using (entity_type, entity_id)
    {%- endif %}
{%- endmacro %}

{% macro changes_of(relation) %}
    {{ return(api.Relation.create(
        database=relation.database,
        schema=target.schema ~ "_staging",
        identifier=relation.identifier ~ "_changes",
        type="table",
    )) }}
{% endmacro %}

{# Where the tables are that readers see while this build runs, and their build: schema,
   cut and its instant; none before the first build, and for one that is not published. #}
{% macro previous_build() %}
    {% if not execute or not var("is_published") %}{{ return(none) }}{% endif %}
    {% set schema = var("published_schema") if is_full_build() else target.schema %}
    {% set is_there = "select to_regclass('" ~ schema ~ ".built_cuts') is not null" %}
    {% if not run_query(is_there).columns[0].values()[0] %}{{ return(none) }}{% endif %}
    {% set found = run_query(
        "select cuts.cut, cuts.as_of::text from raw.cuts"
        " where cut = (select min(cut) from " ~ schema ~ ".built_cuts)"
    ) %}
    {% set row = found.rows[0] %}
    {{ return({"schema": schema, "cut": row[0] | int, "as_of": row[1]}) }}
{% endmacro %}

{# The columns of a relation of another build; none where it has no such relation. #}
{% macro columns_of(build, relation) %}
    {{ return(run_query(
        "select attname::text from pg_attribute where attnum > 0 and not attisdropped"
        " and attrelid = to_regclass('" ~ build.schema ~ "." ~ relation ~ "')"
    ).columns[0].values() | list) }}
{% endmacro %}

{# The last tested cut of what is published while this build runs, as a number that the
   planner knows; 0 where a full build asks, which reads everything. What came after it
   is judged again, also where it is built: a test may have failed since. #}
{% macro previous_cut() %}
    {% if execute and not is_full_build() %}
        {% set known = run_query(
            "select coalesce(max(tested.cut), max(built.cut), 0)"
            " from (select min(cut) as cut from " ~ target.schema ~ ".built_cuts) as built"
            " left join " ~ target.schema ~ ".tested_cuts as tested"
            " on built.cut >= tested.cut"
        ) %}
        {{ return(known.columns[0].values()[0] | int) }}
    {% endif %}
    {{ return(0) }}
{% endmacro %}

{# The cut of the rows that a build in part replaces, as a number; 0 where it makes all. #}
{% macro replaced_cut() %}
    {% if execute and not is_full_build() %}
        {% set built = run_query(
            "select min(cut) from " ~ target.schema ~ ".built_cuts"
        ) %}
        {{ return(built.columns[0].values()[0] | int) }}
    {% endif %}
    {{ return(0) }}
{% endmacro %}

{# The process that began this build holds its lock in a session of its own. If that
   was killed, another build may be at work: its dbt must not go on. #}
{% macro require_builder() %}
    {% set held = run_query(
        "select exists ("
        "    select from pg_locks"
        "    where locktype = 'advisory' and granted and database = ("
        "        select oid from pg_database where datname = current_database()"
        "    ) and pid = current_setting('status_engine.builder', true)::integer"
        ")"
    ).columns[0].values()[0] %}
    {% if not held %}
        {{ exceptions.raise_compiler_error(
            "The process that began this build has ended. Run status-engine build."
        ) }}
    {% endif %}
{% endmacro %}

{# A table that one build needs and nobody else reads. -#}
{% materialization scratch_table, adapter="postgres" -%}
    {%- set target_relation = this.incorporate(type="table") -%}
    {% do require_builder() %}
    {% do adapter.drop_relation(load_cached_relation(this) or target_relation) %}
    {% call statement("main") -%}
        create unlogged table {{ target_relation }} as (
            {{ sql }}
        );
        analyze {{ target_relation }}
    {%- endcall %}
    {{ adapter.commit() }}
    {{ return({"relations": [target_relation]}) }}
{%- endmaterialization %}

{# A stored table. Its YAML says by `change` how a build changes it (replace: the rows of
   touched entities; whole; add: counts; append), its file by `keys` its primary key and
   indexes by name. -#}
{% materialization cut_table, adapter="postgres" -%}
    {%- set target_relation = this.incorporate(type="table") -%}
    {% do require_builder() %}
    {%- if is_full_build() %}
        {% call statement("main") -%}
            {% if config.get("contract").enforced %}
                {{ get_assert_columns_equivalent(sql) }}
            {% endif %}
            create table {{ target_relation }} as (
                {{ sql }}
            );
            {{ constraints_and_keys(target_relation) }}
            analyze {{ target_relation }}
        {%- endcall %}
        {% do write_comments(target_relation) %}
    {%- else %}
        {% do require_as_built(target_relation) %}
        {%- set changes = changes_of(target_relation) %}
        {% call statement("main") -%}
            {% if config.get("contract").enforced %}
                {{ get_assert_columns_equivalent(sql) }}
            {% endif %}
            drop table if exists {{ changes }};
            create unlogged table {{ changes }} as (
                {{ sql }}
            );
            analyze {{ changes }}
        {%- endcall %}
    {%- endif %}
    {{ adapter.commit() }}
    {{ return({"relations": [target_relation]}) }}
{%- endmaterialization %}

{# The constraints of the contract, and what the file names as keys. #}
{% macro constraints_and_keys(relation) -%}
    {%- set clauses = [] -%}
    {%- for column in model.columns.values() -%}
        {%- for constraint in column.constraints -%}
            {%- if constraint.type == "not_null" -%}
                {%- do clauses.append("alter column " ~ column.name ~ " set not null") -%}
            {%- else -%}
                {%- do clauses.append("add check (" ~ constraint.expression ~ ")") -%}
            {%- endif -%}
        {%- endfor -%}
    {%- endfor -%}
    {% if clauses %}alter table {{ relation }} {{ clauses | join(", ") }};{% endif %}
    {% for name, key in config.get("keys").items() -%}
        {% if key.startswith("primary key") -%}
            alter table {{ relation }} add constraint {{ name }} {{ key }};
        {% elif key.startswith("unique ") -%}
            create unique index {{ name }} on {{ relation }} {{ key[7:] }};
        {% else -%}
            create index {{ name }} on {{ relation }} {{ key }};
        {% endif -%}
    {% endfor -%}
{%- endmacro %}

{# Only what is as it was built may be changed in part. That it was built by these very
   files is known before dbt starts; what others did to it since, is not. #}
{% macro require_as_built(relation) %}
    {% set again = " Run status-engine build --full-refresh." %}
    {% set columns = adapter.get_columns_in_relation(relation)
        | map(attribute="name") | sort %}
    {% if model.columns and columns != model.columns.keys() | sort %}
        {{ exceptions.raise_compiler_error(
            "Table " ~ relation.identifier ~ " has other columns than its model." ~ again
        ) }}
    {% endif %}
    {% set found = run_query(
        "select relname::text from pg_index inner join pg_class on indexrelid = oid"
        " where indisvalid and indrelid = '" ~ relation.include(database=False)
        ~ "'::regclass"
    ).columns[0].values() | list %}
    {% for name in config.get("keys") if name not in found %}
        {{ exceptions.raise_compiler_error(
            "Table " ~ relation.identifier ~ " lacks its key " ~ name ~ "." ~ again
        ) }}
    {% endfor %}
{% endmacro %}

{# The last model of a build: all tables and their cut in one transaction, so that no
   reader sees two cuts. Its tests have passed by then. -#}
{% materialization publication, adapter="postgres" -%}
    {%- set target_relation = this.incorporate(type="table") -%}
    {%- set outgrown = [] if is_full_build() else outgrown_tables() -%}
    {% do require_builder() %}
    {% call statement("main") -%}
        {% if is_full_build() -%}
            create table {{ target_relation }} as (
                {{ sql }}
            );
            alter table {{ target_relation }} add primary key (relation_name),
            alter column cut set not null
        {%- else -%}
            {% for node in graph.nodes.values()
                if node.config.materialized == "cut_table" -%}
                {{ apply_changes(node) }}
            {% endfor -%}
            {% if outgrown -%}
                analyze {{ outgrown | join(", ") }};
            {% endif -%}
            insert into {{ target_relation }} as built (relation_name, cut)
            {{ sql }}
            on conflict (relation_name) do update set cut = excluded.cut
        {%- endif %}
    {%- endcall %}
    {% if is_full_build() %}{% do write_comments(target_relation) %}{% endif %}
    {{ adapter.commit() }}
    {{ return({"relations": [target_relation]}) }}
{%- endmaterialization %}

{# Tables that more than a tenth of what was there comes to: what the planner knows of
   them is of a smaller one, and autovacuum may come late, or never. #}
{% macro outgrown_tables() %}
    {% set found = [] %}
    {% for node in graph.nodes.values() if node.config.materialized == "cut_table" %}
        {% set built = built_table(node) %}
        {% set share = "1.1" if node.config.meta.change == "whole" else "0.1" %}
        {% set has_outgrown = run_query(
            "select come.reltuples > " ~ share ~ " * greatest(built.reltuples, 0)"
            " from pg_class as come cross join pg_class as built"
            " where come.oid = '" ~ changes_of(built).include(database=False)
            ~ "'::regclass and built.oid = '" ~ built.include(database=False)
            ~ "'::regclass"
        ).columns[0].values()[0] %}
        {% if has_outgrown %}{% do found.append(built) %}{% endif %}
        {% if has_outgrown and node.alias == "status_intervals" %}
            {% do found.append(changed_entities()) %}
        {% endif %}
    {% endfor %}
    {{ return(found) }}
{% endmacro %}

{# Names of the published schema's stored tables, for the model that is made after all. #}
{% macro stored_tables() %}
    {% set found = [] %}
    {% for node in (graph.nodes.values() if execute else [])
        if node.config.materialized == "cut_table" %}
        {% if node.unique_id not in model.depends_on.nodes %}
            {{ exceptions.raise_compiler_error(
                "Table " ~ node.name ~ " is stored, so " ~ model.path ~ " must name it: "
                "-- depends_on: {{ ref(\"" ~ node.name ~ "\") }}"
            ) }}
        {% endif %}
        {% if not node.config.schema %}{% do found.append(node.alias) %}{% endif %}
    {% endfor %}
    {{ return(found | sort) }}
{% endmacro %}

{% macro built_table(node) %}
    {{ return(api.Relation.create(
        database=this.database,
        schema=generate_schema_name(node.config.schema, node),
        identifier=node.alias,
    )) }}
{% endmacro %}

{# Rows that are as they were stay where they are: of an entity with a thousand stays a
   new transition changes one. #}
{% macro apply_changes(node) -%}
    {%- set built = built_table(node) -%}
    {%- set changes = changes_of(built) -%}
    {%- set names = adapter.get_columns_in_relation(changes) | map(attribute="name")
        | list -%}
    {%- set key = node.config.meta.grain -%}
    {%- if node.config.meta.change == "replace" -%}
        with gone as (
            delete from {{ built }} as built
            using {{ ref("touched_entities") }} as touched
            where
                built.entity_type = touched.entity_type
                and built.entity_id = touched.entity_id
                and not exists (
                    select from {{ changes }} as changed
                    where
                        {%- for name in key %}
                        changed.{{ name }} = built.{{ name }} and
                        {%- endfor %}
                        {{ row_of("changed", names) }} is not distinct from
                        {{ row_of("built", names) }}
                )
            returning built.entity_type, built.entity_id
        )

        {{ record_changed("gone") }};
        with come as (
            insert into {{ built }} ({{ names | join(", ") }})
            select {{ names | join(", ") }} from {{ changes }}
            -- Those that stayed are as they are. An anti-join would be planned for the
            -- rows that there are before, and nest loops over those that come.
            on conflict ({{ key | join(", ") }}) do nothing
            returning entity_type, entity_id
        )

        {{ record_changed("come") }};
    {%- elif node.config.meta.change == "add" -%}
        insert into {{ built }} as built ({{ names | join(", ") }})
        select {{ names | join(", ") }} from {{ changes }}
        on conflict ({{ key | join(", ") }}) do update set
        {%- for name in node.config.meta.sums %}
            {{ name }} = built.{{ name }} + excluded.{{ name }}
            {%- if not loop.last %},{% endif %}
        {%- endfor %};
        delete from {{ built }} as built
        using {{ changes }} as changed
        where
            built.{{ key[0] }} = changed.{{ key[0] }}
            {%- for name in node.config.meta.sums %}
            and built.{{ name }} = 0
            {%- endfor %};
    {%- else -%}
        {% if node.config.meta.change == "whole" %}delete from {{ built }};{% endif %}
        insert into {{ built }} ({{ names | join(", ") }})
        select {{ names | join(", ") }} from {{ changes }};
    {%- endif %}
{%- endmacro %}

{# Their entities, as changed by this cut. #}
{% macro record_changed(rows) -%}
    insert into {{ changed_entities() }} as known (entity_type, entity_id, cut)
    select distinct entity_type, entity_id, {{ session_cut() }} from {{ rows }}
    on conflict (entity_type, entity_id) do update set cut = excluded.cut
    -- Several tables change with an entity.
    where known.cut <> excluded.cut
{%- endmacro %}

{% macro row_of(alias, names) -%}
    row({% for name in names %}{{ alias }}.{{ name }}{% if not loop.last %}, {% endif %}{% endfor %})
{%- endmacro %}
