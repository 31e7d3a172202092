{# An incremental build replaces the rows of touched entities, each from its whole
   history, in the transaction of its model (S5). -#}
{% macro forget_touched() %}
    {% if is_incremental() %}
        delete from {{ this }} as built
        using {{ ref("touched_entities") }} as touched
        where
            built.entity_type = touched.entity_type
            and built.entity_id = touched.entity_id
    {% endif %}
{% endmacro %}

{% macro only_touched() %}
    {% if is_incremental() %}
        inner join {{ ref("touched_entities") }} using (entity_type, entity_id)
    {% endif %}
{% endmacro %}
