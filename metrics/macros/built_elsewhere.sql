{# A relation that status-engine builds: here it has a name, and nothing is made of it. #}
{% materialization built_elsewhere, default %}
    {{ return({"relations": []}) }}
{% endmaterialization %}
