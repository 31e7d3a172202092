"""Rejects say at which byte of their file they began."""

from ingest.store.migrations import run_beside

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the step."""
    run_beside(__file__)
