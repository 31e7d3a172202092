"""Append status transitions and configuration to schema raw, losing nothing.

What is imported here is the public surface; nothing here knows of dbt or Dagster.
"""

from ingest.append import AppendResult, append
from ingest.delivery import DeliveryResult, Settings, deliver
from ingest.errors import (
    ApprovalError,
    ConflictError,
    DatabaseError,
    IllegalTransitionError,
    MalformedTransitionError,
    RefusedError,
    SourceError,
    StatusEngineError,
    WorkflowError,
)
from ingest.files.mapping import Mapping, load_mapping
from ingest.record import Recorded, record

__all__ = [
    "AppendResult",
    "ApprovalError",
    "ConflictError",
    "DatabaseError",
    "DeliveryResult",
    "IllegalTransitionError",
    "MalformedTransitionError",
    "Mapping",
    "Recorded",
    "RefusedError",
    "Settings",
    "SourceError",
    "StatusEngineError",
    "WorkflowError",
    "append",
    "deliver",
    "load_mapping",
    "record",
]
