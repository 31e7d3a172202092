"""Files of workflows, calendars, users and business entities: checked, then applied.

Each change is a new version in schema raw; which one binds an entity is decided in dbt.
"""
