"""Health: what a person, cron or a probe asks from outside Dagster, and is told.

It loads neither Dagster nor dbt, starts nothing and waits for nothing for long. What is
told to people of what is found belongs in alerts.
"""
