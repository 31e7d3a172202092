-- Judges one live transition and appends it with its ledger row. What it says of stays,
-- workflows and violations is what dbt derives of them later; tests hold the two equal.
-- Each statement costs some 10 microseconds: there are few, of few columns.
create or replace function raw.record_transition(
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
language plpgsql set search_path = pg_catalog, pg_temp as $$
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
    order by
        t.created_at desc, t.source_order desc, t.batch_id desc, t.batch_row desc
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
            order by
        t.created_at desc, t.source_order desc, t.batch_id desc, t.batch_row desc
            limit 1
        ) as last on true
        left join lateral (
            select t.created_at, t.business_context
            from raw.status_transitions as t
            where t.entity_type = entity_type and t.entity_id = entity_id
            order by t.created_at, t.source_order, t.batch_id, t.batch_row
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
