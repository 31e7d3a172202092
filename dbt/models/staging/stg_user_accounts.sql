-- One row per version of a user. [in_force_from, in_force_until); the first version
-- holds for the time before.
with

accounts as (
    select * from {{ source("raw", "user_accounts") }}
),

batches as (
    select * from {{ ref("stg_batches") }}
)

select
    accounts.id as user_id,
    accounts.name as user_name,
    accounts.roles,
    accounts.is_active,
    case
        when
            row_number() over (
                partition by accounts.id order by accounts.created_at, accounts.batch_id
            ) = 1
            then '-infinity'::timestamptz
        else accounts.created_at
    end as in_force_from,
    lead(accounts.created_at) over (
        partition by accounts.id order by accounts.created_at, accounts.batch_id
    ) as in_force_until,
    batches.batch_cut
from accounts
inner join batches using (batch_id)
