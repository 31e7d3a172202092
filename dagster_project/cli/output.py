"""Files that a command writes for a person to go on with."""

from pathlib import Path

import click

from ingest.errors import StatusEngineError

OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="A new file for it; standard output by default.",
)


def write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet, or none.

    Raises:
        StatusEngineError: it is there, or can't be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        msg = f"{path} is there already. Name another file, or move it away."
        raise StatusEngineError(msg) from error
    except OSError as error:
        msg = f"{path} can't be written: {error.strerror or error}. Check the path."
        raise StatusEngineError(msg) from error
