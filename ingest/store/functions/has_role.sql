-- Whether a known user is active and has a role: by the last version of the account at
-- an instant, else by its first.
create or replace function raw.has_role(user_id uuid, role text, instant timestamptz)
returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
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
