create table raw.targets (
    version_id uuid primary key,
    created_at timestamptz not null,
    target_name text not null,
    effective_from date not null,
    entity_type text not null,
    workflow_name text,
    status text,
    business_entity_id uuid,
    at_least numeric(7, 4) check (at_least >= 1 and at_least <= 100),
    roles jsonb not null,
    batch_id bigint not null references raw.batches,
    unique (target_name, effective_from, created_at)
);

comment on table raw.targets is
'One row per version of what a target asks from a UTC day on, until the next day that it names; of one day, the newest version holds, and none is changed once its day has begun.';
comment on column raw.targets.at_least is
'Compliance (S21) in percent; null ends the target.';
comment on column raw.targets.roles is
'The roles that its signals are for; an empty list where none is named.';

create table raw.target_signals (
    event_id bigint generated always as identity primary key,
    signal_id uuid not null,
    target_name text not null,
    rule text not null,
    is_standing boolean not null,
    observed_at timestamptz not null,
    through_on date not null,
    entity_type text not null,
    business_entity_id text,
    roles jsonb not null,
    title text not null,
    said text not null
);

comment on table raw.target_signals is
'One row per beginning and per end of a signal: a target and a rule that its days broke, by what was known at observed_at of the days up to through_on.';

create index target_signals_signal on raw.target_signals (signal_id, event_id);

create trigger append_only before update or delete or truncate on raw.targets
for each statement execute function raw.refuse_change();
create trigger append_only before update or delete or truncate on raw.target_signals
for each statement execute function raw.refuse_change();

-- A signal is of no stay.
alter table raw.alert_deliveries
alter column interval_id drop not null,
alter column entity_id drop not null,
drop constraint alert_deliveries_kind_check,
add constraint alert_deliveries_kind_check
check (kind in ('alert', 'correction', 'signal', 'end')),
add constraint alert_deliveries_is_of_a_stay
check ((kind in ('signal', 'end')) = (interval_id is null) and (interval_id is null) = (entity_id is null));

comment on table raw.alert_deliveries is
'One row per alert that a channel took: of a stay (interval_id) and stage, due at due_at, as the clock showed as_of; a correction takes one back that later rows or configuration made untrue. A signal is of a target and a rule (stage), and has one end.';
