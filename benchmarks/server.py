"""A PostgreSQL for a benchmark: the one of DATABASE_URL, else an embedded one."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from ingest.store import database, embedded


@contextmanager
def server() -> Iterator[str]:
    """The URL of a server with its settings as a user has them."""
    if given := os.environ.get("DATABASE_URL"):
        yield given
        return
    home = Path(tempfile.mkdtemp(prefix="bench-"))
    home.chmod(0o755)
    try:
        yield embedded.start(home)
    finally:
        embedded.stop(home, delete=True)
        shutil.rmtree(home)


@contextmanager
def fresh_database(server_url: str, name: str = "benchmark") -> Iterator[str]:
    """An upgraded database, dropped at the end."""
    url = make_conninfo(server_url, dbname=name)
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"drop database if exists {name} with (force)")
        connection.execute(f"create database {name}")
        with database.session(url):
            pass
        # What was written before must not be paid for by what is measured.
        connection.execute("checkpoint")
        yield url
        connection.execute(f"drop database {name} with (force)")


def psql(url: str, command: str) -> None:
    """Run one command of psql, as a user does."""
    subprocess.run([embedded.client("psql"), url, "-qc", command], check=True)
