-- S17: a ledger row gets the number of its cut once, and changes in nothing else.
create or replace function raw.refuse_restamp() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if old.cut is not null or new.cut is null
        or to_jsonb(old) - 'cut' is distinct from to_jsonb(new) - 'cut' then
        raise exception 'a ledger row gets its cut stamped once and nothing else'
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    return new;
end
$$;
