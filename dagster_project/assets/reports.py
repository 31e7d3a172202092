"""The week's review of service levels as a page, and how good its forecast was.

Of a week, so of job `report`, not of each run.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg

from dagster_project.assets import (
    OWNERS,
    REPORTS,
    WHEN_RED,
    Stopwatch,
    in_a_sentence,
    narrate,
)
from dagster_project.pictures import Calibrated, draw_calibration
from dagster_project.resources import Warehouse
from ingest.errors import StatusEngineError
from ingest.store.on_disk import make_folder, write_whole

if TYPE_CHECKING:
    from analytics.forecast import BackTest
    from analytics.published import Publication

KEY = dg.AssetKey(["reports", "week"])
BACK_TEST = dg.AssetKey(["reports", "forecast_backtest"])
TOO_SHORT = "The history is too short to hold the forecast against what came."
CALIBRATION = dg.TableSchema(
    [
        dg.TableColumn("bin", "float", "The lower end of a tenth of the probability."),
        dg.TableColumn("forecast_count", "int", "Deadlines that it was said of."),
        dg.TableColumn("breached_count", "int", "Those that were breached."),
        dg.TableColumn("mean_probability", "float", "What was said on average."),
        dg.TableColumn("observed_ratio", "float", "The share that was breached."),
        dg.TableColumn("observed_low", "float", "Of its exact 95 % interval."),
        dg.TableColumn("observed_high", "float", "Of its exact 95 % interval."),
    ]
)


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
    from analytics.report import page, report

    stopwatch = Stopwatch()
    with _published(warehouse) as publication:
        found = report(publication)
    folder = make_folder(warehouse.folder / REPORTS)
    file = folder / f"{found.week}.html"
    write_whole(file, page(found))
    narrate(context, f"review of week {found.week}: {file}")
    now = found.total.now
    metadata: dict[str, Any] = {
        # As `status-engine ui` serves it, beside this page.
        "page": dg.MetadataValue.url(f"/{REPORTS}/{file.name}"),
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


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            BACK_TEST,
            deps=[["published", "analytics"]],
            description="How good the breach forecast was on the past six Mondays, by "
            "what was known then: for each tenth of the probability how many deadlines "
            "had it and how many of them were breached, and the Brier score beside "
            "that of the base rate. Its sentence says whether it is better than that. "
            f"{WHEN_RED['reports']}",
            group_name="reports",
            owners=OWNERS,
            kinds={"duckdb"},
        )
    ]
)
def forecast_backtest(
    context: dg.AssetExecutionContext, warehouse: Warehouse
) -> Iterator[Any]:
    """Hold past forecasts against what came; where the history is short, say so."""
    from analytics.report import tested

    stopwatch = Stopwatch()
    with _published(warehouse) as publication:
        found, cut = tested(publication), publication.cut
    metadata = _told(found) if found else {"verdict": TOO_SHORT, "forecasts": 0}
    narrate(context, metadata["verdict"])
    yield dg.MaterializeResult(
        asset_key=BACK_TEST,
        metadata={**metadata, "cut": cut, "seconds": stopwatch.seconds},
    )


@contextmanager
def _published(warehouse: Warehouse) -> Iterator["Publication"]:
    """What is published, while it is read; in a sentence where there is nothing."""
    from analytics.published import PublicationError, open_publication

    try:
        with open_publication(warehouse.folder) as publication:
            yield publication
    except PublicationError as error:
        raise in_a_sentence(StatusEngineError(str(error))) from error


def _told(found: "BackTest") -> dict[str, Any]:
    """The verdict, the calibration as a table and as a picture, figures to plot."""
    verdict = found.verdict
    rows = found.calibration.to_dicts()
    bins = [
        Calibrated(
            row["mean_probability"],
            row["observed_ratio"],
            row["observed_low"],
            row["observed_high"],
        )
        for row in rows
    ]
    figures = {
        "brier_score": verdict.brier,
        "base_rate_brier_score": verdict.base_brier,
        "gain": verdict.gain,
        "gain_low": verdict.interval and verdict.interval.low,
        "gain_high": verdict.interval and verdict.interval.high,
    }
    return {
        "verdict": verdict.sentence,
        "beats_base_rate": verdict.beats_base,
        "calibration": dg.MetadataValue.md(draw_calibration(bins)),
        "calibration_table": dg.MetadataValue.table(
            [dg.TableRecord(row) for row in rows], CALIBRATION
        ),
        "forecasts": verdict.forecast_count,
        "stays": verdict.stay_count,
        "breached": verdict.breached_count,
        "deadlines_moved_later": verdict.moved_count,
        **{name: value for name, value in figures.items() if value is not None},
    }
