"""Entity types are configuration: a file names them, and each change is a version."""

from ingest.store.migrations import run_beside

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the step."""
    run_beside(__file__)
