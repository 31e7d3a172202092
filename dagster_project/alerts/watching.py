"""What Dagster's own instance, the inbox and the ledger tell of troubles.

The instance is asked itself, newest first and only so far, by one sensor: Dagster's
sensors of run statuses take five runs a tick, so that what they say comes days late.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, LiteralString, NamedTuple

import dagster as dg
import psycopg
from dagster._core.definitions.freshness import TimeWindowFreshnessPolicy
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
)

from dagster_project.alerts.incidents import (
    HALF_HOUR,
    Looked,
    Observation,
    kind_of_error,
)
from dagster_project.alerts.pipeline import looked_at, tell
from dagster_project.alerts.remembered import Memory
from dagster_project.health.survey import survey
from dagster_project.judged import EVALUATED
from ingest.shelves import refusals
from ingest.store.database import Connection

# Failed runs of which the reasons are read; further ones are counted.
READ = 500
# Kinds of errors of one step that are told apart; what differs each time is one kind.
KINDS = 5
OTHERS = "other errors"
# Of health: the first is told of with each run here, and the second runs this.
TOLD_OTHERWISE = {"last_run", "daemon"}
ENDED = [TickStatus.FAILURE, TickStatus.SUCCESS, TickStatus.SKIPPED]
# A delivery's share of rejects is out of the ordinary where at least 20 rows were
# rejected, and it is above the mean of the 20 deliveries of its source before by three
# standard deviations, and by a percent of its rows; above a tenth, where there were
# fewer than five. The newest of a source counts, for a day.
_REJECTS: LiteralString = """
with recent as (
    select
        deliveries.*,
        files.source,
        rejected_count::float / read_count as share
    from raw.deliveries
    inner join raw.files using (file_id)
    where read_count > 0
    order by delivery_id desc
    limit 2000
),

judged as (
    select
        recent.*,
        case when count(*) over before_it >= 5
            then avg(share) over before_it
                + greatest(3 * stddev_pop(share) over before_it, 0.01)
            else 0.1
        end as most,
        row_number() over (partition by source order by delivery_id desc) as place
    from recent
    window before_it as (
        partition by source order by delivery_id
        rows between 20 preceding and 1 preceding
    )
)

select source, delivery_id, file_name, rejected_count, read_count, share, most
from judged
where
    place = 1
    and rejected_count >= 20
    and share > most
    and delivered_at > clock_timestamp() - interval '1 day'
