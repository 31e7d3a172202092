"""The example mappings on real data, against what plain Python makes of the sources.

What is appended, and what is derived of it under the workflow of the example; then the
facts that come with the data. The two largest files are tried by night.
"""

import csv
import gzip
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import groupby, pairwise
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

import business_time_oracle as business_time
import polars as pl
import pytest
import source_compliance
import yaml
from business_time_oracle import Calendar
from holidays import country_holidays

from ingest import DeliveryResult, Settings, deliver, load_mapping
from ingest.configuration import workflows
from ingest.store.cuts import Cut
from ingest.store.database import Connection

PROJECT = Path(__file__).parents[1]
DATA = PROJECT.parent / "shared" / "data"

pytestmark = pytest.mark.skipif(not DATA.exists(), reason="the real data is not here")

Check = Callable[[Connection], None]
Derive = Callable[..., list["Stay"]]
Source = dict[str, str]


class Event(NamedTuple):
    """A transition as the source tells it; `content` is all that sets it apart."""

    entity: str
    at: datetime
    status: str
    deadline: datetime | None
    content: tuple[str, ...]


class Expected(NamedTuple):
    """What a file must become: transitions read, those kept, and rejects by code."""

    source_rows: int
    read: int
    events: list[Event]
    rejected: Counter[str]


class Stay(NamedTuple):
    """One interval of an entity, as the transitions of the source tell it."""

    entity: str
    status: str
    entered_at: datetime
    left_at: datetime | None
    transition_count: int
    deadline: datetime | None
    verdict: str | None


class Workflow(NamedTuple):
    """What an example's workflow file says of its statuses, and its calendar."""

    hours: dict[str, Decimal | None]
    final: set[str]
    calendar: Calendar | None


def _workflow(name: str) -> Workflow:
    folder = PROJECT / "examples" / name
    content = yaml.safe_load((folder / "workflow.yml").read_text())
    steps = content["steps"]
    hours = {
        step["status_name"]: None
        if step["sla_hours"] is None
        else Decimal(step["sla_hours"])
        for step in steps
    }
    final = {step["status_name"] for step in steps if step["is_final"]}
    if content["calendar"] is None:
        return Workflow(hours, final, None)
    said = yaml.safe_load((folder / "calendar.yml").read_text())
    first, last = said["covers"]
    closed = country_holidays(said["holidays"]["country"], years=range(first, last + 1))
    return Workflow(
        hours,
        final,
        business_time.calendar(
            said["timezone"],
            said["windows"],
            date(first, 1, 1),
            date(last, 12, 31),
            closed_dates=list(closed),
        ),
    )


def _stays(events: list[Event], workflow: Workflow) -> list[Stay]:
    """Of each entity in turn."""
    stays = []
    # Sorting is stable: at one instant the order of the file holds.
    by_entity = sorted(events, key=lambda event: (event.entity, event.at))
    for entity, group in groupby(by_entity, key=lambda event: event.entity):
        runs = [list(g) for _, g in groupby(group, key=lambda event: event.status)]
        for run, after in zip(runs, [*runs[1:], None], strict=True):
            entered_at, status = run[0].at, run[0].status
            left_at = after[0].at if after else None
            given = [event.deadline for event in run if event.deadline]
            hours = workflow.hours[status]
            due = given[-1] if given else None
            if due is None and hours is not None:
                due = business_time.deadline(workflow.calendar, entered_at, hours)
            if status in workflow.final:
                due = None
            verdict = None
            if left_at and due:
                verdict = "met" if left_at <= due else "breached"
            stays.append(
                Stay(entity, status, entered_at, left_at, len(run), due, verdict)
            )
    return stays


@pytest.fixture
def derive(
    connection: Connection, database_url: str, build: Callable[..., Cut]
) -> Derive:
    """Apply an example's workflow, build, and compare every interval and status."""

    def assert_derived(
        events: list[Event], example: str, *, as_of: datetime
    ) -> list[Stay]:
        before = datetime(1990, 1, 1, tzinfo=UTC)
        files = workflows.load(PROJECT / "examples" / example)
        workflows.apply(connection, files, at=before)
        build(database_url, as_of)
        stays = _stays(events, _workflow(example))
        found = connection.execute(
            "select coalesce(entity_key, entity_id::text), status, entered_at, left_at,"
            " transition_count, sla_deadline, verdict"
            " from sla.status_intervals"
            " left join raw.entity_keys using (entity_type, entity_id)"
        ).fetchall()
        assert len(found) == len(stays)
        assert Counter(found) == Counter(map(tuple, stays))
        with connection.transaction():
            clock = "select set_config('status_engine.as_of', %s, true)"
            connection.execute(clock, [as_of.isoformat()])
            current = connection.execute(
                "select coalesce(entity_key, entity_id::text), current_status,"
                " status_since, sla_deadline, is_overdue"
                " from sla.entity_current_status"
            ).fetchall()
        assert Counter(current) == Counter(
            (s.entity, s.status, s.entered_at, s.deadline, _is_past(s.deadline, as_of))
            for s in stays
            if s.left_at is None
        )
        return stays

    return assert_derived


