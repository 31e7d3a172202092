"""A file keeps how it was read, and a reject that it was resolved (S20)."""

from ingest.store.migrations import run_beside

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the step."""
    run_beside(__file__)
