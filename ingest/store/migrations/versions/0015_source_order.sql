alter table raw.status_transitions add column source_order bigint;

comment on column raw.status_transitions.source_order is
'What the source says of the order of one instant; null, which is after all numbers, where it says nothing (S2).';
comment on table raw.status_transitions is
'One row per transition: at created_at the entity went to to_status. Ordered by created_at, source_order, batch_id, batch_row (S2).';

drop index raw.status_transitions_entity;
create index status_transitions_entity on raw.status_transitions
(entity_type, entity_id, created_at, source_order, batch_id, batch_row)
include (id, to_status, sla_deadline);

alter table raw.batches
add column skipped_row_count bigint not null default 0;
alter table raw.deliveries
add column skipped_row_count bigint not null default 0;

comment on column raw.batches.skipped_row_count is
'Of source_row_count, the rows that the mapping leaves out: they make no transitions.';
comment on column raw.deliveries.skipped_row_count is
'Of source_row_count, the rows that the mapping leaves out: they make no transitions.';
