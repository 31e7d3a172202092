-- raw.record_transition judges one live transition and appends it with its ledger row.
-- What it says of stays, workflows and violations is what dbt derives of them later;
-- tests hold the two equal. Each statement costs some 10 microseconds: there are
-- few, of few columns.

create type raw.recorded_transition as (
    id uuid,
    created_at timestamptz,
    from_status text,
    to_status text,
    batch_id bigint,
    workflow_id uuid,
    workflow_name text,
    step_id uuid,
    sla_deadline timestamptz,
    deadline_source text
);

-- S11: when a step's hours have run out. Elapsed time, in whole microseconds, because
-- an interval is multiplied in floating point.
create function raw.deadline_of(
    workflow_id uuid, entered_at timestamptz, sla_hours numeric
) returns timestamptz
language sql stable as $$
    select entered_at + (sla_hours * 3600000000)::bigint * interval '1 microsecond'
$$;

-- S8: the active versions that an entity's first transition matches, in force or not.
-- The lower rank is the more specific.
create function raw.matching_workflows(of_type text, context jsonb)
returns table (
    workflow_name text, business_entity_id uuid, created_at timestamptz, rank integer[]
)
language sql stable as $$
    select
        w.workflow_name,
        w.business_entity_id,
        w.created_at,
        array[
            (w.business_entity_id is null)::integer,
            -(
                select count(*)
                from jsonb_path_query(w.conditions, 'strict $.**') as part
                where jsonb_typeof(part) not in ('object', 'array')
            )::integer,
            (not w.is_default)::integer
        ]
    from raw.status_workflows as w
    where
        w.entity_type = of_type
        and w.is_active
        and (
            w.business_entity_id is null
            or w.business_entity_id::text = lower(context ->> 'business_entity_id')
        )
        and coalesce(context, '{}') @> w.conditions
$$;

-- S7 and S8: the version, at an instant, of the workflow that binds an entity by its
-- first transition; null where none does.
create function raw.workflow_at(
    instant timestamptz, of_type text, bound_at timestamptz, bound_context jsonb
) returns uuid
language plpgsql stable as $$
declare
    bound record;
begin
    -- The best of those in force; else of those that were applied first, later on.
    select w.workflow_name, w.business_entity_id, w.created_at
    into bound
    from raw.matching_workflows(of_type, bound_context) as w
    where
        not exists (
            select from raw.status_workflows as other
            where
                other.entity_type = of_type
                and other.workflow_name = w.workflow_name
                and other.business_entity_id is not distinct from w.business_entity_id
                and case
                    when w.created_at <= bound_at
                        then
                            other.created_at > w.created_at
                            and other.created_at <= bound_at
                    else other.created_at < w.created_at
                end
        )
    order by
        greatest(w.created_at, bound_at), w.rank, w.workflow_name collate "C"
    limit 1;
    -- They hold for a history older than the configuration, and for no other.
    if bound.created_at > bound_at then
        perform from raw.matching_workflows(of_type, bound_context) as w
        where
            w.created_at <= bound_at
            and not exists (
                select from raw.status_workflows as other
                where
                    other.entity_type = of_type
                    and other.workflow_name = w.workflow_name
                    and other.business_entity_id
                    is not distinct from w.business_entity_id
                    and other.created_at < w.created_at
            );
        if found then
            return null;
        end if;
    end if;
    -- The last active version by then, else the first.
    return (
        select w.id
        from raw.status_workflows as w
        where
            w.entity_type = of_type
            and w.workflow_name = bound.workflow_name
            and w.business_entity_id is not distinct from bound.business_entity_id
            and w.is_active
        order by
            case when w.created_at <= instant then w.created_at end desc nulls last,
            w.created_at
        limit 1
    );
end
$$;

-- A stored transition, with what its stay is under by then (S3, S9, S10).
create function raw.recorded(stored raw.status_transitions)
returns raw.recorded_transition
language plpgsql stable as $$
declare
    first record;
    before record;
    stay record;
    step record;
    version_id uuid;
    deadline timestamptz;
