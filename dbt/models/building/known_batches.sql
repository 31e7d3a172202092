-- One row per batch that was recorded by the session's status_engine.known_at; all,
-- where it sets none.
select * from {{ ref("stg_batches") }}
where recorded_at <= {{ known_at() }}
