"""The page of the tables: what dbt says of each, with its columns, tests and SQL.

What it says is written beside the models. Nothing is built or changed for it.
"""

from pathlib import Path

from dagster_project import swap
from dagster_project.builds import session_environment
from dagster_project.dbt_process import run_dbt
from dagster_project.resources import Warehouse
from ingest.errors import StatusEngineError
from ingest.store.cuts import Cut
from ingest.store.database import server_clock
from ingest.store.on_disk import make_folder, write_whole

PAGE_NAME = "docs.html"
# The browser then asks nobody, whatever the page holds: dbt's own can send statistics.
OFFLINE = (
    '<meta http-equiv="Content-Security-Policy" content="default-src '
    "'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'none'; "
    "form-action 'none'\">"
)


def write_docs(warehouse: Warehouse) -> Path:
    """Write the page beside the published files; a build may be at work meanwhile.

    Returns:
        Where it is: one file that needs no server and no network.

    Raises:
        StatusEngineError: dbt could not make it.
    """
    target = warehouse.folder / "dbt-docs"
    with warehouse.session() as connection:
        # The catalog alone is read, which is of no cut.
        cut = Cut(0, server_clock(connection))
        schema = swap.PUBLISHED
        environment = session_environment(warehouse.url, schema, cut, connection)
        # Compiling would ask the tables for what a build is to change.
        generate = ("docs", "generate", "--static", "--no-compile")
        for arguments in (("parse",), generate):
            run_dbt(arguments, target, "The page can't be made", environment)
    page = make_folder(warehouse.folder / "published") / PAGE_NAME
    write_whole(page, _offline((target / "static_index.html").read_text("utf-8")))
    return page


def _offline(page: str) -> str:
    """The page with the rule that nothing is fetched, before all else of it."""
    head, tag, rest = page.partition("<head>")
    if not tag:
        msg = "The page that dbt made has no head, so it is not kept. Report this."
        raise StatusEngineError(msg)
    return f"{head}{tag}{OFFLINE}{rest}"
