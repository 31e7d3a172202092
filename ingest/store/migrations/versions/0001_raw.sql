-- Facts are appended, never changed. The one exception is a ledger row, which gets
-- the number of its cut stamped once (S17).

create table raw.entity_types (
    entity_type text primary key check (entity_type ~ '^[a-z][a-z0-9_]*$'),
    position smallint not null
);

comment on table raw.entity_types is
'One row per kind of entity. A deployment may add rows.';

insert into raw.entity_types (entity_type, position)
values
('order', 1),
('quote', 2),
('visit', 3),
('line_item', 4),
('work_order', 5),
('invoice', 6),
('payment', 7),
('installation', 8),
('form_submission', 9),
('customer_feedback', 10),
('internal_task', 11);

create table raw.cuts (
    cut bigint generated always as identity primary key,
    pinned_at timestamptz not null default clock_timestamp(),
    as_of timestamptz not null,
    run_id text not null
);

comment on table raw.cuts is
'One row per pinned cut: every batch committed before it that is in no earlier cut (S17).';

create unique index cuts_run_id on raw.cuts (run_id);

create table raw.files (
    file_id bigint generated always as identity primary key,
    content_sha256 text not null,
    mapping_sha256 text not null,
    source text not null,
    timezone text not null,
    first_seen_at timestamptz not null default clock_timestamp(),
    unique (content_sha256, mapping_sha256, source, timezone)
);

comment on table raw.files is
'One row per distinct delivery of content: the same bytes, mapping, source and zone are the same file, whatever its name.';

create table raw.batches (
    batch_id bigint generated always as identity primary key,
    kind text not null check (kind in ('transitions', 'configuration')),
    recorded_at timestamptz not null default clock_timestamp(),
    source text not null,
    file_id bigint references raw.files,
    file_batch integer,
    source_row_count integer not null,
    read_count integer not null,
    appended_count integer not null,
    duplicate_count integer not null,
    rejected_count integer not null,
    cut bigint references raw.cuts,
    unique (file_id, file_batch),
    check (read_count = appended_count + duplicate_count + rejected_count)
);

comment on table raw.batches is
'The ledger, one row per committed batch (S20). batch_id comes from a sequence; gaps are normal.';

create index batches_without_cut on raw.batches (batch_id) where cut is null;
create index batches_by_cut on raw.batches (cut, batch_id);

create table raw.deliveries (
    delivery_id bigint generated always as identity primary key,
    file_id bigint not null references raw.files,
    file_name text not null,
    delivered_at timestamptz not null default clock_timestamp(),
    source_row_count bigint not null,
    read_count bigint not null,
    appended_count bigint not null,
    duplicate_count bigint not null,
    rejected_count bigint not null,
    check (read_count = appended_count + duplicate_count + rejected_count)
);

comment on table raw.deliveries is
'One row per completed delivery of a file, repeated ones included (S20).';

create table raw.stopped_files (
    stop_id bigint generated always as identity primary key,
    file_id bigint not null references raw.files,
    stopped_at timestamptz not null default clock_timestamp(),
    row_count bigint not null,
    rejected_row_count bigint not null,
    reason text not null
);

comment on table raw.stopped_files is
'One row per delivery that was broken off because too many of its rows were rejected.';

create table raw.status_transitions (
    id uuid primary key,
    created_at timestamptz not null,
    entity_type text not null references raw.entity_types,
    entity_id bigint not null,
    from_status text,
    to_status text not null,
    transition_reason text,
    business_context jsonb,
    triggered_by_user_id uuid,
    triggered_by_system text,
    sla_deadline timestamptz,
    is_milestone boolean,
    metadata jsonb,
    batch_id bigint not null,
    batch_row integer not null
);

comment on table raw.status_transitions is
'One row per transition: at created_at the entity went to to_status. Ordered by created_at, batch_id, batch_row (S2).';

create index status_transitions_entity on raw.status_transitions
(entity_type, entity_id, created_at, batch_id, batch_row)
include (id, to_status, sla_deadline);
create index status_transitions_batch on raw.status_transitions (batch_id);

create table raw.rejected_transitions (
    rejected_id bigint generated always as identity primary key,
    batch_id bigint not null references raw.batches,
    file_id bigint references raw.files,
    file_name text,
    row_number bigint not null,
    line_number bigint,
    transition_count integer not null check (transition_count > 0),
    code text not null,
    column_name text,
    message text not null,
    original bytea not null
);

