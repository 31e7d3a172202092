"""Append status transitions and configuration to schema raw, losing nothing.

What is imported here is the public surface; nothing here knows of dbt or Dagster.
"""

from ingest.append import AppendResult, append
from ingest.delivery import Delivery, Settings, deliver
from ingest.errors import DatabaseError, SourceError, StatusEngineError, WorkflowError
from ingest.mapping import Mapping, load_mapping

__all__ = [
    "AppendResult",
    "DatabaseError",
    "Delivery",
    "Mapping",
    "Settings",
    "SourceError",
    "StatusEngineError",
    "WorkflowError",
    "append",
    "deliver",
    "load_mapping",
]
