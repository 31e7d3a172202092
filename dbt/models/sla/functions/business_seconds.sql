{{ config(
    materialized="owner_function",
    overloads=[
        "calendar text, entered_at timestamptz, left_at timestamptz",
        "calendar uuid, entered_at timestamptz, left_at timestamptz",
    ],
    returns="numeric",
    options="",
) }}
-- depends_on: {{ source("raw", "cuts") }}
-- depends_on: {{ source("raw", "calendar_pages") }}
-- Business time from one instant to another, in seconds (S11), as ingest has it.
select raw.business_seconds(calendar, entered_at, left_at)
