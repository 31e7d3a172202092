"""The command `status-engine`, also as `python -m dagster_project`."""

import atexit
import gc
import logging
import os
import signal

# Objects that are new before Python looks for cycles among them; 700 by default.
NEW_OBJECTS = 100_000


def main() -> None:
    """Run the command line.

    Imports of Dagster and dbt make a million objects and next to no garbage. Looking
    for it again and again, and once more at the end, took a tenth of a whole build.
    """
    gc.set_threshold(NEW_OBJECTS)
    atexit.register(gc.freeze)
    # What this process and its children make is private: Dagster's and dbt's files too.
    os.umask(0o077)
    # Of libraries that tell a person, with tracebacks, what they could not tidy up.
    logging.lastResort = logging.NullHandler()
    # While modules are loaded nothing has begun, and there is nothing to tidy up.
    signal.signal(signal.SIGINT, _stop_at_once)
    from dagster_project.terminal import sentences

    with sentences():
        from dagster_project.cli import main as command_line

        signal.signal(signal.SIGINT, signal.default_int_handler)
        command_line()


def _stop_at_once(*_: object) -> None:
    os.write(2, b"Stopped. Run it again to continue.\n")
    os._exit(1)


if __name__ == "__main__":
    main()
