"""Readings of sources that are followed; who watches may be woken by a commit."""

from ingest.store.migrations import run_beside

revision = "0019"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the step."""
    run_beside(__file__)
