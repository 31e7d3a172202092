"""Targets of compliance, and what their signals told."""

from ingest.store.migrations import run_beside

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the step."""
    run_beside(__file__)
