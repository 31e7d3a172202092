create table raw.source_readings (
    reading_id bigint generated always as identity primary key,
    source text not null,
    definition_sha256 text not null,
    read_at timestamptz not null default clock_timestamp(),
    is_whole boolean not null,
    row_count bigint not null,
    known_reject_count bigint not null,
    appended_count bigint not null,
    watermark text,
    refusal text
);

comment on table raw.source_readings is
'One row per reading of a source that is followed: what it brought, and up to which watermark; or why it could not be read.';
comment on column raw.source_readings.definition_sha256 is
'Of the query, the watermark and the mapping; another one is read whole.';
comment on column raw.source_readings.row_count is
'The rows that were delivered, most of them duplicates of the overlap.';
comment on column raw.source_readings.known_reject_count is
'Rows beside those that were refused before, as they are, and not delivered again.';
comment on column raw.source_readings.watermark is
'The largest seen so far, as its database writes it; null before the first row.';

create index source_readings_source on raw.source_readings (source, reading_id);

create trigger append_only before update or delete or truncate
on raw.source_readings
for each statement execute function raw.refuse_change();

create function raw.tell_watchers() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    notify status_engine_batches;
    return null;
end
$$;

create trigger tell_watchers after insert on raw.batches
for each statement
when (current_setting('status_engine.notify', true) = 'on')
execute function raw.tell_watchers();
