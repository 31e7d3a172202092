"""Which PostgreSQL, and the upgrade of schema raw.

DATABASE_URL names a server; without it an embedded one serves STATUS_ENGINE_HOME.
What goes into the tables does not belong here.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow

from ingest import embedded, migrations
from ingest.errors import DatabaseError

Connection = psycopg.Connection[TupleRow]

PROJECT = Path(__file__).resolve().parents[1]
OLDEST_SERVER = 15


def home() -> Path:
    """The folder of everything that this installation keeps, absolute."""
    return Path(
        os.environ.get("STATUS_ENGINE_HOME") or PROJECT / ".status-engine"
    ).resolve()


def url() -> str:
    """The connection string; starts the embedded server where it is the one in use.

    Raises:
        DatabaseError: the embedded server can't be started.
    """
    return os.environ.get("DATABASE_URL") or embedded.start(home())


def connect(conninfo: str | None = None) -> Connection:
    """Open a connection in autocommit, its session in UTC (S1).

    Args:
        conninfo: a connection string; `url()` where it is not given.

    Raises:
        DatabaseError: the server can't be reached, or is older than 15.
    """
    connection = reach(conninfo or url(), "DATABASE_URL")
    connection.execute("set timezone = 'UTC'")
    if connection.info.server_version < OLDEST_SERVER * 10_000:
        found = connection.info.server_version // 10_000
        connection.close()
        msg = f"PostgreSQL {found} is too old; {OLDEST_SERVER} or newer is needed."
        raise DatabaseError(msg)
    return connection


def another(connection: Connection) -> Connection:
    """A second connection, as `connect` opens it, to where the first one goes."""
    info = connection.info
    return connect(make_conninfo(info.dsn, password=info.password or None))


def reach(conninfo: str, named_by: str) -> Connection:
    """Open a connection in autocommit to any PostgreSQL, as it is.

    Raises:
        DatabaseError: it can't be reached; `named_by` says what to check.
    """
    try:
        return psycopg.connect(conninfo, autocommit=True, connect_timeout=10)
    except psycopg.ProgrammingError as error:
        # The reason repeats the string, with its password.
        msg = (
            f"{named_by} is no PostgreSQL connection string, such as "
            "postgresql://user@host/database."
        )
        raise DatabaseError(msg) from error
    except psycopg.OperationalError as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        msg = f"The database can't be reached: {reason}. Check {named_by}."
        raise DatabaseError(msg) from error


@contextmanager
def session(conninfo: str | None = None) -> Iterator[Connection]:
    """A connection to an upgraded database, closed at the end.

    Raises:
        DatabaseError: as `connect` and `upgrade`; also where the server goes away
            inside the block.
    """
    connection = connect(conninfo)
    try:
        upgrade(connection)
        yield connection
    except psycopg.errors.InsufficientPrivilege as error:
        raise _without_rights(connection, error) from error
    except psycopg.OperationalError as error:
        msg = f"The database stopped answering: {str(error).strip()}. Run it again."
        raise DatabaseError(msg) from error
    finally:
        connection.close()


def upgrade(connection: Connection) -> None:
    """Bring schema raw to the newest step; safe twice and by two processes at once.

    Raises:
        DatabaseError: the role may not create a schema or its tables, or a newer
            release has upgraded this database. Nothing is left.
    """
    found, newest = _version(connection), migrations.newest_step()
    if found == newest:
        return
    if found is not None and found > newest:
        msg = f"Schema raw is at step {found}, this release knows {newest}. Install it."
        raise DatabaseError(msg)
    conninfo = make_conninfo(connection.info.dsn, password=connection.info.password)
    try:
        migrations.run_steps(lambda: psycopg.connect(conninfo))
    except psycopg.errors.InsufficientPrivilege as error:
        raise _without_rights(connection, error) from error


def environment(conninfo: str) -> dict[str, str]:
    """The PG* variables that name the same database to dbt and psql."""
    names = {"dbname": "PGDATABASE", "options": "PGOPTIONS", "password": "PGPASSWORD"}
    parts = conninfo_to_dict(conninfo)
    return {
        names.get(key, f"PG{key.replace('_', '').upper()}"): str(value)
        for key, value in parts.items()
        if value is not None
    }


def row_count(connection: Connection, relation: str) -> int:
    """How many rows a relation has; a condition may follow its name."""
    row = connection.execute(f"select count(*) from {relation}".encode()).fetchone()
    return int(row[0]) if row else 0


def _version(connection: Connection) -> str | None:
    known = connection.execute("select to_regclass('raw.schema_version')").fetchone()
    if known == (None,):
        return None
    row = connection.execute("select version_num from raw.schema_version").fetchone()
    return str(row[0]) if row else None


def _without_rights(connection: Connection, error: psycopg.Error) -> DatabaseError:
    reason = error.diag.message_primary or str(error)
    name = connection.info.dbname
    return DatabaseError(
        f"The role {connection.info.user} lacks a right in database {name}: {reason}. "
        f"Grant it, for example: grant create on database {name} "
        f"to {connection.info.user}."
    )
