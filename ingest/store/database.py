"""Which PostgreSQL, how its sessions are set, and the upgrade of schema raw.

DATABASE_URL names a server; without it an embedded one serves STATUS_ENGINE_HOME.
What goes into the tables does not belong here.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg.sql import SQL, Literal

from ingest.errors import DatabaseError
from ingest.store import embedded, migrations

Connection = psycopg.Connection[TupleRow]

PROJECT = Path(__file__).resolve().parents[2]
OLDEST_SERVER = 15
# For a server's first answer, in seconds.
PATIENCE = 10
# What our statements, and the texts that they send and get, rely on, whatever a role, a
# database or the environment says. Every session of ours is set so: those of `connect`
# by a statement, those of dbt by PGOPTIONS. Not among them is what changes no result
# (plans, memory, where things are stored), when a commit is safe, and
# default_transaction_read_only: who sets it means it.
RELIED_ON = {
    "search_path": "pg_catalog",
    "client_encoding": "UTF8",
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    # Every float reads back as it was; with less, digits are lost.
    "extra_float_digits": "1",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "timezone_abbreviations": "Default",
    "quote_all_identifiers": "off",
    "standard_conforming_strings": "on",
    "backslash_quote": "safe_encoding",
    "transform_null_equals": "off",
    "array_nulls": "on",
    "row_security": "on",
    "restrict_nonsystem_relation_kind": "",
    "gin_fuzzy_search_limit": "0",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "check_function_bodies": "on",
    "exit_on_error": "off",
    "client_min_messages": "notice",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
}
# A server knows those of its version.
_SET = SQL(
    """
    set search_path = pg_catalog;
    select set_config(name, setting, false)
    from (values {}) as relied_on (name, setting)
    where current_setting(name, true) <> setting;
    """
).format(
    SQL(", ").join(
        SQL("({}, {})").format(Literal(name), Literal(setting))
        for name, setting in RELIED_ON.items()
    )
)


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


def connect(conninfo: str | None = None, patience: int = PATIENCE) -> Connection:
    """Open a connection in autocommit, its session set as RELIED_ON says (S1).

    Args:
        conninfo: a connection string; `url()` where it is not given.
        patience: for how many seconds a server is waited for.

    Raises:
        DatabaseError: the server can't be reached or is older than 15, or the database
            is not in UTF8.
    """
    connection = reach(conninfo or url(), "DATABASE_URL", patience)
    try:
        _require_server(connection)
        connection.execute(_SET)
    except BaseException:
        connection.close()
        raise
    return connection


def _require_server(connection: Connection) -> None:
    found = connection.info.server_version // 10_000
    if found < OLDEST_SERVER:
        msg = f"PostgreSQL {found} is too old; {OLDEST_SERVER} or newer is needed."
        raise DatabaseError(msg)
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        msg = (
            f"Database {connection.info.dbname} is in {encoding}, which can't hold "
            "every text; make one in UTF8: "
            "create database … encoding 'UTF8' template template0."
        )
        raise DatabaseError(msg)


def another(connection: Connection) -> Connection:
    """A second connection, as `connect` opens it, to where the first one goes."""
    info = connection.info
    return connect(make_conninfo(info.dsn, password=info.password or None))


def reach(conninfo: str, named_by: str, patience: int = PATIENCE) -> Connection:
    """Open a connection in autocommit to any PostgreSQL, as it is.

    Raises:
        DatabaseError: it can't be reached; `named_by` says what to check. Nothing of a
            password is in it, nor in what it comes from.
    """
    require_conninfo(conninfo, named_by)
    try:
        return psycopg.connect(conninfo, autocommit=True, connect_timeout=patience)
    except psycopg.Error as error:
        reason = _reason(error).rstrip(".")
        msg = f"The database can't be reached: {reason}. Check {named_by}."
        raise DatabaseError(msg) from error


def require_conninfo(conninfo: str, named_by: str) -> None:
    """Refuse what libpq would take apart otherwise than it is meant.

    It would repeat parts of a password as the name of a host, a port or a database.

    Raises:
        DatabaseError: `named_by` is to be corrected; nothing of what it holds is told.
    """
    try:
        parts = conninfo_to_dict(conninfo)
    # The reason repeats the string, and so would what this error comes from.
    except (psycopg.Error, ValueError):
        parts = None
    address = re.sub(r"^\w+://", "", conninfo).partition("?")[0]
    # In a keyword string and in the query of a URL nothing needs to be escaped.
    credentials = address.rpartition("@")[0] if "://" in conninfo else ""
    hosts = str((parts or {}).get("host") or "").split(",")
    ports = str((parts or {}).get("port") or "").split(",")
    if (
        parts is None
        or not {"@", "/"}.isdisjoint(credentials)
        or any("@" in host and host[0] not in "/@" for host in hosts)
        or not all(port.isdecimal() for port in ports if port)
    ):
        msg = (
            f"{named_by} is no PostgreSQL connection string such as "
            "postgresql://user:password@host:5432/database; in its user and password, "
            "@ is written %40 and / is written %2F."
        )
        raise DatabaseError(msg)


def without_secrets(text: str, conninfo: str) -> str:
    """A text without a connection string and the password in it."""
    try:
        password = conninfo_to_dict(conninfo).get("password")
    except Exception:
        password = None
    for secret in (conninfo, str(password or "")):
        text = text.replace(secret, "…") if secret else text
    return text


def _reason(error: psycopg.Error) -> str:
    """What the server or libpq says, in one line."""
    lines = (error.diag.message_primary or str(error)).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def session(
    conninfo: str | None = None, *, is_reading: bool = False
) -> Iterator[Connection]:
    """A connection to an upgraded database, closed at the end.

    Args:
        conninfo: as `connect` takes it.
        is_reading: whether schema sla may be all that the role has rights on; what
            it lacks on schema raw is then told where it is needed.

    Raises:
        DatabaseError: as `connect` and `upgrade`; also where the server goes away
            inside the block, is read-only, or its role may not do what is done there.
    """
    connection = connect(conninfo)
    try:
        if not (is_reading and _has_no_rights_on_raw(connection)):
            upgrade(connection)
        yield connection
    except psycopg.errors.InsufficientPrivilege as error:
        raise _without_rights(connection, error) from error
    except psycopg.errors.ReadOnlySqlTransaction as error:
        msg = (
            f"Database {connection.info.dbname} is read-only here: {_reason(error)}. "
            "Name a server and a role that may write in DATABASE_URL."
        )
        raise DatabaseError(msg) from error
    except psycopg.errors.DiskFull as error:
        msg = f"The database's disk is full: {_reason(error)}. Make room, run it again."
        raise DatabaseError(msg) from error
    except psycopg.OperationalError as error:
        msg = (
            f"The database stopped answering: {_reason(error)}."
            f"{_where_its_log_is()} Run it again."
        )
        raise DatabaseError(msg) from error
    finally:
        connection.close()


def _where_its_log_is() -> str:
    is_ours = not os.environ.get("DATABASE_URL")
    return f" Its log is {embedded.log_of(home())}." if is_ours else ""


def _has_no_rights_on_raw(connection: Connection) -> bool:
    row = connection.execute(
        "select has_schema_privilege(oid, 'usage') from pg_namespace "
        "where nspname = 'raw'"
    ).fetchone()
    return row == (False,)


def upgrade(connection: Connection) -> None:
    """Bring schema raw to the newest step, and its functions to their newest texts.

    Safe twice and by two processes at once.

    Raises:
        DatabaseError: the role may not create a schema or its tables, or a newer
            release has upgraded this database. Nothing is left.
    """
    (found, functions), newest = _made(connection), migrations.newest_step()
    if found == newest and functions == migrations.digests():
        return
    if found is not None and found > newest:
        msg = f"Schema raw is at step {found}, this release knows {newest}. Install it."
        raise DatabaseError(msg)
    try:
        migrations.run_steps(lambda: _in_transactions(another(connection)))
    except psycopg.errors.InsufficientPrivilege as error:
        if found is not None:
            raise _without_rights(connection, error) from error
        user, name = connection.info.user, connection.info.dbname
        msg = (
            f"The role {user} may not create schema raw in database {name}: "
            f"{_reason(error)}. Let its owner run status-engine init, or: "
            f"grant create on database {name} to {user}."
        )
        raise DatabaseError(msg) from error


def environment(conninfo: str) -> dict[str, str]:
    """The PG* variables that name the same database to dbt and psql.

    A few parameters have none, as keepalives; these are left out.
    """
    variables = {
        option.keyword.decode(): option.envvar.decode()
        for option in psycopg.pq.Conninfo.get_defaults()
        if option.envvar is not None
    }
    parts = conninfo_to_dict(conninfo)
    return {
        variables[key]: str(value)
        for key, value in parts.items()
        if key in variables and value is not None
    }


def session_options(connection: Connection) -> str:
    """RELIED_ON as PGOPTIONS has it, as far as the server knows it."""
    known = connection.execute(
        "select name from unnest(%s::text[]) as name where current_setting(name, true) "
        "is not null",
        [list(RELIED_ON)],
    ).fetchall()
    return options({name: RELIED_ON[name] for (name,) in known})


def options(settings: Mapping[str, object]) -> str:
    """Settings of a session as PGOPTIONS has them."""
    escaped = {
        name: re.sub(r"([\\ ])", r"\\\1", str(v)) for name, v in settings.items()
    }
    return " ".join(f"-c {name}={value}" for name, value in escaped.items())


def server_clock(connection: Connection) -> datetime:
    """What the clock of the server shows, in the zone of the session: UTC in ours."""
    row = connection.execute("select clock_timestamp()").fetchone()
    assert row is not None
    clock: datetime = row[0]
    return clock


def row_count(connection: Connection, relation: str) -> int:
    """How many rows a relation has; a condition may follow its name."""
    row = connection.execute(f"select count(*) from {relation}".encode()).fetchone()
    return int(row[0]) if row else 0


def _in_transactions(connection: Connection) -> Connection:
    connection.autocommit = False
    return connection


def _made(connection: Connection) -> tuple[str | None, dict[str, str] | None]:
    """The last step that was run, and the digests of the functions as applied."""
    known = connection.execute("select to_regclass('raw.schema_version')").fetchone()
    if known == (None,):
        return None, None
    # As JSON, because before step 0014 it has no functions.
    row = connection.execute(
        "select to_jsonb(made) from raw.schema_version as made"
    ).fetchone()
    return (row[0]["version_num"], row[0].get("functions")) if row else (None, None)


def _without_rights(connection: Connection, error: psycopg.Error) -> DatabaseError:
    user, name = connection.info.user, connection.info.dbname
    return DatabaseError(
        f"The role {user} lacks a right in database {name}: {_reason(error)}. "
        f"Readers need schema sla alone (grant usage on schema sla to {user}, and "
        "select on its tables); who writes is a member of the role that owns raw."
    )
