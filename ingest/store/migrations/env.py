"""Alembic's entry: runs the steps on the connection that it is handed."""

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    version_table="schema_version",
    version_table_schema="raw",
)
with context.begin_transaction():
    context.run_migrations()
