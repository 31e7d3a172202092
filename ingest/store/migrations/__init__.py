"""The numbered steps of schema raw: plain SQL, run by Alembic in one transaction."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ingest.store.locks import Lock

FOLDER = Path(__file__).parent
_FUNCTION = re.compile(
    r"^(?:create (?:or replace )?function .*?^\$\$;$|comment on function .*?;$)",
    re.DOTALL | re.MULTILINE,
)


def newest_step() -> str:
    """The number of the last step, such as 0001."""
    return max(path.stem for path in FOLDER.glob("versions/*.sql")).partition("_")[0]


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


def run_steps(connect: Callable[[], Any]) -> None:
    """Run the steps that are missing, on a connection of their own.

    Raises:
        psycopg.Error: whatever the server refused; nothing of the steps is left.
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
    except DBAPIError as error:
        raise (error.orig or error) from error
