"""Recording one live transition: a function in the database (S7-S11, S19)."""

from ingest.store.migrations import run_beside

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the step."""
    run_beside(__file__)
