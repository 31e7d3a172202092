"""Budgets and burn rates from a few stays, counted by hand."""

from dataclasses import replace
from datetime import date
from math import inf
from pathlib import Path

import pytest
from published_rows import Publish

from analytics.targets import Target, burn_alerts, burn_rates, error_budget

# The clock is 12:00. Decided in the last hour: two breaches and a met stay, one of the
# breaches still open; in the last day one met stay more; the week before, 16 of them.
STAYS = """
insert into stays (entity_id, status, entered_at, left_at, sla_deadline) values
    (1, 'new', '2026-03-10 09:00:00', '2026-03-10 11:58:00', '2026-03-10 11:57:00'),
    (2, 'new', '2026-03-10 09:00:00', null, '2026-03-10 11:59:59.999999'),
    (3, 'new', '2026-03-10 09:00:00', '2026-03-10 11:30:00', '2026-03-20 00:00:00'),
    (4, 'new', '2026-03-09 09:00:00', '2026-03-10 11:00:00', '2026-03-20 00:00:00'),
    -- Not yet due, exactly at its deadline; and of before the target.
    (5, 'new', '2026-03-10 09:00:00', null, '2026-03-10 12:00:00'),
    (6, 'new', '2026-02-01 09:00:00', null, '2026-02-28 23:59:59.999999');
insert into stays by name
select i as entity_id, 'new' as status,
    timestamptz '2026-03-04 00:00:00Z' as entered_at,
    timestamptz '2026-03-05 00:00:00Z' as left_at, left_at as sla_deadline
from range(10, 26) as t (i);
"""
TARGET = Target("order", None, "new", 0.95, date(2026, 3, 1))


def test_a_breach_is_decided_at_its_deadline_and_a_met_stay_at_its_end(
    publish: Publish,
) -> None:
    publication = publish(STAYS, "2026-03-10T12:00:00Z")
    rates = burn_rates(publication, TARGET)
    assert rates.select("window", "due_count", "breached_count").rows() == [
        ("week", 20, 2),
        ("day", 4, 2),
        # The one that ended at 11:00 sharp is an hour ago, and out.
        ("hour", 3, 2),
    ]
    assert rates["burn_rate"].to_list() == pytest.approx([2, 10, 2 / 3 / 0.05])
    assert (rates["burn_low"] < rates["burn_rate"]).all()


def test_a_budget_is_spent_from_the_date_of_its_target_on(publish: Publish) -> None:
    budget = error_budget(publish(STAYS, "2026-03-10T12:00:00Z"), TARGET)
    assert (budget.due_count, budget.breached_count) == (20, 2)
    assert budget.allowed_count == pytest.approx(1)
    assert budget.spent_ratio == pytest.approx(2)
    assert budget.compliance_ratio == 0.9
    # Two of twenty may well be of a process that keeps its target.
    assert not budget.is_missed


def test_a_rule_burns_in_both_windows_and_is_certain_only_with_enough_stays(
    publish: Publish,
) -> None:
    alerts = burn_alerts(publish(STAYS, "2026-03-10T12:00:00Z"), TARGET)
    assert alerts.select("rule", "is_burning", "is_certain").rows() == [
        ("page_1h", False, False),
        ("page_6h", True, False),
        ("ticket_3d", True, True),
    ]


def test_a_rule_stops_burning_when_its_short_window_is_quiet(
    publish: Publish, tmp_path: Path
) -> None:
    alerts = burn_alerts(publish(STAYS, "2026-03-10T12:25:00Z"), TARGET)
    assert alerts.filter(alerts["rule"] == "page_6h")["is_burning"].to_list() == [True]
    quiet = burn_alerts(
        publish(STAYS, "2026-03-10T13:00:00Z", tmp_path / "later"), TARGET
    )
    assert not quiet.filter(quiet["rule"] == "page_6h")["is_burning"].item()


def test_without_stays_nothing_burns_and_a_target_is_a_ratio(publish: Publish) -> None:
    publication = publish("", "2026-03-10T12:00:00Z")
    assert burn_rates(publication, TARGET)["burn_rate"].to_list() == [None] * 3
    assert error_budget(publication, TARGET).spent_ratio is None
    with pytest.raises(ValueError, match="up to 1, above 0"):
        Target("order", None, None, 95, date(2026, 3, 1))


def test_a_target_of_all_has_no_budget_and_burns_with_the_first_breach(
    publish: Publish,
) -> None:
    publication = publish(STAYS, "2026-03-10T12:00:00Z")
    all_met = replace(TARGET, ratio=1)
    assert burn_rates(publication, all_met)["burn_rate"].to_list() == [inf] * 3
    assert error_budget(publication, all_met).spent_ratio == inf
    assert burn_alerts(publication, all_met)["is_certain"].all()
    later = replace(all_met, from_date=date(2026, 3, 11))
    assert error_budget(publication, later).spent_ratio is None
    early = replace(all_met, status="none")
    assert burn_rates(publication, early)["burn_rate"].to_list() == [None] * 3
