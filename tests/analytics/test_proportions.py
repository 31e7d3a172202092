"""Shares: statsmodels as the oracle, and what an exact interval promises, counted out.

Both sides are floating point: they are held equal to twelve digits.
"""

from fractions import Fraction
from functools import partial
from math import comb

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import StratifiedTable, Table2x2
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import (
    confint_proportions_2indep,
    proportion_confint,
)

from analytics import proportions

equal = partial(pytest.approx, rel=1e-12, abs=1e-12)


@st.composite
def shares(draw: st.DrawFn) -> tuple[int, int]:
    trials = draw(st.integers(1, 5_000))
    return draw(st.integers(0, trials)), trials


@given(shares())
def test_an_interval_is_clopper_and_pearsons(share: tuple[int, int]) -> None:
    low, high = proportion_confint(*share, alpha=0.05, method="beta")
    assert proportions.exact_interval(*share) == equal((low, high))


@pytest.mark.parametrize("trials", [1, 5, 12, 40])
def test_an_interval_holds_the_true_share_as_often_as_it_says(trials: int) -> None:
    counts = np.arange(trials + 1)
    low, high = proportions.exact_intervals(counts, np.full(trials + 1, trials))
    for truth in np.linspace(0.001, 0.999, 200):
        inside = (low <= truth) & (truth <= high)
        assert stats.binom.pmf(counts[inside], trials, truth).sum() >= 0.95


def test_without_trials_anything_may_be() -> None:
    assert proportions.exact_interval(0, 0) == (0, 1)
    assert proportions.difference((0, 0), (3, 4)).difference is None
    assert proportions.odds_ratio((0, 0), (3, 4)).ratio is None


@given(shares(), shares())
def test_a_difference_is_newcombes(
    first: tuple[int, int], second: tuple[int, int]
) -> None:
    found = proportions.difference(first, second)
    low, high = confint_proportions_2indep(*second, *first, method="newcomb")
    assert (found.low, found.high) == equal((low, high))
    assert found.difference == equal(second[0] / second[1] - first[0] / first[1])


def test_what_is_no_more_than_noise_is_said() -> None:
    assert proportions.difference((8, 10), (6, 10)).is_noise
    assert not proportions.difference((800, 1000), (600, 1000)).is_noise


@given(*[st.integers(301, 20_000)] * 4)
def test_odds_of_many_are_woolfs(a: int, b: int, c: int, d: int) -> None:
    found = proportions.odds_ratio((a, b), (c, d))
    oracle = Table2x2([[a, b], [c, d]])
    assert found.ratio == equal(oracle.oddsratio)
    assert (found.low, found.high) == equal(oracle.oddsratio_confint())


@given(*[st.integers(1, 20)] * 4)
def test_odds_of_few_have_an_exact_interval(a: int, b: int, c: int, d: int) -> None:
    found = proportions.odds_ratio((a, b), (c, d))
    margins = (a + b + c + d, a + c, a + b)
    # At either end, what was seen is as far out as the confidence allows.
    at_low = stats.nchypergeom_fisher.sf(a - 1, *margins, found.low)
    at_high = stats.nchypergeom_fisher.cdf(a, *margins, found.high)
    assert (at_low, at_high) == pytest.approx((0.025, 0.025), rel=1e-6)
    assert found.ratio == equal(a * d / (b * c))


def test_odds_of_what_never_or_always_is_have_one_end() -> None:
    for table in ([[0, 4], [3, 5]], [[4, 5], [3, 0]]):
        (a, b), (c, d) = table
        found = proportions.odds_ratio((a, b), (c, d))
        margins = (a + b + c + d, a + c, a + b)
        at_high = stats.nchypergeom_fisher.cdf(a, *margins, found.high)
        assert (found.ratio, found.low) == (0, 0)
        assert at_high == pytest.approx(0.025, rel=1e-6)
        turned = proportions.odds_ratio((b, a), (d, c))
        assert (turned.ratio, turned.high) == (float("inf"), float("inf"))
        assert turned.low == equal(1 / found.high)
    certain = proportions.odds_ratio((4, 0), (0, 5))
    assert (certain.ratio, certain.high) == (float("inf"), float("inf"))


@given(*[st.integers(0, 40)] * 3, st.integers(0, 100_000))
def test_p_is_fishers_counted_in_whole_numbers(a: int, b: int, c: int, d: int) -> None:
    """Of all tables with these margins, those that are no likelier than this one."""
    assume(0 not in (a + b, c + d, a + c, b + d))
    ways = {
        x: comb(a + b, x) * comb(c + d, a + c - x)
        for x in range(max(0, a - d), min(a + b, a + c) + 1)
    }
    rarer = sum(way for way in ways.values() if way <= ways[a])
    p = float(Fraction(rarer, sum(ways.values())))
    # Of logarithms up to 350, whose last digits add up.
    assert proportions.fisher_p(a, b, c, d) == pytest.approx(p, rel=1e-11)


counts = st.tuples(*[st.integers(0, 400)] * 4)


@given(st.lists(counts, min_size=1, max_size=20), st.integers(1, 400))
def test_odds_within_strata_are_mantel_and_haenszels(
    strata: list[tuple[int, int, int, int]], some: int
) -> None:
    """One stratum has all four, so that the oracle divides by no zero."""
    strata = [*(one for one in strata if sum(one)), (some, 3, 5, 7)]
    found = proportions.mantel_haenszel(strata)
    oracle = StratifiedTable([np.reshape(one, (2, 2)) for one in strata])
    assert found.ratio == equal(oracle.oddsratio_pooled)
    assert (found.low, found.high) == equal(oracle.oddsratio_pooled_confint())


def test_strata_that_compare_nothing_say_nothing() -> None:
    # With it alone; without it alone; all breached; none there.
    nothing = [(4, 2, 0, 0), (0, 0, 3, 9), (5, 0, 6, 0), (0, 0, 0, 0)]
    assert proportions.mantel_haenszel([]) == (None, None, None)
    assert proportions.mantel_haenszel(nothing) == (None, None, None)
    one = (8, 4, 5, 15)
    alone = proportions.mantel_haenszel([one])
    assert proportions.mantel_haenszel([*nothing, one]) == equal(alone)
    assert proportions.mantel_haenszel([(8, 4, 0, 15)]) == (float("inf"), None, None)
    assert proportions.mantel_haenszel([(0, 4, 5, 15)]) == (0, None, None)


def test_p_is_fishers_of_the_lady_who_tasted_tea() -> None:
    assert proportions.odds_ratio((3, 1), (1, 3)).p == equal(34 / 70)


@given(st.lists(st.floats(0, 1), max_size=50))
def test_all_that_was_looked_at_is_corrected_for(p: list[float]) -> None:
    oracle = multipletests(p, method="fdr_bh")[1] if p else []
    assert proportions.benjamini_hochberg(p) == equal(list(oracle))
