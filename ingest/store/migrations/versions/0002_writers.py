"""Writers share no lock: entity types are checked before, and never go away (S20)."""

from ingest.store.migrations import run_beside

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the step."""
    run_beside(__file__)