begin
    select t.created_at, t.business_context into first
    from raw.status_transitions as t
    where t.entity_type = stored.entity_type and t.entity_id = stored.entity_id
    order by t.created_at, t.batch_id, t.batch_row
    limit 1;

    select t.created_at, t.batch_id, t.batch_row into before
    from raw.status_transitions as t
    where
        t.entity_type = stored.entity_type
        and t.entity_id = stored.entity_id
        and (t.created_at, t.batch_id, t.batch_row)
        < (stored.created_at, stored.batch_id, stored.batch_row)
        and t.to_status <> stored.to_status
    order by t.created_at desc, t.batch_id desc, t.batch_row desc
    limit 1;

    select
        min(t.created_at) as entered_at,
        (
            array_agg(
                t.sla_deadline
                order by t.created_at desc, t.batch_id desc, t.batch_row desc
            ) filter (where t.sla_deadline is not null)
        )[1] as explicit_deadline
    into stay
    from raw.status_transitions as t
    where
        t.entity_type = stored.entity_type
        and t.entity_id = stored.entity_id
        and (t.created_at, t.batch_id, t.batch_row)
        <= (stored.created_at, stored.batch_id, stored.batch_row)
        and (t.created_at, t.batch_id, t.batch_row) > (
            coalesce(before.created_at, '-infinity'),
            coalesce(before.batch_id, 0),
            coalesce(before.batch_row, 0)
        );

    version_id := raw.workflow_at(
        stay.entered_at, stored.entity_type, first.created_at, first.business_context
    );
    select w.workflow_name, s.id, s.sla_hours, s.is_final into step
    from raw.status_workflows as w
    left join raw.status_workflow_steps as s
        on w.id = s.workflow_id and s.status_name = stored.to_status
    where w.id = version_id;
    if version_id is not null and step.is_final is not true then
        deadline := coalesce(
            stay.explicit_deadline,
            raw.deadline_of(version_id, stay.entered_at, step.sla_hours)
        );
    end if;
    return (
        stored.id, stored.created_at, stored.from_status, stored.to_status,
        stored.batch_id, version_id, step.workflow_name, step.id, deadline,
        case
            when deadline is null then null
            when stay.explicit_deadline is null then 'workflow'
            else 'explicit'
        end
    );
end
$$;

-- Those of two users that no configuration names, as one text; null where none is.
create function raw.unknown_users(triggering text, approving text) returns text
language plpgsql stable as $$
begin
    return (
        select string_agg(distinct named.id, ', ')
        from unnest(array[triggering, approving]) as named (id)
        where
            named.id is not null
            and not exists (
                select from raw.user_accounts as a
                where
                    a.id = case
                        when named.id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
                            then named.id::uuid
                    end
            )
    );
end
$$;

-- Whether a known user is active and has a role: by the last version of the account at
-- an instant, else by its first.
create function raw.has_role(user_id uuid, role text, instant timestamptz)
returns boolean
language plpgsql stable as $$
begin
    return (
        select a.is_active and a.roles @> to_jsonb(role)
        from raw.user_accounts as a
        where a.id = user_id
        order by
            case when a.created_at <= instant then a.created_at end desc nulls last,
            a.created_at
        limit 1
    );
end
$$;

-- Raise SQLSTATE SE001; the broken rule is its constraint.
create function raw.refuse(rule text, facts jsonb) returns void
language plpgsql as $$
declare
    subject constant text := format(
        '%s %s can''t go to %L',
        facts ->> 'entity_type', facts ->> 'entity_id', facts ->> 'to_status'
    );
    current constant text := coalesce(
        'status ' || quote_literal(facts ->> 'current_status'), 'no status yet'
    );
    expected constant text := coalesce(
        'status ' || quote_literal(facts ->> 'expected_status'), 'no status yet'
    );
    allowed constant text := coalesce(
        (
            select string_agg(quote_literal(name), ', ')
            from jsonb_array_elements_text(facts -> 'allowed') as name
        ),
        'nothing'
    );
    known constant text := (
        select string_agg(quote_literal(s.status_name), ', ' order by s.step_order)
        from raw.status_workflow_steps as s
        where s.workflow_id = (facts ->> 'workflow_id')::uuid
    );
begin
    raise exception using errcode = 'SE001', constraint = rule, message = case rule
        when 'unknown_status' then format(
            '%s: workflow %L has no such status; it has %s.',
            subject, facts ->> 'workflow_name', known
        )
        when 'illegal_transition' then format(
            '%s from %s; workflow %L allows %s.',
            subject, current, facts ->> 'workflow_name', allowed
        )
        when 'left_final' then format(
            '%s: it is in the final %s; workflow %L allows %s.',
            subject, current, facts ->> 'workflow_name', allowed
        )
        when 'unknown_user' then format(
            '%s: user %s is unknown; apply a user_accounts file with it first.',
            subject, raw.unknown_users(facts ->> 'triggering', facts ->> 'approving')
        )
        when 'missing_approval' then format(
            '%s without approval; name a user with role %L as triggered_by_user_id, '
            'or as approved_by_user_id in business_context.',
            subject, facts ->> 'approval_role'
        )
        when 'wrong_role' then format(
            '%s: user %s is not active with role %L at %s; one who is must approve it.',
            subject, coalesce(facts ->> 'approving', facts ->> 'triggering'),
            facts ->> 'approval_role', facts ->> 'created_at'
        )
        when 'expected_status' then format(
            '%s: it has %s, where %s was expected. Read its status and decide again.',
            subject, current, expected
        )
        when 'concurrent_writer' then format(
            '%s: another writer was first, it now has %s. '
            'Read its status and decide again.',
            subject, current
        )
        when 'created_at_is_earlier' then format(
            '%s at %s: it has %s since %s. Ingest a late transition as a file.',
            subject, facts ->> 'created_at', current, facts ->> 'current_since'
        )
        when 'id_conflict' then format(
            '%s: id %s is that of another transition. Use a new id.',
            subject, facts ->> 'id'
        )
        when 'isolation_level' then format(
            '%s in a transaction that is %s. Record in one that is read committed.',
            subject, current_setting('transaction_isolation')
        )
        else format('%s: it breaks %s.', subject, rule)
    end;
