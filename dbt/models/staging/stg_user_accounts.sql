-- One row per version of a user. [in_force_from, in_force_until); the first version
-- holds for the time before.
{{ user_accounts_of(ref("stg_batches")) }}
