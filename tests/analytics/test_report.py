"""The week's review: its figures recounted by hand, its page read as a browser does."""

import re
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from published_rows import Publish

from analytics.published import Publication, PublicationError
from analytics.report import (
    Report,
    last_week,
    monday_of,
    page,
    report,
)
from analytics.report import (
    tested as back_tested,
)

# Tuesday of week 23; the week before it begins on 25 May.
AS_OF = "2026-06-02T12:00:00Z"
ODD = '<b>&"odd"</b> {{ 7 * 7 }}'
# Of the 40 orders a day or so, due after 6 hours, every fourth is late; visits are few.
SCRIPT = f"""
insert into workflows by name
    select 'w' as workflow_id, 'order' as entity_type, 'standard' as workflow_name;
insert into workflow_steps by name select * from (values
    ('w', 'order', 'standard', 'new', 1, '["done"]', false),
    ('w', 'order', 'standard', 'done', 2, '[]', true)
) as t (
    workflow_id, entity_type, workflow_name, status, step_order, allowed_transitions,
    is_final
);
insert into stays by name
select i as entity_id, unnest(['new', 'done']) as status,
    unnest([begun, begun + late]) as entered_at,
    unnest([begun + late, null]) as left_at,
    unnest([begun + interval 6 hour, null]) as sla_deadline,
    unnest([false, true]) as is_final, case i % 2 when 0 then 'Ann' else 'Bob' end
    as user_name
from (
    select i, timestamptz '2026-04-06 00:00:00Z' + interval (i) hour as begun,
        case i % 4 when 0 then interval 9 hour else interval 3 hour end as late
    from range(0, 1344) as t (i)
);
insert into stays (
    entity_type, entity_id, status, entered_at, left_at, sla_deadline
) values
    -- Met in the week's first microsecond; breached in its last, and in the next.
    ('visit', 1, 'a', '2026-05-20 00:00:00Z', '2026-05-25 00:00:00Z',
        '2026-06-30 00:00:00Z'),
    ('visit', 2, 'a', '2026-05-20 00:00:00Z', null, '2026-05-31 23:59:59.999999Z'),
    ('visit', 3, 'a', '2026-05-20 00:00:00Z', null, '2026-06-01 00:00:00Z'),
    ('visit', 4, '{ODD}', '2026-05-20 00:00:00Z', null, '2026-06-05 00:00:00Z'),
    ('visit', 5, '{ODD}', '2026-05-20 00:00:00Z', '2026-05-26 01:02:03Z',
        '2026-05-26 00:00:00Z');
insert into workload by name
select day::date as counted_on, 'order' as entity_type, 'standard' as workflow_name,
    unnest(['new', 'done']) as status, unnest([5, 900]) as open_count,
    unnest([2, 0]) as overdue_count
from range(timestamptz '2026-05-20', timestamptz '2026-06-02', interval 1 day)
    as t (day);
insert into open_work by name select 'visit' as entity_type,
    unnest(['overdue', '75-90 %', null]) as used_band, unnest([2, 1, 4]) as open_count
"""


@pytest.fixture
def publication(publish: Publish) -> Publication:
    return publish(SCRIPT, AS_OF)


@pytest.fixture
def found(publication: Publication) -> Report:
    return report(publication)


