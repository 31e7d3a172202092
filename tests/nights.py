"""What `make nightly` tries more of: only how many, by day and by night, is told here.

By day each property, kill and seed is tried as well, on fewer examples. Long stories
whose parts other tests show by day are marked `nightly` where they stand.
"""

import os

NIGHTLY = "NIGHTLY" in os.environ


def tries(by_day: int, by_night: int) -> int:
    """How many examples, rows or seconds this run takes."""
    return by_night if NIGHTLY else by_day