end
$$;

create function raw.record_transition(
    entity_type text,
    entity_id bigint,
    to_status text,
    expected_status text default null,
    is_first boolean default false,
    created_at timestamptz default null,
    transition_reason text default null,
    business_context jsonb default null,
    triggered_by_user_id uuid default null,
    triggered_by_system text default null,
    sla_deadline timestamptz default null,
    is_milestone boolean default null,
    metadata jsonb default null,
    id uuid default null,
    source text default 'sql'
) returns raw.recorded_transition
language plpgsql as $$
#variable_conflict use_variable
declare
    year_1 constant timestamptz := '0001-01-01 00:00:00+00';
    year_10000 constant timestamptz := '10000-01-01 00:00:00+00';
    approving constant text := lower(business_context ->> 'approved_by_user_id');
    approver constant text := coalesce(approving, triggered_by_user_id::text);
    seen_id uuid;
    stored raw.status_transitions;
    history record;
    is_change boolean;
    recorded_at timestamptz;
    workflow_id uuid;
    step record;
    rule text;
    new_id uuid;
    new_batch_id bigint;
    deadline timestamptz;
begin
    -- Serialises the recordings of one entity and nothing else, to the end of the
    -- transaction. Each statement sees what was committed before it, so that a writer
    -- who was first shows.
    select t.id into seen_id
    from raw.status_transitions as t
    where t.entity_type = entity_type and t.entity_id = entity_id
    order by t.created_at desc, t.batch_id desc, t.batch_row desc
    limit 1;
    perform pg_advisory_xact_lock(
        hashtextextended(concat(entity_type, '/', entity_id), 7361820148)
    );
    loop
        if id is not null then
            select t.* into stored from raw.status_transitions as t where t.id = id;
        end if;
        -- S20: created_at is compared where it is given, from_status never; jsonb takes
        -- 1.0 and 1.00 for equal, the law does not.
        if stored.id is not null and (
            stored.entity_type, stored.entity_id, stored.to_status,
            stored.transition_reason, stored.business_context::text,
            stored.triggered_by_user_id, stored.triggered_by_system,
            stored.sla_deadline, stored.is_milestone, stored.metadata::text,
            stored.created_at
        ) is not distinct from (
            entity_type, entity_id, to_status,
            transition_reason, business_context::text,
            triggered_by_user_id, triggered_by_system,
            sla_deadline, is_milestone, metadata::text,
            coalesce(created_at, stored.created_at)
        ) then
            return raw.recorded(stored);
        end if;

        select
            known.entity_type is not null as is_known_type,
            last.id as last_id,
            last.to_status as current_status,
            last.created_at as current_since,
            first.created_at as bound_at,
            first.business_context as bound_context
        into history
        from (select) as one
        left join raw.entity_types as known on known.entity_type = entity_type
        left join lateral (
            select t.id, t.to_status, t.created_at
            from raw.status_transitions as t
            where t.entity_type = entity_type and t.entity_id = entity_id
            order by t.created_at desc, t.batch_id desc, t.batch_row desc
            limit 1
        ) as last on true
        left join lateral (
            select t.created_at, t.business_context
            from raw.status_transitions as t
            where t.entity_type = entity_type and t.entity_id = entity_id
            order by t.created_at, t.batch_id, t.batch_row
            limit 1
        ) as first on true;
        recorded_at := coalesce(created_at, clock_timestamp());
        if history.last_id is null then
            history.bound_at := recorded_at;
            history.bound_context := business_context;
        end if;
        is_change := history.current_status is distinct from to_status;

        workflow_id := raw.workflow_at(
            recorded_at, entity_type, history.bound_at, history.bound_context
        );
        select
            w.workflow_name,
            entered.id,
            entered.sla_hours,
            entered.requires_approval,
            entered.approval_role,
            entered.is_final,
            departed.is_final as departed_is_final,
            departed.allowed_transitions
        into step
        from raw.status_workflows as w
        left join raw.status_workflow_steps as entered
            on entered.workflow_id = w.id and entered.status_name = to_status
        left join raw.status_workflow_steps as departed
            on
                departed.workflow_id = w.id
                and departed.status_name = history.current_status
        where w.id = workflow_id;

        rule := case
            -- At a stricter level, a writer who was first would stay unseen.
            when current_setting('transaction_isolation') <> 'read committed'
                then 'isolation_level'
            -- What `validate` refuses, where the types of the arguments let it pass.
            when not history.is_known_type then 'entity_type_is_known'
            when entity_id is null or entity_id < 0 then 'entity_id_is_bigint'
            when coalesce(to_status, '') = '' then 'to_status_is_given'
            when length(to_status) > 255 then 'to_status_is_short'
            when created_at < year_1 then 'created_at_is_instant'
            when created_at > clock_timestamp() + interval '5 minutes'
                then 'created_at_is_not_ahead'
            when sla_deadline < year_1 or sla_deadline >= year_10000
                then 'sla_deadline_is_instant'
            when jsonb_typeof(business_context) <> 'object'
                then 'business_context_is_json_object'
            when jsonb_typeof(metadata) <> 'object' then 'metadata_is_json_object'
            when stored.id is not null then 'id_conflict'
            when is_first and history.last_id is not null then 'expected_status'
            when
                expected_status is not null
                and expected_status is distinct from history.current_status
                then 'expected_status'
            when history.last_id is distinct from seen_id then 'concurrent_writer'
            when recorded_at < history.current_since then 'created_at_is_earlier'
            -- S19.
            when workflow_id is not null and step.id is null then 'unknown_status'
            when is_change and not step.allowed_transitions @> to_jsonb(to_status)
                then
                    case
                        when step.departed_is_final then 'left_final'
                        else 'illegal_transition'
                    end
            when
                approver is not null
                and raw.unknown_users(triggered_by_user_id::text, approving) is not null
                then 'unknown_user'
            when not is_change or step.requires_approval is not true then null
            when approver is null then 'missing_approval'
            when not raw.has_role(approver::uuid, step.approval_role, recorded_at)
                then 'wrong_role'
        end;
        if rule is not null then
            perform raw.refuse(rule, jsonb_strip_nulls(jsonb_build_object(
                'entity_type', entity_type, 'entity_id', entity_id,
                'to_status', to_status, 'expected_status', expected_status,
                'created_at', recorded_at::text, 'id', id,
                'current_status', history.current_status,
                'current_since', history.current_since::text,
                'workflow_id', workflow_id, 'workflow_name', step.workflow_name,
                'allowed', step.allowed_transitions,
                'approval_role', step.approval_role,
                'triggering', triggered_by_user_id::text, 'approving', approving
            )));
        end if;

        new_id := coalesce(id, gen_random_uuid());
        new_batch_id := nextval('raw.batches_batch_id_seq');
        insert into raw.status_transitions (
            id, created_at, entity_type, entity_id, from_status, to_status,
            transition_reason, business_context, triggered_by_user_id,
            triggered_by_system, sla_deadline, is_milestone, metadata,
            batch_id, batch_row
        )
        values (
            new_id, recorded_at, entity_type, entity_id,
            history.current_status, to_status,
            transition_reason, business_context, triggered_by_user_id,
            triggered_by_system, sla_deadline, is_milestone, metadata,
            new_batch_id, 1
        )
        on conflict do nothing;
        -- Else the id was appended elsewhere meanwhile, and is found now.
        exit when found;
    end loop;
    insert into raw.batches (
        batch_id, kind, source, source_row_count,
        read_count, appended_count, duplicate_count, rejected_count
    )
    overriding system value
    values (new_batch_id, 'transitions', source, 1, 1, 1, 0, 0);

    if not is_change then
        select t.* into stored from raw.status_transitions as t where t.id = new_id;
        return raw.recorded(stored);
    end if;
    if workflow_id is not null and not step.is_final then
        deadline := coalesce(
            sla_deadline, raw.deadline_of(workflow_id, recorded_at, step.sla_hours)
        );
    end if;
    return (
        new_id, recorded_at, history.current_status, to_status, new_batch_id,
        workflow_id, step.workflow_name, step.id, deadline,
        case
            when deadline is null then null
            when sla_deadline is null then 'workflow'
            else 'explicit'
        end
    );
end
$$;

comment on function raw.record_transition is
'Judges one live transition by the workflow in force and appends it with its ledger row, or raises SQLSTATE SE001 and writes nothing; the broken rule is the constraint of the error. Safe to call again with the same id.';
