"""MetricFlow's `mf`, which here asks nobody whether there is a newer version of it.

Each call would ask the package index, and tell people to leave what constraints.txt
names.
"""

import sys


class _Unasked:
    """In the place of update_checker's class."""

    def check(self, *_: object) -> None:
        """There is nothing newer."""


def main() -> None:
    """Be `mf`."""
    from dbt_metricflow.cli import main as program

    vars(program)["UpdateChecker"] = _Unasked
    sys.argv[0] = "mf"
    program.cli()


if __name__ == "__main__":
    main()
