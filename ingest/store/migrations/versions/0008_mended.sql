-- What steps 0001 and 0003 came to hold after databases had been made by them, and
-- a step that was put before others that databases had run: what is there stays.
alter table raw.entity_keys
drop constraint if exists entity_keys_entity_type_namespace_entity_key_key;
create index if not exists entity_keys_key on raw.entity_keys using hash (entity_key);

-- Rows that are there stay, whatever they are called.
alter table raw.entity_types
drop constraint if exists entity_types_entity_type_check;
alter table raw.entity_types add constraint entity_types_entity_type_check
check (entity_type ~ '^[a-z][a-z0-9_]*$') not valid;

do $$
begin
    alter table raw.entity_types validate constraint entity_types_entity_type_check;
exception
    when check_violation then null;
end
$$;

create table if not exists raw.stopped_files (
    stop_id bigint generated always as identity primary key,
    file_id bigint not null references raw.files,
    stopped_at timestamptz not null default clock_timestamp(),
    row_count bigint not null,
    rejected_row_count bigint not null,
    reason text not null
);

comment on table raw.stopped_files is
'One row per delivery that was broken off because too many of its rows were rejected.';

create or replace trigger append_only before update or delete or truncate
on raw.stopped_files
for each statement execute function raw.refuse_change();

create index if not exists rejected_transitions_batch on raw.rejected_transitions
(batch_id);

do $$
begin
    if to_regtype('raw.recorded_transition') is null then
        create type raw.recorded_transition as (
            id uuid,
            created_at timestamptz,
            from_status text,
            to_status text,
            batch_id bigint,
            workflow_id uuid,
            workflow_name text,
            step_id uuid,
            sla_deadline timestamptz,
            deadline_source text
        );
    end if;
end
$$;