comment on table raw.rejected_transitions is
'One row per source row that was refused, with its bytes; transition_count is how many transitions it stood for (S20).';

create index rejected_transitions_batch on raw.rejected_transitions (batch_id);
create unique index rejected_transitions_row on raw.rejected_transitions
(file_id, row_number);

create table raw.entity_keys (
    entity_type text not null references raw.entity_types,
    entity_id bigint not null,
    namespace text not null,
    entity_key text not null,
    batch_id bigint not null,
    primary key (entity_type, entity_id)
);

-- A key may be longer than a btree page takes; that it has one id follows from the hash.
create index entity_keys_key on raw.entity_keys using hash (entity_key);

comment on table raw.entity_keys is
'One row per entity known by a text key in its source, with the bigint that stands for it here.';

create table raw.business_entities (
    version_id uuid primary key,
    created_at timestamptz not null,
    id uuid not null,
    name text not null,
    is_active boolean not null,
    batch_id bigint not null references raw.batches,
    unique (id, created_at)
);

comment on table raw.business_entities is
'One row per version of a business entity, in force from created_at until the next (S7).';

create table raw.user_accounts (
    version_id uuid primary key,
    created_at timestamptz not null,
    id uuid not null,
    name text not null,
    roles jsonb not null,
    business_entity_id uuid,
    is_active boolean not null,
    batch_id bigint not null references raw.batches,
    unique (id, created_at)
);

comment on table raw.user_accounts is
'One row per version of a user with their roles, in force from created_at until the next (S7).';

create table raw.status_workflows (
    id uuid primary key,
    created_at timestamptz not null,
    entity_type text not null references raw.entity_types,
    workflow_name text not null,
    is_default boolean not null,
    business_entity_id uuid,
    conditions jsonb not null,
    is_active boolean not null,
    batch_id bigint not null references raw.batches
);

comment on table raw.status_workflows is
'One row per workflow version, in force from created_at until the next version of the same (entity_type, workflow_name, business_entity_id) (S7).';

create unique index status_workflows_version on raw.status_workflows (
    entity_type,
    workflow_name,
    coalesce(business_entity_id, '00000000-0000-0000-0000-000000000000'),
    created_at
);

create table raw.status_workflow_steps (
    id uuid primary key,
    created_at timestamptz not null,
    workflow_id uuid not null references raw.status_workflows,
    status_name text not null,
    status_label text not null,
    status_color text not null,
    step_order integer not null,
    allowed_transitions jsonb not null,
    sla_hours numeric check (sla_hours >= 0 and scale(sla_hours) <= 6),
    requires_approval boolean not null,
    approval_role text,
    auto_transition_conditions jsonb not null,
    notification_settings jsonb not null,
    is_final boolean not null,
    batch_id bigint not null references raw.batches,
    unique (workflow_id, status_name)
);

comment on table raw.status_workflow_steps is
'One row per status of a workflow version (S9).';

create function raw.refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% on raw.% is refused: rows in raw are appended, never changed',
        tg_op, tg_table_name using errcode = 'object_not_in_prerequisite_state';
end
$$;

create function raw.refuse_restamp() returns trigger language plpgsql as $$
begin
    if old.cut is not null or new.cut is null
        or to_jsonb(old) - 'cut' is distinct from to_jsonb(new) - 'cut' then
        raise exception 'a ledger row gets its cut stamped once and nothing else'
            using errcode = 'object_not_in_prerequisite_state';
    end if;
    return new;
end
$$;

create trigger cut_is_stamped_once before update on raw.batches
for each row execute function raw.refuse_restamp();

do $$
declare
    name text;
begin
    foreach name in array array[
        'status_transitions', 'rejected_transitions', 'entity_keys', 'deliveries',
        'stopped_files',
        'files', 'cuts', 'business_entities', 'user_accounts', 'status_workflows',
        'status_workflow_steps'
    ] loop
        execute format(
            'create trigger append_only before update or delete or truncate on raw.%I '
            'for each statement execute function raw.refuse_change()', name);
    end loop;
    create trigger append_only before delete or truncate on raw.batches
    for each statement execute function raw.refuse_change();
end
$$;
