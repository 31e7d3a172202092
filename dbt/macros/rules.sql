{# The rules of a step as an array; none where its conditions are of another form, as
   those that older releases kept unjudged may be. #}
{% macro rules_of(conditions) -%}
    case
        when jsonb_typeof({{ conditions }} -> 'rules') = 'array'
            then {{ conditions }} -> 'rules'
        else '[]'
    end
{%- endmacro %}

{# Whether a value is a rule as workflow.schema.json has it: of what is stored, older
   releases checked nothing. `case`, so that nothing is taken for what it is not. #}
{% macro is_rule(rule) -%}
    case
        when jsonb_typeof({{ rule }}) <> 'object' then false
        when
            {{ rule }} - array[
                'to', 'append', 'after_hours', 'clock',
                'when_context', 'when_children', 'when_parent'
            ] <> '{}'
            or not {{ rule }} ?| array[
                'after_hours', 'when_context', 'when_children', 'when_parent'
            ]
            then false
        else coalesce(
            jsonb_typeof({{ rule }} -> 'to') = 'string'
            and jsonb_typeof({{ rule }} -> 'append') = 'boolean'
            and case jsonb_typeof({{ rule }} -> 'after_hours')
                when 'number'
                    then
                        ({{ rule }} ->> 'after_hours')::numeric >= 0
                        and ({{ rule }} ->> 'after_hours')::numeric <= 1000000
                else not {{ json_has(rule, "'after_hours'") }}
            end
            and (
                {{ json_text(rule, "clock") }} in ('business', 'elapsed')
                or not {{ json_has(rule, "'clock'") }}
            )
            and (
                jsonb_typeof({{ rule }} -> 'when_context') = 'object'
                or not {{ json_has(rule, "'when_context'") }}
            )
            and (
                {{ rule }} -> 'when_children' @? '$ ? (
                    @.entity_type.type() == "string" && @.context_key.type() == "string"
                    && (
                        (@.all.type() == "array" && !exists(@.any))
                        || (@.any.type() == "array" && !exists(@.all))
                    )
                )'
                or not {{ json_has(rule, "'when_children'") }}
            )
            and (
                {{ rule }} -> 'when_parent' @? '$ ? (
                    @.entity_type.type() == "string" && @.context_key.type() == "string"
                    && @.reached.type() == "array"
                )'
                or not {{ json_has(rule, "'when_parent'") }}
            ),
            false
        )
    end
{%- endmacro %}

{# The texts of a JSON array, in one to compare with. #}
{% macro json_texts(list) -%}
    array(select jsonb_array_elements_text({{ list }}))
{%- endmacro %}
