-- One row per transition of a known batch, up to the session's status_engine.at.
{{ transitions_of(ref("known_batches")) }}
and transitions.created_at <= {{ at_instant() }}
