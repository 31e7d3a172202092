{{ config(
    materialized="owner_function",
    overloads=[
        "calendar text, entered_at timestamptz, hours numeric",
        "calendar uuid, entered_at timestamptz, hours numeric",
    ],
    returns="timestamptz",
    options="",
) }}
-- depends_on: {{ source("raw", "cuts") }}
-- depends_on: {{ source("raw", "calendar_pages") }}
-- The earliest instant by which so many hours of business time since entered_at are up
-- (S11), as ingest has it.
select raw.business_deadline(calendar, entered_at, hours)
