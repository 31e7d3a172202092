"""Entries of the platform's audit_logs, a second kind of what comes in by batches."""

from ingest.store.migrations import run_beside

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the step."""
    run_beside(__file__)
