-- One row per workflow version (S7). [in_force_from, in_force_until) is when it binds
-- new entities; [bound_from, bound_until) when it judges those bound to its workflow:
-- the first active version from ever, the last active one for ever.
{% if var("is_supposed") -%}
{{ supposed_workflow_versions(ref("stg_batches")) }}
{%- else -%}
{{ workflow_versions_of(ref("stg_batches")) }}
{%- endif %}
