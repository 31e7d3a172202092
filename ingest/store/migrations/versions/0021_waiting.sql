alter table raw.status_workflow_steps
add column is_waiting boolean not null default false;

comment on column raw.status_workflow_steps.is_waiting is
'Whether others are waited for in the status: its time is waiting time, no touch time.';
