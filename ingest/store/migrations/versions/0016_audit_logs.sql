alter table raw.batches drop constraint batches_kind_check;
alter table raw.batches add constraint batches_kind_check
check (kind in ('transitions', 'configuration', 'audit_logs'));

create table raw.audit_entries (
    id uuid primary key,
    created_at timestamptz not null,
    entity_type text not null,
    entity_id bigint not null,
    action text not null,
    triggered_by_user_id uuid,
    changes jsonb,
    batch_id bigint not null,
    batch_row integer not null
);

comment on table raw.audit_entries is
'One row per entry of audit_logs: at created_at a user, or none, changed the record entity_id of the table that is entity_type.';

create index audit_entries_entity on raw.audit_entries
(entity_type, entity_id, created_at);
create index audit_entries_batch on raw.audit_entries (batch_id);

create trigger append_only before update or delete or truncate
on raw.audit_entries
for each statement execute function raw.refuse_change();

comment on table raw.rejected_transitions is
'One row per source row that was refused, of any kind of batch, with its bytes; transition_count is how many transitions (or audit entries) it stood for (S20).';
