-- One row per transition of a known batch, up to the session's status_engine.at.
with

transitions as (
    {{ transitions_of(ref("known_batches")) }}
)

select * from transitions
where created_at <= {{ at_instant() }}
