"""A job that replays rejects, as `status-engine rejects replay` does."""

import dagster as dg
from pydantic import Field

from dagster_project.assets import in_a_sentence, narrate
from dagster_project.resources import Warehouse
from ingest import rejects
from ingest.errors import StatusEngineError

REJECTED = dg.AssetKey(["raw", "rejected_transitions"])


class ReplayConfig(dg.Config):
    """Which rejects are judged again, and whether anything is written."""

    code: str | None = Field(
        default=None,
        description="Only rejects with this code, as `created_at_exists_once`; by "
        "default all open ones. `status-engine rejects list` counts them by code.",
    )
    rejected_ids: list[int] = Field(
        default=[],
        description="Only these, by rejected_id of raw.rejected_transitions.",
    )
    dry_run: bool = Field(
        default=False,
        description="Only say what would become of them; nothing is written.",
    )


@dg.op(name="replay")
def replay(
    context: dg.OpExecutionContext, config: ReplayConfig, warehouse: Warehouse
) -> None:
    """Judge open rejects again from their own bytes; append what passes now.

    Raises:
        Failure: what was selected can't be replayed; says why.
    """
    selection = rejects.Selection(config.rejected_ids or None, config.code)
    try:
        with warehouse.session() as connection:
            replayed = rejects.replay(connection, selection, dry_run=config.dry_run)
    except StatusEngineError as error:
        raise in_a_sentence(error) from error
    reasons = "\n".join(
        f"- {count:,} `{code}`: {rejects.REASONS[code]}"
        for code, count in replayed.open_codes.most_common()
    )
    context.log_event(
        dg.AssetObservation(
            REJECTED,
            metadata={
                "dry_run": config.dry_run,
                "selected": replayed.selected,
                "resolved": replayed.resolved,
                **replayed.result._asdict(),
                "still_rejected": replayed.open_codes.total(),
                "reasons": dg.MetadataValue.md(reasons or "None stays rejected."),
            },
        )
    )
    narrate(
        context,
        f"{'dry run, nothing is written: ' * config.dry_run}{replayed.selected:,} "
        f"rejects; {replayed.resolved:,} resolved, "
        f"{replayed.open_codes.total():,} still rejected",
    )


@dg.job(
    description="Judge refused rows again, once their cause is mended: a workflow, "
    "calendar or entity type that was missing. What passes now is appended, once, and "
    "is built by the next run; what still fails stays, with its reason. Rows of files "
    "whose mapping was wrong need the corrected one: `status-engine rejects replay "
    "--mapping`.",
    executor_def=dg.in_process_executor,
)
def replay_rejects() -> None:
    """One step."""
    replay()
