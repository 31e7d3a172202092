-- json and text, not jsonb: a header may hold NUL, a mapping a number beyond JSON's.
alter table raw.files
add column form json,
add column mapping text;

comment on column raw.files.form is
'How the bytes of one record read: format, delimiter, header. Null where the file has no rows, or was begun before this step.';
comment on column raw.files.mapping is
'All that its mapping says, as JSON; null without one.';

create table raw.resolved_rejects (
    rejected_id bigint primary key references raw.rejected_transitions,
    -- Deferred: the ledger row comes last in its transaction.
    batch_id bigint not null references raw.batches deferrable initially deferred,
    resolved_at timestamptz not null default clock_timestamp(),
    appended_count integer not null check (appended_count >= 0),
    duplicate_count integer not null check (duplicate_count >= 0),
    outcome text not null generated always as (
        case
            when appended_count > 0 then 'appended'
            when duplicate_count > 0 then 'duplicate'
            else 'no_transition'
        end
    ) stored
);

comment on table raw.resolved_rejects is
'One row per reject that passed when it was replayed, with the transitions that it made then. Those of a batch add up to its ledger row (S20).';

create index resolved_rejects_batch on raw.resolved_rejects (batch_id);

create trigger append_only before update or delete or truncate
on raw.resolved_rejects
for each statement execute function raw.refuse_change();

create view raw.open_rejects as
select rejected.*
from raw.rejected_transitions as rejected
where not exists (
    select from raw.resolved_rejects as resolved
    where resolved.rejected_id = rejected.rejected_id
);

comment on view raw.open_rejects is
'The rejects that are not resolved: rows whose transitions are nowhere else.';
