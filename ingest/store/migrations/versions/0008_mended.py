"""Databases that ran a step as it was in another release come to what it is now."""

from ingest.store.migrations import run_beside, run_functions_of

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Run the step, and make the functions of two steps anew."""
    run_beside(__file__)
    run_functions_of("0003_record")
    run_functions_of("0006_calendars")
