"""The page of the tables: offline, of this database, and nothing changed for it."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import yaml
from commands import run
from first_run import Built

from dagster_project.docs import OFFLINE
from ingest.store import database
from ingest.store.database import PROJECT
from ingest.store.locks import Lock, holding

Installation = Callable[..., AbstractContextManager[str]]
# Each relation, and the transaction that made its definition or filled it last.
STATE = """
select oid, relname, relfilenode, pg_class.xmin::text from pg_class
where relnamespace::regnamespace::text ~ '^(raw|sla)'
union all
select 0, 'cuts', 0, string_agg(cuts::text, ' ' order by cut) from raw.cuts
union all
select 0, 'intervals', 0, string_agg(xmin::text, ' ' order by interval_id)
from sla.status_intervals
order by 1, 2
"""


@pytest.fixture
def page(installation: Installation, built: Built) -> str:
    """Made while a build holds its lock; it says where, and leaves all as it was."""
    with (
        installation(built.home, template=built.url) as url,
        database.connect(url) as connection,
    ):
        before = connection.execute(STATE).fetchall()
        with holding(connection, Lock.BUILD):
            said = run("docs")
        assert connection.execute(STATE).fetchall() == before
    path = built.home / "published" / "docs.html"
    assert said == (
        0,
        "",
        f"The tables are explained in {path}; open it in a browser.\n",
    )
    return path.read_text(encoding="utf-8")


def test_page_tells_every_column_and_fetches_nothing(page: str) -> None:
    missing = []
    for file in (PROJECT / "dbt" / "models" / "sla").rglob("*.yml"):
        for model in yaml.safe_load(file.read_text())["models"]:
            # Functions have none.
            for column in model.get("columns", []):
                text = column["description"].replace('"', '\\"')
                missing += [] if text in page else [(model["name"], column["name"])]
    assert missing == []
    # Of the database itself.
    assert '"owner": "postgres"' in page
    assert "Numbers in brackets, such as (S10)" in page
    # Its browser is told to ask nobody, before anything that could.
    head = page.partition("<head>")[2]
    assert head.startswith(OFFLINE)
    assert "connect-src 'none'" in OFFLINE
    assert "default-src 'unsafe-inline' 'unsafe-eval' data: blob:;" in OFFLINE
    # Nor would it without that rule: nothing is named, and no statistics are sent.
    fetched = r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=[\"']?(?:https?:)?//"
    assert not re.search(fetched, page)
    assert '"send_anonymous_usage_stats": false' in page
