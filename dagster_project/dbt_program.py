"""Dbt, with the environment that is meant for its process alone.

In the environment of a run, what libpq reads there would be set for the sessions of
Dagster's own storage as well: with our search_path it finds none of its tables.
"""

import os
import sys
from collections.abc import Mapping

# Of the names under which a run hands over what libpq must not read in it.
PREFIX = "STATUS_ENGINE_DBT_"


def handed_over(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables for dbt's process as the process that starts it may have them."""
    return {PREFIX + name: value for name, value in environment.items()}


def main() -> None:
    """Take what was handed over, and be dbt."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        os.environ[name.removeprefix(PREFIX)] = os.environ.pop(name)
    from dbt.cli.main import cli

    sys.exit(cli())


if __name__ == "__main__":
    main()