def _assert_compliance(
    connection: Connection,
    events: pl.DataFrame,
    example: str,
    as_of: datetime,
    offices: pl.DataFrame | None = None,
) -> None:
    """`sla_performance` says what polars makes of the file, day by day (S21)."""
    workflow = _workflow(example)
    hours = {k: None if v is None else float(v) for k, v in workflow.hours.items()}
    expected = source_compliance.compliance(
        events, hours, list(workflow.final), as_of, offices
    )
    with connection.transaction():
        clock = "select set_config('status_engine.as_of', %s, true)"
        connection.execute(clock, [as_of.isoformat()])
        found = connection.execute(
            "select entered_on, status, interval_count, met_count, breached_count,"
            " overdue_count, compliance_ratio from sla.sla_performance"
            " where workflow_name = %s",
            [example],
        ).fetchall()
    for name, least in {"met_count": 500, "breached_count": 200}.items():
        assert expected[name].sum() > least
    assert sorted(found) == sorted(expected.rows())


def _violations(connection: Connection) -> dict[str, int]:
    counts = "select violation, count(*) from sla.workflow_violations group by 1"
    return dict(connection.execute(counts).fetchall())


def _moves(events: list[Event]) -> Counter[tuple[str, str]]:
    """How often an entity went from one status to another."""
    order = sorted(events, key=lambda event: (event.entity, event.at))
    return Counter(
        (one.status, other.status)
        for one, other in pairwise(order)
        if one.entity == other.entity and one.status != other.status
    )


def _is_past(deadline: datetime | None, as_of: datetime) -> bool:
    return deadline is not None and deadline < as_of


def _source_rows(name: str) -> Iterator[Source]:
    path = DATA / f"{name}.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file)


