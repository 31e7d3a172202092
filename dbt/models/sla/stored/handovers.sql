{{ config(
    materialized="cut_table",
    keys={"handovers_pkey": "primary key (group_id)"},
) }}
-- depends_on: {{ ref("touched_entities") }}
-- depends_on: {{ ref("stg_batches") }}
-- depends_on: {{ ref("stg_transitions") }}
-- depends_on: {{ source("raw", "user_accounts") }}
-- One row per UTC day, entity type and two parties, the second of which made the
-- transition that followed one of the first. A build adds what the transitions of
-- touched entities tell, and takes off what those of the cut before told, with the
-- users as they were known then: no row of a transition is kept for it.
{% set replaced = "(select * from " ~ ref("stg_batches") ~ " where batch_cut <= "
    ~ replaced_cut() ~ ") as replaced" %}
with

users as (
    select
        user_id,
        {{ json_text_list("roles") }} as roles,
        in_force_from,
        in_force_until,
        1 as sign
    from {{ ref("stg_user_accounts") }}
    {% if not is_full_build() -%}
    union all
    select
        user_id,
        {{ json_text_list("roles") }} as roles,
        in_force_from,
        in_force_until,
        -1 as sign
    from ({{ user_accounts_of(replaced) }}) as replaced
    {%- endif %}
),

transitions as (
    select
        entity_type,
        entity_id,
        created_at,
        source_order,
        batch_id,
        batch_row,
        triggered_by_user_id,
        triggered_by_system,
        1 as sign
    from {{ ref("pinned_transitions") }}
    {{ only_touched() }}
    {% if not is_full_build() -%}
    union all
    select
        entity_type,
        entity_id,
        created_at,
        source_order,
        batch_id,
        batch_row,
        triggered_by_user_id,
        triggered_by_system,
        -1 as sign
    from {{ ref("stg_transitions") }}
    {{ only_touched() }}
    where batch_cut <= {{ replaced_cut() }}
    {%- endif %}
),

following as (
    select
        *,
        lag(created_at) over entity as previous_at,
        lag(triggered_by_user_id) over entity as previous_user_id,
        lag(triggered_by_system) over entity as previous_system
    from transitions
    window entity as (
        partition by sign, entity_type, entity_id
        order by created_at, source_order, batch_id, batch_row
    )
),

-- Of the others nobody is named, or it is the same.
handed as (
    select
        following.sign,
        following.entity_type,
        following.created_at,
        following.previous_at,
        following.previous_user_id::text as previous_user,
        following.triggered_by_user_id::text as next_user,
        following.previous_system,
        following.triggered_by_system as next_system,
        givers.roles as previous_roles,
        takers.roles as next_roles
    from following
    left join users as givers
        on
            following.sign = givers.sign
            and following.previous_user_id = givers.user_id
            and {{ is_within("following.previous_at", "givers.in_force") }}
    left join users as takers
        on
            following.sign = takers.sign
            and following.triggered_by_user_id = takers.user_id
            and {{ is_within("following.created_at", "takers.in_force") }}
    where
        following.previous_user_id <> following.triggered_by_user_id
        or following.previous_system <> following.triggered_by_system
),

grouped as (
    select
        (handed.created_at {{ in_utc() }})::date as handed_over_on,
        handed.entity_type,
        parties.kind,
        parties.from_party,
        parties.to_party,
        sum(handed.sign) as handover_count,
        sum(
            {{ seconds_between("handed.previous_at", "handed.created_at") }}
            * handed.sign
        )::bigint as elapsed_seconds
    from handed
    cross join
        lateral (
            values
            ('user', previous_user, next_user),
            -- Whose roles changed hands nothing over.
            (
                'role',
                case when previous_user <> next_user then previous_roles end,
                next_roles
            ),
            ('system', previous_system, next_system)
        ) as parties (kind, from_party, to_party)
    where parties.from_party <> parties.to_party
    group by
        (handed.created_at {{ in_utc() }})::date,
        handed.entity_type,
        parties.kind,
        parties.from_party,
        parties.to_party
)

select
    {{ uuid_of_row([
        "to_char(handed_over_on, 'YYYY-MM-DD')", "entity_type", "kind", "from_party",
        "to_party",
    ]) }} as group_id,
    handed_over_on,
    entity_type,
    kind,
    from_party,
    to_party,
    handover_count,
    elapsed_seconds
from grouped
where (handover_count, elapsed_seconds) <> (0, 0)
