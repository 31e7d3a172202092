"""Statuses in which others are waited for."""

from ingest.store.migrations import run_beside

revision = "0021"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the step."""
    run_beside(__file__)
