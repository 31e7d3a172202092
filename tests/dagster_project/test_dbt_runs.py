"""A run of dbt ends with whoever listens to it."""

import threading
import time

import psutil
from commands import run

from ingest.store import database

DBT_IS_AT_WORK = """
select from pg_stat_activity
where datname = current_database() and application_name = 'dbt'
"""
END_LISTENERS = """
-- Those of dbt would end with the one that holds its lock.
select pg_terminate_backend(pid)
from pg_stat_activity
where
    datname = current_database()
    and application_name <> 'dbt'
    and pid <> pg_backend_pid()
    and pid not in (select pid from pg_locks where locktype = 'advisory')
"""


def _end_listeners(url: str) -> None:
    with database.connect(url) as connection:
        while connection.execute(DBT_IS_AT_WORK).fetchone() is None:
            time.sleep(0.05)
        connection.execute(END_LISTENERS)


def test_a_build_without_its_database_ends_dbt_and_says_one_sentence(
    installed_url: str,
) -> None:
    ending = threading.Thread(target=_end_listeners, args=[installed_url])
    ending.start()
    said = run("build")
    ending.join()
    assert said.code == 1
    assert said.err.count("Error: ") == 1
    assert "Traceback" not in said.err
    assert [
        child.cmdline()
        for child in psutil.Process().children(recursive=True)
        if "dbt" in " ".join(child.cmdline())
    ] == []
