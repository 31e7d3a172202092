"""Functions are files, and are made anew where these differ from what was applied."""

from ingest.store.migrations import run_beside

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the step."""
    run_beside(__file__)