class _Page(HTMLParser):
    """Text, and whatever a browser would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.asks: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.asks += [tag] if tag in ("script", "link", "img", "iframe") else []
        self.asks += [name for name, _ in attrs if name in ("src", "href", "onload")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_week_holds_what_was_decided_in_it(found: Report) -> None:
    """S13, S21: a breach at its deadline, a met stay at its end; edges half-open."""
    assert (found.week, found.since, found.until) == (
        "2026-W22",
        date(2026, 5, 25),
        date(2026, 5, 31),
    )
    types = {line.group: line for line in found.types}
    # In 168 hours each hour's order decides once: 42 late by their deadline, 126 met.
    assert types["order"].now[:2] == (126, 168)
    assert types["order"].before[:2] == (126, 168)
    assert types["order"].is_noise
    # 1 met; 2 and 5 breached; 3's deadline is the next week's.
    assert types["visit"].now[:2] == (1, 3)
    assert types["visit"].before[:2] == (0, 0)
    assert found.total.now[:2] == (127, 171)
    assert found.total.now.ratio == 127 / 171


def test_courses_end_with_the_week_and_leave_out_final_statuses(found: Report) -> None:
    monday, share = found.weeks[-1]
    assert (monday, share) == (found.since, found.total.now)
    assert len(found.weeks) == 13
    assert [share.due for _, share in found.weeks[:5]] == [0] * 5
    days, opens, overdue = zip(*found.work, strict=True)
    assert (days[0], days[-1]) == (date(2026, 5, 20), date(2026, 5, 31))
    assert (set(opens), set(overdue)) == ({5}, {2})
    assert found.bands[0] | {"entity_type": "visit"} == found.bands[0]
    assert (found.bands[0]["overdue"], found.bands[0]["none"]) == (2, 4)


def test_lateness_is_of_breaches_that_ended_in_the_week(found: Report) -> None:
    rows = {row["entity_type"]: row for row in found.lateness}
    assert rows["visit"]["worst"] == rows["visit"]["p50"] == 3_723
    assert (rows["order"]["breached_count"], rows["order"]["p50"]) == (42, 10_800)


def test_what_is_likely_is_due_within_seven_days(found: Report) -> None:
    assert [row["entity_id"] for row in found.likely.rows] == [4]
    probability = found.likely.rows[0]["breach_probability"]
    assert found.expected_breaches == probability
    assert found.forecast_verdict is not None


def test_the_calibration_is_that_of_the_back_test(
    publication: Publication, found: Report
) -> None:
    held = back_tested(publication)
    assert held is not None
    assert found.calibration == held.calibration.to_dicts() != []
    counts = [row["forecast_count"] for row in found.calibration]
    assert sum(counts) == found.forecast_verdict.forecast_count
    html = page(found)
    section = html[html.index("How well the forecast did") :]
    section = section[: section.index("What stands out")]
    assert found.forecast_verdict.sentence in section
    assert section.count("<circle") == section.count("<td>") / 5 == len(counts)


def test_the_page_asks_for_nothing_and_shows_texts_as_they_are(found: Report) -> None:
    html = page(found)
    read = _Page()
    read.feed(html)
    assert read.asks == []
    assert not re.search(r"https?:|url\(|@import", html)
    text = " ".join(read.texts)
    assert ODD in text
    for said in ("2026-W22", "74.3%", "171", "1 h 2 min", "Definitions"):
        assert said in text


def test_a_page_of_nothing_says_so(publish: Publish) -> None:
    html = page(report(publish("", AS_OF)))
    for said in (
        "Nothing was due in this week.",
        "No target is in force. One is set by a file of targets",
        "No breach ended in this week.",
        "Nothing was open.",
        "Nothing stands out.",
        "Nothing goes with breaches",
        "No open deadline falls",
    ):
        assert said in html


def test_a_week_that_is_not_over_is_refused(publication: Publication) -> None:
    with pytest.raises(PublicationError, match="Week 2026-W23 is not over"):
        report(publication, date(2026, 6, 1))


@pytest.mark.parametrize(
    ("text", "monday"),
    [("2026-W01", date(2025, 12, 29)), ("2026-W53", date(2026, 12, 28))],
)
def test_weeks_are_those_of_iso_8601(text: str, monday: date) -> None:
    assert monday_of(text) == monday


@pytest.mark.parametrize("text", ["2025-W53", "2026-W00", "2026-47", "W47", ""])
def test_what_is_no_week_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="week"):
        monday_of(text)


def test_the_last_week_is_over_in_utc() -> None:
    assert last_week(datetime(2026, 6, 1, tzinfo=UTC)) == date(2026, 5, 25)
    assert last_week(datetime.fromisoformat("2026-06-01T01:00+02:00")) == date(
        2026, 5, 18
    )


def test_the_template_is_part_of_the_package() -> None:
    assert (Path(page.__code__.co_filename).parent / "report.html").is_file()
