create table raw.entity_type_versions (
    version_id uuid primary key,
    created_at timestamptz not null,
    entity_type text not null references raw.entity_types,
    label text not null,
    batch_id bigint not null references raw.batches,
    unique (entity_type, created_at)
);

comment on table raw.entity_type_versions is
'One row per version of what a configuration file says of an entity type, in force from created_at until the next (S7).';

create trigger append_only
before update or delete or truncate on raw.entity_type_versions
for each statement execute function raw.refuse_change();

comment on table raw.entity_types is
'One row per kind of entity: those that every database has, and those that a configuration file added.';
