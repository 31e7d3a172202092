"""The numbered steps of schema raw: plain SQL, run by Alembic in one transaction.

The text in force of each function is a file of the folder functions beside this one;
what older steps say of it is history. A file that differs from what was applied last is
applied after the steps, which is all that a changed body needs. Other arguments or
results need a step that drops the function, and a body that an older release must not
put back needs a step too, empty as it may be.
"""

import hashlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from psycopg.types.json import Jsonb

from ingest.store.locks import Lock

FOLDER = Path(__file__).parent
FUNCTIONS = FOLDER.parent / "functions"
_FUNCTION = re.compile(
    r"^(?:create (?:or replace )?function .*?^\$\$;$|comment on function .*?;$)",
    re.DOTALL | re.MULTILINE,
)


@cache
def newest_step() -> str:
    """The number of the last step, such as 0001."""
    return max(path.stem for path in FOLDER.glob("versions/*.sql")).partition("_")[0]


@cache
def _functions() -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in FUNCTIONS.glob("*.sql")}


@cache
def digests() -> dict[str, str]:
    """SHA-256 of the text in force of each function, by its name."""
    return {
        name: hashlib.sha256(text).hexdigest() for name, text in _functions().items()
    }


def run_beside(step: str) -> None:
    """Run the plain SQL that stands beside the file of a step."""
    _run(Path(step).with_suffix(".sql").read_text(encoding="utf-8"))


def run_functions_of(step: str) -> None:
    """Make the functions of an earlier step, such as 0003_record, anew."""
    sql = (FOLDER / "versions" / f"{step}.sql").read_text(encoding="utf-8")
    for statement in _FUNCTION.findall(sql):
        _run(statement.replace("create function", "create or replace function", 1))


def _run(sql: str) -> None:
    from alembic import op

    # The driver itself: SQLAlchemy would send parameters, and with them one statement.
    driver = op.get_bind().connection.driver_connection
    assert driver is not None
    driver.execute(sql)


def _apply_functions(driver: Any) -> None:
    """Make the functions anew whose texts are others than were applied.

    What a text names is made before it: bodies of SQL are parsed when they are made.
    """
    from graphlib import TopologicalSorter

    (applied,) = driver.execute("select functions from raw.schema_version").fetchone()
    changed = dict(digests().items() - (applied or {}).items())
    texts = _functions()
    named = {
        name: {n for n in texts if n != name and f"raw.{n}(".encode() in text}
        for name, text in texts.items()
    }
    for name in TopologicalSorter(named).static_order():
        if name in changed:
            driver.execute(texts[name])
    driver.execute("update raw.schema_version set functions = %s", [Jsonb(digests())])


def run_steps(connect: Callable[[], Any]) -> None:
    """Run the steps that are missing, then the functions, on a connection of their own.

    Raises:
        psycopg.Error: whatever the server refused; nothing is left of it all.
    """
    # A third of a second to import, and needed once in the life of a database.
    from alembic import command
    from alembic.config import Config
    from sqlalchemy import create_engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.pool import NullPool

    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)
    try:
        with engine.begin() as steps:
            steps.exec_driver_sql(
                f"select pg_advisory_xact_lock({Lock.MIGRATION.value})"
            )
            steps.exec_driver_sql("create schema if not exists raw")
            config.attributes["connection"] = steps
            command.upgrade(config, "head")
            _apply_functions(steps.connection.driver_connection)
    except DBAPIError as error:
        raise (error.orig or error) from error
