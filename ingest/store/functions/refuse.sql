-- Raise SQLSTATE SE001; the broken rule is its constraint.
create or replace function raw.refuse(rule text, facts jsonb) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
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