order by source
"""


class Failed(NamedTuple):
    """A failed run: where its failure lies in the storage, its job, and by what."""

    position: int
    run_id: str
    job: str
    step: str
    reason: str

    @property
    def cause(self) -> str:
        """What it has in common with others of its kind."""
        return f"run/{self.job}/{self.step}/{kind_of_error(self.reason)}"


def tell_of_pipeline(
    instance: dg.DagsterInstance,
    graph: Any,
    home: Path,
    *,
    conninfo: str | None = None,
    now: float | None = None,
) -> list[str]:
    """Look at everything once, and send what is to be told; see `pipeline.tell`.

    Args:
        instance: whose runs, checks, assets and ticks are looked at.
        graph: of the assets and checks that are defined.
        home: the home folder.
        conninfo: of the database; what the environment says by default.
        now: seconds since 1970; this machine's clock by default.
    """
    instant = datetime.now(UTC).timestamp() if now is None else now

    def look(memory: Memory, connection: Connection | None) -> list[Looked]:
        findings = survey(home, conninfo=conninfo)
        return [
            failed_runs(instance, memory, instant),
            failed_checks(instance, graph),
            lost_freshness(instance, graph, instant),
            failed_ticks(instance, memory, instant),
            refused_files(home),
            *(rejected_shares(connection) if connection else []),
            looked_at([f for f in findings if f.name not in TOLD_OTHERWISE], memory),
        ]

    return tell(home, look, conninfo=conninfo, now=instant)


def failed_runs(instance: dg.DagsterInstance, memory: Memory, now: float) -> Looked:
    """Runs that failed since the last look; a success of a job ends its troubles."""
    known = {c: i for c, i in memory.incidents.items() if c.startswith("run/")}
    failures = _failures(instance, memory, now)
    counts: Counter[str] = Counter()
    newest: dict[str, Failed] = {}
    kinds = set(known)
    for failed in failures:
        cause = _told_apart(failed, kinds)
        kinds.add(cause)
        counts[cause] += 1
        newest.setdefault(cause, failed)
    if failures:
        # Of those that were not read it is known that they failed.
        first = _told_apart(failures[0], kinds)
        counts[first] += _unread(instance, memory, failures, now)
        _remember_position(instance, memory, failures[0])
    found = [
        Observation(cause, *_words(failed), counts[cause], str(failed.position))
        for cause, failed in newest.items()
    ]
    open_marks = {c: int(i.mark) for c, i in known.items() if i.ended_at is None}
    successes = _successes(instance, min(open_marks.values(), default=None))
    still = {c for c, mark in open_marks.items() if successes.get(_job(c), 0) <= mark}
    return Looked("run/", found, frozenset(still))


def _failures(
    instance: dg.DagsterInstance, memory: Memory, now: float
) -> Sequence[Failed]:
    """The newest first; in the first look, those of the last half hour."""
    newest = instance.fetch_run_status_changes(dg.DagsterEventType.RUN_FAILURE, limit=1)
    if newest.records and newest.records[0].storage_id < memory.position:
        # Another storage than the one that was looked at before.
        memory.position = 0
    wanted = dg.RunStatusChangeRecordsFilter(
        dg.DagsterEventType.RUN_FAILURE,
        after_storage_id=memory.position or None,
        after_timestamp=None if memory.position else now - HALF_HOUR,
    )
    records = instance.fetch_run_status_changes(wanted, limit=READ).records
    return [_failed(record.storage_id, record.event_log_entry) for record in records]


def _failed(position: int, entry: Any) -> Failed:
    event = entry.dagster_event
    data = event.event_specific_data
    step = getattr(data, "first_step_failure_event", None)
    reason = event.message or ""
    if step is not None:
        reason = _reason(step.step_failure_data) or reason
    elif data is not None and data.error is not None:
        reason = data.error.message
    name = step.step_key if step is not None and step.step_key else "no step"
    return Failed(position, entry.run_id, event.job_name, name, reason.strip())


def _reason(failure: Any) -> str:
    """What was said of a failed step: by its own code, not by Dagster around it."""
    said = failure.user_failure_data
    if said is not None and said.description:
        return str(said.description)
    error = failure.error
    while error is not None and error.cause is not None:
        error = error.cause
    return str(error.message) if error is not None else ""


def _told_apart(failed: Failed, kinds: set[str]) -> str:
    """Its cause, unless its step has failed in too many ways already."""
    prefix = f"run/{failed.job}/{failed.step}/"
    alike = {cause for cause in kinds if cause.startswith(prefix)}
    if failed.cause in kinds or len(alike) < KINDS:
        return failed.cause
    return prefix + OTHERS


def _words(failed: Failed) -> tuple[str, str]:
    said = failed.reason.partition("\n")[0][:500] or "without a word"
    return (
        f"{failed.job} failed at {failed.step}",
        f"{said} (the newest is run {failed.run_id[:8]})",
    )


def _unread(
    instance: dg.DagsterInstance, memory: Memory, read: Sequence[Failed], now: float
) -> int:
    """How many more runs failed since the last look than were read."""
    if len(read) < READ:
        return 0
    since = memory.position_at if memory.position else now - HALF_HOUR
    counted = instance.get_runs_count(
        dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.FAILURE],
            updated_after=datetime.fromtimestamp(since, UTC),
        )
    )
    return max(counted - len(read), 0)


def _remember_position(
    instance: dg.DagsterInstance, memory: Memory, newest: Failed
) -> None:
    memory.position = newest.position
    records = instance.get_run_records(dg.RunsFilter(run_ids=[newest.run_id]), limit=1)
    # It may have been deleted since.
    for record in records:
        memory.position_at = record.update_timestamp.replace(tzinfo=UTC).timestamp()


def _successes(instance: dg.DagsterInstance, after: int | None) -> dict[str, int]:
    """Where the newest success of each job lies, behind a place in the storage."""
    if after is None:
        return {}
    wanted = dg.RunStatusChangeRecordsFilter(
        dg.DagsterEventType.RUN_SUCCESS, after_storage_id=after
    )
    found: dict[str, int] = {}
    for record in instance.fetch_run_status_changes(wanted, limit=READ).records:
        event = record.event_log_entry.dagster_event
        if event is not None:
            found.setdefault(str(event.job_name), record.storage_id)
    return found


def _job(cause: str) -> str:
    return cause.split("/")[1]


def failed_checks(instance: dg.DagsterInstance, graph: Any) -> Looked:
    """Checks of severity ERROR whose newest evaluation failed; they fail no run."""
    storage = instance.event_log_storage
    keys = list(graph.asset_check_keys)
    latest = storage.get_latest_asset_check_execution_by_key(keys)
    found = []
    for key, newest in latest.items():
        evaluated = [newest]
        if newest.status not in EVALUATED:
            # It is planned again; what it was is what it is.
            evaluated = list(
                storage.get_asset_check_execution_history(
                    key, limit=1, status=EVALUATED
                )
            )
        found += [o for record in evaluated for o in _failed_check(record)]
    return Looked("check/", found)


def _failed_check(record: AssetCheckExecutionRecord) -> Iterator[Observation]:
    event = record.event.dagster_event if record.event else None
    if event is None:
        return
    data = event.asset_check_evaluation_data
    if not data.passed and data.severity is dg.AssetCheckSeverity.ERROR:
        asset, name = record.key.asset_key.to_user_string(), record.key.name
        said = data.description or "what it found is with the check in the UI"
        title = f"check {name} of {asset} failed"
        yield Observation(f"check/{asset}/{name}", title, said, 1, str(record.id))


def lost_freshness(instance: dg.DagsterInstance, graph: Any, now: float) -> Looked:
    """Assets that are older than their policy's fail window, a trouble a layer."""
    windows = {
        key: policy.fail_window.to_timedelta().total_seconds()
        for key in graph.get_all_asset_keys()
        if isinstance(
            policy := graph.get(key).freshness_policy, TimeWindowFreshnessPolicy
        )
    }
    late: dict[str, list[str]] = {}
    for record in instance.get_asset_records(list(windows)) if windows else []:
        entry = record.asset_entry
        newest = entry.last_materialization_record
        if newest is not None and now - newest.timestamp > windows[entry.asset_key]:
            layer = entry.asset_key.path[0]
            late.setdefault(layer, []).append(entry.asset_key.path[-1])
    found = [
        Observation(
            f"freshness/{layer}",
            f"{layer} is not fresh",
            f"{len(names)} assets were not made within their window: "
            f"{', '.join(sorted(names)[:5])}{' …' if len(names) > 5 else ''}",
            len(names),
            is_level=True,
        )
        for layer, names in late.items()
    ]
    return Looked("freshness/", found)


