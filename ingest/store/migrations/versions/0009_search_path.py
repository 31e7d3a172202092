"""What a session's search_path names changes nothing in functions (S5)."""

from ingest.store.migrations import run_beside

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the step."""
    run_beside(__file__)
