-- Facts are appended, never changed: the trigger of most tables in raw.
create or replace function raw.refuse_change() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    raise exception '% on raw.% is refused: rows in raw are appended, never changed',
        tg_op, tg_table_name using errcode = 'object_not_in_prerequisite_state';
end
$$;
