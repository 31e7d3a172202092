create table raw.alert_channels (
    version_id uuid primary key,
    created_at timestamptz not null,
    channel_name text not null,
    address_variable text not null,
    entity_types jsonb not null,
    business_entities jsonb not null,
    roles jsonb not null,
    stages jsonb not null,
    calendar_name text,
    digest_above integer not null,
    pipeline_alerts boolean not null,
    is_active boolean not null,
    batch_id bigint not null references raw.batches,
    unique (channel_name, created_at)
);

comment on table raw.alert_channels is
'One row per version of a channel of alerts, in force from created_at until the next (S7). Its address is in an environment variable.';

create table raw.alert_messages (
    message_id uuid primary key,
    sent_at timestamptz not null default clock_timestamp(),
    channel_name text not null,
    topic text not null check (topic in ('sla', 'pipeline')),
    is_delivered boolean not null,
    alert_count integer not null,
    title text not null,
    error text,
    details jsonb,
    check ((error is null) = is_delivered)
);

comment on table raw.alert_messages is
'One row per attempt to send a message through a channel; error says why the channel did not take it. details: of what a pipeline alert tells.';

create index alert_messages_channel on raw.alert_messages
(channel_name, topic, sent_at);

create table raw.alert_deliveries (
    delivery_id bigint generated always as identity primary key,
    message_id uuid not null references raw.alert_messages,
    channel_name text not null,
    kind text not null check (kind in ('alert', 'correction')),
    alert_id uuid not null,
    stage text not null,
    interval_id uuid not null,
    entity_type text not null,
    entity_id bigint not null,
    sla_deadline timestamptz,
    due_at timestamptz not null,
    as_of timestamptz not null
);

comment on table raw.alert_deliveries is
'One row per alert that a channel took: of a stay (interval_id) and stage, due at due_at, as the clock showed as_of; a correction takes one back that later rows or configuration made untrue.';

create index alert_deliveries_alert on raw.alert_deliveries
(channel_name, alert_id, delivery_id);

do $$
declare
    name text;
begin
    foreach name in array array[
        'alert_channels', 'alert_messages', 'alert_deliveries'
    ] loop
        execute format(
            'create trigger append_only before update or delete or truncate on raw.%I '
            'for each statement execute function raw.refuse_change()', name);
    end loop;
end
$$;
