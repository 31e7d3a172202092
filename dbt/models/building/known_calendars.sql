-- stg_calendars, of the known batches.
{{ calendars_of(ref("known_batches")) }}
