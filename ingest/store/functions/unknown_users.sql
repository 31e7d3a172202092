-- Those of two users that no configuration names, as one text; null where none is.
create or replace function raw.unknown_users(triggering text, approving text)
returns text
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
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
