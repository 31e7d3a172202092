"""The order of one instant that a source knows, and rows that a mapping leaves out."""

from ingest.store.migrations import run_beside

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the step."""
    run_beside(__file__)