def failed_ticks(instance: dg.DagsterInstance, memory: Memory, now: float) -> Looked:
    """Schedules and sensors of which a tick failed since the last look."""
    found, still = [], set()
    for state in filter(lambda s: s.is_running, instance.all_instigator_state()):
        where = state.instigator_origin_id, state.selector_id
        name = f"{state.instigator_type.value.lower()} {state.name}"
        cause = f"tick/{name}"
        seen = memory.ticks.get(cause, 0)
        failed = instance.get_ticks(*where, statuses=[TickStatus.FAILURE], limit=READ)
        new = [
            tick
            for tick in failed
            if tick.tick_id > seen and (seen or tick.timestamp > now - HALF_HOUR)
        ]
        newest = instance.get_ticks(*where, statuses=ENDED, limit=1)
        if newest and newest[0].status is TickStatus.FAILURE:
            still.add(cause)
        if new:
            error, mark = new[0].error, new[0].tick_id
            memory.ticks[cause] = mark
            said = kind_of_error(error.message if error else "")
            title = f"a tick of {name} failed"
            found.append(Observation(cause, title, said, len(new), str(mark)))
    return Looked("tick/", found, frozenset(still))


def refused_files(home: Path) -> Looked:
    """Files that lie in the folder of refused ones, with their reasons beside them."""
    reasons = refusals(home)
    if not reasons:
        return Looked("refused/")
    newest = max(reasons, key=lambda path: (path.stat().st_mtime, path))
    said = newest.read_text(encoding="utf-8", errors="replace").strip()
    return Looked(
        "refused/",
        [
            Observation(
                "refused/files",
                f"{len(reasons):,} files of the inbox are refused",
                f"the newest: {said.partition(chr(10))[0][:500]}",
                len(reasons),
                is_level=True,
            )
        ],
    )


def rejected_shares(connection: Connection) -> Iterator[Looked]:
    """Deliveries of which a share of rows is rejected that is out of the ordinary."""
    try:
        rows: Sequence[Mapping[str, Any]] = (
            connection.cursor(row_factory=psycopg.rows.dict_row)
            .execute(_REJECTS)
            .fetchall()
        )
    # Health tells of a database that does not answer.
    except psycopg.Error:
        return
    yield Looked(
        "rejects/",
        [
            Observation(
                f"rejects/{row['source']}",
                f"many rows of {row['source']} are rejected",
                f"{row['rejected_count']:,} of {row['read_count']:,} rows of "
                f"{row['file_name']}, {row['share']:.1%}; up to {row['most']:.1%} is "
                "ordinary. Why: status-engine rejects list",
                1,
                str(row["delivery_id"]),
            )
            for row in rows
        ],
    )
