"""The forecast on simulated stays of a known truth, and where there is no signal."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from lifelines import AalenJohansenFitter
from published_rows import Publish
from scipy import stats

from analytics import forecast
from analytics.published import Publication

START = datetime(2026, 1, 1, tzinfo=UTC)
AS_OF = datetime(2026, 6, 1, tzinfo=UTC)
# One stay an entity, 48 h each, entered at any minute; those of `fast` last 10 h on the
# average, those of `slow` 60 h, without memory. So the truth is exp(-rest / mean).
TRUTH = """
insert into stays by name
with drawn as (
    select
        i as entity_id,
        ['fast', 'slow'][1 + i % 2] as status,
        timestamptz '2026-01-01 00:00:00Z' + interval (hash(i) % 217000) minute
            as entered_at,
        -ln((hash(i + 1000000) % 1000003 + 1) / 1000004.0) * [10, 60][1 + i % 2]
            as hours
    from range(20000) as t (i)
)

select
    entity_id, status, entered_at, entered_at + interval 48 hour as sla_deadline,
    case
        when entered_at + to_microseconds((hours * 3600000000)::bigint)
            <= timestamptz '2026-06-01 00:00:00Z'
            then entered_at + to_microseconds((hours * 3600000000)::bigint)
    end as left_at
from drawn;
"""
# Every stay begins at midnight and is due 24 h later; all statuses last alike.
NO_SIGNAL = """
insert into stays by name
with drawn as (
    select
        i as entity_id,
        ['a', 'b', 'c', 'd', 'e'][1 + (hash(i) % 5)::int] as status,
        timestamptz '2026-01-01 00:00:00Z' + interval (i % 140) day as entered_at,
        -ln((hash(i + 1000000) % 1000003 + 1) / 1000004.0) * 20 as hours
    from range(6000) as t (i)
)

select
    entity_id, status, entered_at, entered_at + interval 24 hour as sla_deadline,
    entered_at + to_microseconds((hours * 3600000000)::bigint) as left_at
