-- Wakes who follows changes. A commit that notifies takes a lock that all such commits
-- share, to its end; so it is off unless status_engine.notify is on.
create or replace function raw.tell_watchers() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    notify status_engine_batches;
    return null;
end
$$;
