-- One row per transition of the session's cut, with the order of S2.
{{ transitions_of(ref("stg_batches")) }}