from drawn;
"""


@pytest.fixture
def known(publish: Publish) -> Publication:
    return publish(TRUTH, AS_OF.isoformat())


def _instants(first: datetime, count: int, days: int) -> list[datetime]:
    return [first + timedelta(days=days * n) for n in range(count)]


def test_a_forecast_is_near_the_truth(known: Publication) -> None:
    found = forecast.forecast(known).filter(pl.col("sla_deadline") >= AS_OF)
    assert found.height > 80
    mean = pl.when(pl.col("status") == "slow").then(60).otherwise(10)
    rest = (pl.col("due_seconds") - pl.col("seconds")) / 3600
    wrong = found.select(
        (pl.col("breach_probability") - (-rest / mean).exp()).abs().alias("wrong")
    )
    # Some 2,000 comparable stays: a standard error of at most 0.011.
    assert wrong["wrong"].max() < 0.06
    assert wrong["wrong"].mean() < 0.015


def test_a_back_test_is_calibrated_and_beats_the_base_rate(known: Publication) -> None:
    instants = _instants(datetime(2026, 3, 1, tzinfo=UTC), 20, 4)
    tested = forecast.back_test(known, instants)
    assert tested.forecasts.height > 1000
    # No stay is open at two of the instants, so that outcomes are independent: Hosmer
    # and Lemeshow's sum of squares over the bins is beyond this once in a thousand.
    assert tested.forecasts["interval_id"].is_unique().all()
    squares = tested.calibration.select(
        (
            pl.col("breached_count")
            - pl.col("forecast_count") * pl.col("mean_probability")
        )
        ** 2
        / (
            pl.col("forecast_count")
            * pl.col("mean_probability")
            * (1 - pl.col("mean_probability"))
        )
    ).to_series()
    assert len(squares) == 10
    assert squares.sum() < stats.chi2.ppf(0.999, 10)
    assert tested.calibration["forecast_count"].sum() == tested.forecasts.height
    assert tested.verdict.beats_base
    assert tested.verdict.sentence.startswith("The forecast beats the base rate")
    assert tested.verdict.brier < tested.verdict.base_brier


def test_without_signal_it_says_that_it_does_not_beat_the_base_rate(
    publish: Publish,
) -> None:
    publication = publish(NO_SIGNAL, AS_OF.isoformat())
    instants = _instants(datetime(2026, 3, 1, 12, tzinfo=UTC), 40, 2)
    tested = forecast.back_test(publication, instants)
    assert tested.verdict.forecast_count > 500
    assert not tested.verdict.beats_base
    assert "does not beat the base rate" in tested.verdict.sentence


def test_a_back_test_knows_nothing_of_what_came_later(
    known: Publication, publish: Publish, tmp_path
) -> None:
    instant = datetime(2026, 3, 1, tzinfo=UTC)
    then = TRUTH + (
        f"delete from stays where entered_at > '{instant.isoformat()}';"
        f"update stays set left_at = null where left_at > '{instant.isoformat()}';"
    )
    early = publish(then, instant.isoformat(), tmp_path / "then")
    columns = ("entity_id", "seconds", "comparable_count", "breach_probability")
    now_of_then = forecast.forecast(known, instant).select(columns).sort("entity_id")
    assert now_of_then.height > 20
    assert now_of_then.rows() == (
        forecast.forecast(early).select(columns).sort("entity_id").rows()
    )


def test_before_a_deadline_came_along_the_hours_of_the_step_hold(
    publish: Publish,
) -> None:
    """S10; also of a year, in microseconds and six decimals of an hour."""
    publication = publish(
        """
        insert into stays (
            entity_id, status, entered_at, sla_deadline, transition_count,
            deadline_source, sla_hours
        ) values
            (1, 'new', '2026-01-01', '2026-05-03', 2, 'explicit', 8760),
            (2, 'new', '2026-01-01', '2026-05-03', 2, 'explicit', 1234567.000001),
            (3, 'new', '2026-01-01', '2026-05-03', 2, 'explicit', null);
        insert into audit_trail by name
        select entity_id, 'order' as entity_type, 2 as entity_place, 'new' as to_status,
            timestamptz '2026-05-01' as created_at, sla_deadline
        from stays;
        """,
        AS_OF.isoformat(),
    )
    columns = ("entity_id", "sla_deadline")
    last, brought = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 3, tzinfo=UTC)
    just_before = forecast.forecast(publication, last - timedelta(microseconds=1))
    begun = START + timedelta(microseconds=3600)
    assert sorted(just_before.select(columns).rows()) == [
        (1, START + timedelta(hours=8760)),
        (2, begun + timedelta(hours=1234567)),
    ]
    found = forecast.forecast(publication, last).select(columns)
    assert sorted(found.rows()) == [(entity, brought) for entity in (1, 2, 3)]


def test_exits_and_the_breach_are_all_that_can_come(publish: Publish) -> None:
    script = (
        TRUTH
        + """
        insert into stays by name
        select
            entity_id, ['won', 'lost'][1 + entity_id % 3 // 2] as status,
            left_at as entered_at, true as is_final
        from stays where left_at is not null;
    """
    )
    publication = publish(script, AS_OF.isoformat())
    found = forecast.forecast(publication).filter(pl.col("sla_deadline") >= AS_OF)
    ways = forecast.exits(publication)
    total = ways.group_by("interval_id").agg(pl.col("probability").sum())
    joined = found.join(total, on="interval_id")
    assert joined.height == found.height > 80
    # The forecast is shrunk to coarser groups, by 20 of some 2,000.
    left = (joined["probability"] + joined["breach_probability"] - 1).abs()
    assert left.max() < 0.02
    by_way = (
        ways.group_by("next_status")
        .agg(pl.col("probability").mean())
        .sort("next_status")
    )
    lost, won = by_way["probability"].to_list()
    assert won / lost == pytest.approx(2, rel=0.1)


# Of 40 stays no two last alike, and each fifth is open.
COMPETING = """
insert into stays by name
with drawn as (
    select
        i as entity_id,
        i % 5 = 0 as is_open,
        to_seconds(3600 * 5 + (i * 7919) % 40 * 4001) as lasted,
        if(is_open, timestamptz '2026-06-01 00:00:00Z' - lasted,
            timestamptz '2026-05-01 00:00:00Z') as entered_at
    from range(40) as t (i)
)

select
    entity_id, 'new' as status, entered_at,
    entered_at + interval 30 hour as sla_deadline,
    if(is_open, null, entered_at + lasted) as left_at
from drawn;
insert into stays by name
select
    entity_id, ['won', 'lost', 'sent'][1 + (entity_id * 13) % 3] as status,
    left_at as entered_at, true as is_final
from stays where left_at is not null;
"""


def test_exits_are_those_of_aalen_and_johansen(publish: Publish) -> None:
    """Lifelines as the oracle, from entering on, so that what was survived divides."""
    publication = publish(COMPETING, AS_OF.isoformat())
    sql = """
        select
            epoch(coalesce(left_at, $1) - entered_at)::bigint as seconds,
            coalesce(next_status, 'open') as way
        from status_intervals where status = 'new'
    """
    stays = publication.connection.execute(sql, [AS_OF]).pl()
    assert stays["seconds"].is_unique().all()
    ways = ["lost", "sent", "won"]
    event = [0 if way == "open" else 1 + ways.index(way) for way in stays["way"]]
    incidence = {}
    for place, way in enumerate(ways, start=1):
        fitted = AalenJohansenFitter(calculate_variance=False).fit(
            stays["seconds"].to_numpy(), event, event_of_interest=place
        )
        incidence[way] = fitted.cumulative_density_.iloc[:, 0]
    told = forecast.exits(publication)
    waiting = forecast.forecast(publication).filter(pl.col("sla_deadline") >= AS_OF)
    assert waiting.height > 3
    assert told["probability"].n_unique() > 3
    expected = []
    for stay in waiting.sort("interval_id").to_dicts():
        lasting = 1 - sum(found.asof(stay["seconds"]) for found in incidence.values())
        expected += [
            (found.asof(stay["due_seconds"]) - found.asof(stay["seconds"])) / lasting
            for found in incidence.values()
        ]
    assert told["probability"].to_list() == pytest.approx(expected, abs=1e-12)
    assert told["next_status"].to_list() == ways * waiting.height


def test_expected_exits_of_stays_are_all_of_them(publish: Publish) -> None:
    publication = publish(COMPETING, AS_OF.isoformat())
    waiting = forecast.forecast(publication).filter(pl.col("sla_deadline") >= AS_OF)
    told = forecast.exits(publication)
    rows = forecast.expected_exits(told, waiting)
    assert rows["expected_count"].sum() == pytest.approx(waiting.height)
    assert set(rows["next_status"]) == {"won", "lost", "sent", None}
    for way in ("won", "lost", "sent"):
        assert rows.filter(next_status=way)["expected_count"].item() == pytest.approx(
            told.filter(next_status=way)["probability"].sum()
        )
    assert forecast.expected_exits(told, waiting.clear()).is_empty()


def test_few_comparable_stays_lean_on_the_coarser_group(publish: Publish) -> None:
    publication = publish(
        """
        insert into stays (entity_id, status, entered_at, left_at, sla_deadline) values
            (1, 'new', '2026-05-01', '2026-05-02', '2026-05-03'),
            (2, 'new', '2026-05-01', '2026-05-05', '2026-05-03'),
            (3, 'new', '2026-05-31', null, '2026-06-02'),
            (4, 'new', '2026-05-01', null, '2026-05-20'),
            (5, 'odd', '2026-05-31', null, '2026-06-02');
        """,
        AS_OF.isoformat(),
    )
    rows = {r["entity_id"]: r for r in forecast.forecast(publication).to_dicts()}
    assert rows[4]["breach_probability"] == 1
    # Of the stays in `new` that lasted a day, as this one has, two of three went on
    # beyond the second; the base rate is (2 breached + 1) of (3 due + 2).
    assert rows[3]["comparable_count"] == 3 - 1 + 0
    assert 0.6 < rows[3]["breach_probability"] < 1
    assert rows[5]["comparable_count"] == 1


def test_nothing_known_is_said(publish: Publish) -> None:
    publication = publish("", AS_OF.isoformat())
    assert forecast.forecast(publication).is_empty()
    tested = forecast.back_test(publication, [AS_OF - timedelta(days=1)])
    assert tested.verdict.forecast_count == 0
    assert not tested.verdict.beats_base
