"""Whether configuration waits for a build is found at once."""

from ingest.store.migrations import run_beside

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the step."""
    run_beside(__file__)