def _instant(text: str, zone: ZoneInfo) -> datetime | None:
    """The instant of a local time; None where it never was, or was twice."""
    local = datetime.fromisoformat(text)
    first, second = (local.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    there = {t.astimezone(UTC) for t in (first, second)}
    exists = any(
        t.astimezone(zone).replace(tzinfo=None, fold=0) == local for t in there
    )
    return there.pop() if len(there) == 1 and exists else None


def _expect(
    rows: list[Source],
    zone: str,
    entity: str,
    kinds: Callable[[Source], list[tuple[str, str, str]]],
    content: Callable[[Source], tuple[str, ...]],
) -> Expected:
    """Kinds of a row: its transitions as (local time, status, local deadline)."""
    events: list[Event] = []
    rejected: Counter[str] = Counter()
    read = 0
    for row in rows:
        made = kinds(row)
        read += len(made)
        codes = [code for kind in made if (code := _defect(kind, ZoneInfo(zone)))]
        if codes:
            rejected[codes[0]] += len(made)
            continue
        for at, status, deadline in made:
            instant = _instant(at, ZoneInfo(zone))
            assert instant is not None
            due = _instant(deadline, ZoneInfo(zone)) if deadline else None
            events.append(Event(row[entity], instant, status, due, content(row)))
    return Expected(len(rows), read, list(dict.fromkeys(events)), rejected)


def _defect(kind: tuple[str, str, str], zone: ZoneInfo) -> str | None:
    at, _, deadline = kind
    if _instant(at, zone) is None:
        return "created_at_exists_once"
    if deadline and _instant(deadline, zone) is None:
        return "sla_deadline_exists_once"
    return None


def _deliver(connection: Connection, name: str, mapping: str) -> DeliveryResult:
    settings = Settings(load_mapping(PROJECT / "examples" / f"{mapping}.yml"))
    return deliver(connection, DATA / f"{name}.csv.gz", settings)


def _assert_appended(
    connection: Connection, found: DeliveryResult, expected: Expected
) -> None:
    rejected = expected.rejected.total()
    duplicate = expected.read - len(expected.events) - rejected
    assert found.source_rows == expected.source_rows
    assert found.result == (
        expected.read,
        len(expected.events),
        duplicate,
        rejected,
    )
    codes = (
        "select code, sum(transition_count) from raw.rejected_transitions group by 1"
    )
    assert dict(connection.execute(codes).fetchall()) == expected.rejected


def _assert_same_transitions(connection: Connection, events: list[Event]) -> None:
    """Every transition, each under the key or number its source has for the entity."""
    stored = connection.execute(
        "select coalesce(entity_key, entity_id::text), created_at, to_status,"
        " sla_deadline from raw.status_transitions"
        " left join raw.entity_keys using (entity_type, entity_id)"
    ).fetchall()
    assert Counter(stored) == Counter(tuple(event[:4]) for event in events)


def _assert_same_states(connection: Connection, events: list[Event]) -> None:
    """The last status of each entity; at one instant the later row of the file."""
    stored = connection.execute(
        "select distinct on (entity_type, entity_id)"
        " coalesce(entity_key, entity_id::text), to_status"
        " from raw.status_transitions"
        " left join raw.entity_keys using (entity_type, entity_id)"
        " order by entity_type, entity_id, created_at desc,"
        " status_transitions.batch_id desc, batch_row desc"
    ).fetchall()
    last: dict[str, str] = {}
    for event in sorted(events, key=lambda event: event.at):
        last[event.entity] = event.status
    assert len(stored) == len(last)
    assert dict(stored) == last


def _statuses(connection: Connection) -> dict[str, int]:
    statuses = "select to_status, count(*) from raw.status_transitions group by 1"
    return dict(connection.execute(statuses).fetchall())


def _assert_redelivery_is_nothing(
    connection: Connection, name: str, mapping: str, read: int, rejected: int
) -> None:
    again = _deliver(connection, name, mapping)
    assert again.is_repeated
    assert again.result == (read, 0, read - rejected, rejected)


@pytest.mark.nightly
def test_bpic2013_incidents(
    connection: Connection, check_conservation: Check, derive: Derive
) -> None:
    rows = list(_source_rows("bpic2013_incidents"))
    read = (
        "SR Number",
        "Change Date+Time",
        "Status",
        "Sub Status",
        "SR Latest Impact",
        "Product",
        "Country",
        "Involved ST",
        "Resource",
        "Involved Org line 3",
    )
    events = [
        Event(
            row["SR Number"],
            datetime.fromisoformat(row["Change Date+Time"]),
            f"{row['Status']} / {row['Sub Status']}",
            None,
            tuple(row[name] for name in read[4:]),
        )
        for row in rows
    ]
    assert Counter(row["Status"] for row in rows) == {
        "Accepted": 40_117,
        "Completed": 13_867,
        "Queued": 11_544,
        "Unmatched": 5,
    }
    expected = Expected(65_533, 65_533, list(dict.fromkeys(events)), rejected=Counter())
    found = _deliver(connection, "bpic2013_incidents", "bpic2013_incidents")
    _assert_appended(connection, found, expected)
    _assert_same_transitions(connection, expected.events)
    _assert_same_states(connection, expected.events)
    assert _statuses(connection) == Counter(e.status for e in expected.events)
    assert len({event.entity for event in expected.events}) == 7_554
    _assert_redelivery_is_nothing(
        connection, "bpic2013_incidents", "bpic2013_incidents", 65_533, 0
    )
    check_conservation(connection)
    as_of = datetime(2012, 5, 1, tzinfo=UTC)
    stays = derive(expected.events, "bpic2013_incidents", as_of=as_of)
    assert sum(stay.left_at is None for stay in stays) == 7_554
    log = source_compliance.incidents(DATA / "bpic2013_incidents.csv.gz")
    _assert_compliance(connection, log, "bpic2013_incidents", as_of)
    assert sum(stay.transition_count for stay in stays) == len(expected.events)
    # What repeats the status pair opens no stay.
    assert len(events) - len(stays) == 8_648
    # Every incident that was taken up again is reported.
    moves = _moves(expected.events)
    final = _workflow("bpic2013_incidents").final
    again = sum(count for (one, _), count in moves.items() if one in final)
    assert _violations(connection)["left_final"] == again
    # Incidents that somebody still waits for, of all that were not closed.
    last = Counter(stay.status for stay in stays if stay.left_at is None)
    assert last["Completed / Closed"] + last["Completed / In Call"] == 7_455


def _helpdesk_kinds(row: Source) -> list[tuple[str, str, str]]:
    # The file calls the wall clock of Italy UTC.
    at = row["time:timestamp"].removesuffix("+00:00")
    return [(at, row["concept:name"], "")]


def test_helpdesk(
    connection: Connection, check_conservation: Check, derive: Derive
) -> None:
    rows = list(_source_rows("helpdesk_italian"))
    read = (
        "seriousness_2",
        "service_level",
        "service_type",
        "workgroup",
        "org:resource",
        "customer",
        "product",
    )
    expected = _expect(
        rows,
        "Europe/Rome",
        "case:concept:name",
        _helpdesk_kinds,
        lambda row: tuple("" if row[n] == "?" else row[n] for n in read),
    )
    assert (len(rows), len({row["case:concept:name"] for row in rows})) == (
        21_348,
        4_580,
    )
    found = _deliver(connection, "helpdesk_italian", "helpdesk")
    _assert_appended(connection, found, expected)
    _assert_same_transitions(connection, expected.events)
    _assert_same_states(connection, expected.events)
    assert _statuses(connection) == Counter(e.status for e in expected.events)
    check_conservation(connection)
    as_of = datetime(2013, 6, 1, tzinfo=UTC)
    stays = derive(expected.events, "helpdesk", as_of=as_of)
    assert sum(stay.left_at is None for stay in stays) == 4_580
    log = source_compliance.helpdesk(DATA / "helpdesk_italian.csv.gz")
    offices = source_compliance.offices_of_italy()
    _assert_compliance(connection, log, "helpdesk", as_of, offices)
    # Three of those that repeat the status repeat all of the row.
    assert len(expected.events) == 21_348 - 127
    moves = _moves(expected.events)
    left = sum(count for (one, _), count in moves.items() if one == "Closed")
    assert _violations(connection)["left_final"] == left


def _boston_kinds(row: Source) -> list[tuple[str, str, str]]:
    opened = [(row["open_dt"], "open", row["target_dt"])]
    return opened + ([(row["closed_dt"], "closed", "")] if row["closed_dt"] else [])


@pytest.mark.nightly
def test_boston_311(
    connection: Connection, check_conservation: Check, derive: Derive
) -> None:
    rows = list(_source_rows("boston_311_2011"))
    expected = _expect(
        rows, "America/New_York", "case_enquiry_id", _boston_kinds, lambda _: ()
    )
    assert len(rows) == 58_251
    found = _deliver(connection, "boston_311_2011", "boston_311")
    _assert_appended(connection, found, expected)
    _assert_same_transitions(connection, expected.events)
    _assert_same_states(connection, expected.events)
    assert _statuses(connection) == Counter(e.status for e in expected.events)
    check_conservation(connection)
    as_of = datetime(2012, 1, 1, tzinfo=UTC)
    stays = derive(expected.events, "boston_311", as_of=as_of)
    _assert_flags_of_the_city(rows, stays)
    log = source_compliance.boston(DATA / "boston_311_2011.csv.gz")
    _assert_compliance(connection, log, "boston_311", as_of)


def _assert_flags_of_the_city(rows: list[Source], stays: list[Stay]) -> None:
    """ONTIME exactly where met; what has no target has no verdict."""
    zone = ZoneInfo("America/New_York")
    verdicts = {s.entity: s.verdict for s in stays if s.status == "open"}
    judged = [r for r in rows if r["closed_dt"] and r["target_dt"] and r["ontime"]]
    assert Counter(row["ontime"] for row in judged) == {
        "ONTIME": 35_591,
        "OVERDUE": 8_073,
    }
    refused = {
        row["case_enquiry_id"]
        for row in rows
        if any(_defect(kind, zone) for kind in _boston_kinds(row))
    }
    kept = [row for row in judged if row["case_enquiry_id"] not in refused]
    # Three of the four refused rows have a target, and all of them a local time that
    # was there twice, when clocks went back.
    assert (len(judged), len(kept), len(refused)) == (43_664, 43_661, 4)
    flags = {"ONTIME": "met", "OVERDUE": "breached"}
    wrong = [r for r in kept if verdicts[r["case_enquiry_id"]] != flags[r["ontime"]]]
    assert wrong == []
    without = [r["case_enquiry_id"] for r in rows if not r["target_dt"]]
    assert len(without) == 10_981
    assert {verdicts[key] for key in without if key not in refused} == {None}


MILESTONES = {
    "order_purchase_timestamp": "purchased",
    "order_approved_at": "approved",
    "order_delivered_carrier_date": "shipped",
    "order_delivered_customer_date": "delivered",
}


def _olist_kinds(row: Source) -> list[tuple[str, str, str]]:
    due = row["order_estimated_delivery_date"]
    return [
        (row[name], to, "" if to == "delivered" else due)
        for name, to in MILESTONES.items()
        if row[name]
    ]


def _expect_orders(rows: list[Source]) -> Expected:
    return _expect(
        rows,
        "America/Sao_Paulo",
        "order_id",
        _olist_kinds,
        lambda row: (row["customer_id"], row["order_status"]),
    )


def test_olist_orders_in_two_overlapping_files(
    connection: Connection, check_conservation: Check, derive: Derive
) -> None:
    names = ("olist_orders_8135", "olist_orders_first_4071")
    files = [list(_source_rows(name)) for name in names]
    assert [len(rows) for rows in files] == [8_135, 4_071]
    assert len({row["order_id"] for rows in files for row in rows}) == 11_901
    first, both = _expect_orders(files[0]), _expect_orders(files[0] + files[1])
    second = _expect_orders(files[1])
    found = _deliver(connection, names[0], "olist_orders")
    _assert_appended(connection, found, first)
    other = _deliver(connection, names[1], "olist_orders")
    appended = len(both.events) - len(first.events)
    rejected = second.rejected.total()
    assert other.result == (
        second.read,
        appended,
        second.read - appended - rejected,
        rejected,
    )
    codes = (
        "select code, sum(transition_count) from raw.rejected_transitions group by 1"
    )
    assert dict(connection.execute(codes).fetchall()) == both.rejected
    _assert_same_transitions(connection, both.events)
    _assert_same_states(connection, both.events)
    assert _statuses(connection) == Counter(e.status for e in both.events)
    check_conservation(connection)
    as_of = datetime(2018, 6, 1, tzinfo=UTC)
    stays = derive(both.events, "olist_orders", as_of=as_of)
    log = source_compliance.olist(*(DATA / f"{name}.csv.gz" for name in names))
    _assert_compliance(connection, log, "olist_orders", as_of)
    # What is delivered is never overdue, as the table says at any instant.
    overdue = "select count(*) from sla.entity_current_status where is_overdue and "
    found_overdue = connection.execute(f"{overdue} is_final".encode()).fetchone()
    assert found_overdue == (0,)
    # Late is what was delivered after the estimate, in local time as the source has it.
    orders = {row["order_id"]: row for rows in files for row in rows}
    delivered = [r for r in orders.values() if r["order_delivered_customer_date"]]
    late = {
        row["order_id"]
        for row in delivered
        if row["order_delivered_customer_date"] > row["order_estimated_delivery_date"]
    }
    assert (len(late), len(delivered)) == (723, 8_936)
    # The one refused order was never delivered.
    ends = [
        (before.entity, before.verdict)
        for before, stay in pairwise(stays)
        if stay.status == "delivered" and before.entity == stay.entity
    ]
    assert Counter(verdict for _, verdict in ends) == {
        "met": 8_936 - 723,
        "breached": 723,
    }
    assert {entity for entity, verdict in ends if verdict == "breached"} == late


def _receipt_events(row: Source) -> Iterator[Event]:
    """The receipt of a case and its end; the same in each of its rows."""
    case, read = row["case:concept:name"], ("channel", "department", "responsible")
    content = tuple(row[f"case:{name}"] for name in read)
    due = datetime.fromisoformat(row["case:deadline"])
    started = datetime.fromisoformat(row["case:startdate"])
    yield Event(case, started, "received", due, content)
    if row["case:enddate"]:
        ended = datetime.fromisoformat(row["case:enddate"])
        yield Event(case, ended, "closed", None, content)


def test_receipt_permits(
    connection: Connection, check_conservation: Check, derive: Derive
) -> None:
    rows = list(_source_rows("receipt_wabo"))
    events = [event for row in rows for event in _receipt_events(row)]
    expected = Expected(
        8_577, len(events), list(dict.fromkeys(events)), rejected=Counter()
    )
    found = _deliver(connection, "receipt_wabo", "receipt_permits")
    _assert_appended(connection, found, expected)
    _assert_same_transitions(connection, expected.events)
    _assert_same_states(connection, expected.events)
    assert len({event.entity for event in expected.events}) == 1_434
    check_conservation(connection)
    as_of = datetime(2012, 6, 1, tzinfo=UTC)
    stays = derive(expected.events, "receipt_permits", as_of=as_of)
    log = source_compliance.receipt(DATA / "receipt_wabo.csv.gz")
    _assert_compliance(connection, log, "receipt_permits", as_of)
    # Two of the 952 that the source has on time end before they begin.
    begun = {e.entity: e.at for e in expected.events if e.status == "received"}
    early = {
        e.entity
        for e in expected.events
        if e.status == "closed" and e.at < begun[e.entity]
    }
    assert len(early) == 2
    assert Counter(stay.verdict for stay in stays if stay.status == "received") == {
        "met": 952 - 2,
        "breached": 377,
        None: 105 + 2,
    }
    assert _violations(connection) == {"broken_chain": 2, "left_final": 2}
