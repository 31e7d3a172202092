"""What a person sees of a command: data without control characters, and sentences.

What nobody foresaw is kept in a log.

What is said is decided by the commands.
"""

import errno
import json
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ingest.errors import StatusEngineError
from ingest.store import database
from ingest.store.on_disk import make_folder

LOG_NAME = "errors.log"
Row = dict[str, Any]


def shown(value: object) -> str:
    """A value as a terminal may have it: what it would obey or hide is escaped."""
    return "".join(c if c.isprintable() else _escaped(c) for c in str(value))


def _escaped(character: str) -> str:
    return ascii(character)[1:-1]


def say(text: object) -> None:
    """Lines for the person, on standard error."""
    click.echo(_lines(text), err=True)


def tell(text: object) -> None:
    """Lines that were asked for, on standard output."""
    click.echo(_lines(text))


def _lines(text: object) -> str:
    return "\n".join(shown(line) for line in str(text).split("\n"))


def tell_json(content: Row) -> None:
    """One object; what is no JSON becomes text."""
    click.echo(json.dumps(content, default=str))


def tell_fields(row: Row) -> None:
    """A line a value, after its name."""
    width = max(map(len, row))
    for name, value in row.items():
        tell(f"{name:{width}}  {'' if value is None else shown(value)}".rstrip())


def tell_table(rows: Sequence[Row]) -> None:
    """Columns as wide as their longest value; nothing but a sentence if empty."""
    if not rows:
        say("There is none.")
        return
    texts = [
        list(rows[0]),
        *(["" if v is None else shown(v) for v in r.values()] for r in rows),
    ]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for line in texts:
        cells = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        tell("  ".join(cells).rstrip())


@contextmanager
def sentences() -> Iterator[None]:
    """Whatever goes wrong inside ends as one sentence and exit code 1.

    What a person can mend says so by itself; of all else the sentence names the log.
    """
    try:
        yield
    except (click.exceptions.Exit, click.ClickException):
        raise
    except StatusEngineError as error:
        _end(str(error))
    except (KeyboardInterrupt, click.Abort):
        say("Stopped. Run it again to continue.")
        sys.exit(1)
    except UnicodeEncodeError as error:
        # Bytes of an argument, or of a file's name, that are no UTF-8.
        _end(f"This is no text in UTF-8: {shown(error.object[:100])}.")
    except Exception as error:
        # Whoever read our output has had enough of it.
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            raise
        _end(_unforeseen(error))


def _end(sentence: str) -> None:
    say(f"Error: {sentence}")
    sys.exit(1)


def _unforeseen(error: Exception) -> str:
    """What happened in one line, and where the whole of it is kept."""
    lines = [line for line in _without_secrets(str(error)).splitlines() if line.strip()]
    what = lines[0].strip().rstrip(".") if lines else "without a word"
    report = _without_secrets("".join(traceback.format_exception(error)))
    try:
        path = _keep(report)
    except OSError as reason:
        where = f"it can't be kept either ({reason.strerror})"
    else:
        where = f"all of it is in {path}"
    return f"{type(error).__name__}: {what}; {where}."


def _keep(report: str) -> Path:
    """Add a report to the log, which is private."""
    path = make_folder(database.home()) / LOG_NAME
    command = " ".join(map(shown, sys.argv[1:]))
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    with os.fdopen(os.open(path, flags, 0o600), "a", encoding="utf-8") as log:
        log.write(f"{datetime.now(UTC).isoformat()} {command}\n{report}\n")
    return path


def _without_secrets(text: str) -> str:
    return database.without_secrets(text, os.environ.get("DATABASE_URL", ""))
