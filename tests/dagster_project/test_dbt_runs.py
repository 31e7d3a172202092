"""A run of dbt ends with whoever listens to it, and has an environment of its own."""

import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
from commands import run

from dagster_project.dbt_process import run_dbt
from dagster_project.dbt_program import handed_over
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


def test_what_dbt_is_given_is_in_no_other_session(
    tmp_path: Path,
) -> None:
    """Dagster's storage connects while dbt is started, and libpq reads the same."""
    seen: list[str | None] = []

    class Storage(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002
            seen.append(os.environ.get("PGOPTIONS"))

    logger, storage = logging.getLogger("dagster.builtin"), Storage()
    logger.addHandler(storage)
    try:
        run_dbt(
            ["debug", "--config-dir"], tmp_path, "It fails", {"PGOPTIONS": "-c x=y"}
        )
    finally:
        logger.removeHandler(storage)
    assert seen
    assert set(seen) == {os.environ.get("PGOPTIONS")}


def test_dbt_is_given_what_it_was_meant_to_have() -> None:
    code = "import os, sys; sys.exit(os.environ['PGOPTIONS'] != '-c x=y')"
    start = f"import dbt.cli.main as dbt; dbt.cli = lambda: exec({code!r})"
    main = "from dagster_project.dbt_program import main; main()"
    environment = {**os.environ, **handed_over({"PGOPTIONS": "-c x=y"})}
    assert "PGOPTIONS" not in handed_over({"PGOPTIONS": ""})
    subprocess.run(
        [sys.executable, "-c", f"{start}\n{main}"], env=environment, check=True
    )
