"""Channels of alerts, and what was sent through them."""

from ingest.store.migrations import run_beside

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the step."""
    run_beside(__file__)
