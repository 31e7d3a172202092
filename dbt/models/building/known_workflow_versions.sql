-- stg_workflow_versions, of the known batches.
{{ workflow_versions_of(ref("known_batches")) }}
