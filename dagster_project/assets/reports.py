"""The week's review of service levels, as the asset of a page."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from dagster_project.assets import OWNERS, WHEN_RED, Stopwatch, in_a_sentence, narrate
from dagster_project.resources import Warehouse
from ingest.errors import StatusEngineError
from ingest.store.on_disk import make_folder, write_whole

KEY = dg.AssetKey(["reports", "week"])
FOLDER = "reports"


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            KEY,
            deps=[["published", "analytics"]],
            description="The review of the last week that is over, one page in the "
            "home's folder reports: compliance beside the week before, how late "
            "breaches were, open work, what is likely to breach, what stands out. Of "
            "another week: status-engine report --week 2026-W47. "
            f"{WHEN_RED['reports']}",
            group_name="reports",
            owners=OWNERS,
            kinds={"html", "duckdb"},
        )
    ]
)
def week(context: dg.AssetExecutionContext, warehouse: Warehouse) -> Iterator[Any]:
    """Write the page of what is published now; one of the week before stays."""
    # What reckons intervals takes a second to import; each run imports this module.
    from analytics.published import PublicationError, open_publication
    from analytics.report import page, report

    stopwatch = Stopwatch()
    try:
        with open_publication(warehouse.folder) as publication:
            found = report(publication)
    except PublicationError as error:
        raise in_a_sentence(StatusEngineError(str(error))) from error
    folder = make_folder(warehouse.folder / FOLDER)
    file = folder / f"{found.week}.html"
    write_whole(file, page(found))
    narrate(context, f"review of week {found.week}: {file}")
    now = found.total.now
    metadata: dict[str, Any] = {
        "file": dg.MetadataValue.path(str(file)),
        "week": found.week,
        "cut": found.cut,
        "due": now.due,
        "breached": now.due - now.met,
        "expected_breaches": found.expected_breaches,
        "seconds": stopwatch.seconds,
    }
    if now.ratio is not None:
        metadata["compliance_ratio"] = now.ratio
    yield dg.MaterializeResult(asset_key=KEY, metadata=metadata)
