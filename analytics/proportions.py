"""Shares and what they may be by chance: intervals, differences, odds ratios.

Counts come from the caller, distributions from scipy; nothing here reads a file, knows
a stay or draws a random number. Intervals are of 95 % unless told.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import brentq

CONFIDENCE = 0.95
# Beyond so many possible tables of two by two, the exact interval of an odds ratio is
# the usual one of logarithms to three digits. Up to there all are told here: scipy
# takes 14 ms for an interval and 2 ms for a p, this half a millisecond and a tenth.
MOST_TABLES = 300
# Tables as likely as what was seen are told by floating point.
AS_LIKELY = 1 + 1e-10


class Interval(NamedTuple):
    """Both ends included."""

    low: float
    high: float


class Difference(NamedTuple):
    """Second share minus first, in [-1, 1]; p: two-sided, by Fisher's exact test.

    All are None where one side has no trials. is_noise: p is not below what the
    confidence leaves over; the one place that decides it.
    """

    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    is_noise: bool


class AdjustedOdds(NamedTuple):
    """An odds ratio within strata, as one figure; infinite where the rest has none.

    None where no stratum has anything to compare; the ends also where the ratio is 0
    or infinite, of which the estimate of the spread knows nothing.
    """

    ratio: float | None
    low: float | None
    high: float | None


class OddsRatio(NamedTuple):
    """How many times the odds are those of the rest; infinite where the rest has none.

    None where a row or a column is empty: then there is nothing to compare.
    """

    ratio: float | None
    low: float | None
    high: float | None
    p: float | None


class Tables(NamedTuple):
    """All tables of two by two with the margins of one, by their first count.

    counts: these, ascending; chances: logarithms of how likely each is where the odds
    are the same, up to a constant; seen: the count of the one.
    """

    counts: NDArray[np.float64]
    chances: NDArray[np.float64]
    seen: float


def exact_intervals(
    successes: ArrayLike, trials: ArrayLike, confidence: float = CONFIDENCE
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper ends of Clopper and Pearson's intervals, n of each.

    They hold the true share at least as often as they say, however few the trials;
    without a trial it may be anything, from 0 to 1.
    """
    k = np.asarray(successes, dtype=np.float64)
    n = np.asarray(trials, dtype=np.float64)
    tail = (1 - confidence) / 2
    # At the ends one of the parameters is 0, where there is no beta distribution.
    low = np.where(k > 0, stats.beta.ppf(tail, np.maximum(k, 1), n - k + 1), 0.0)
    high = np.where(k < n, stats.beta.ppf(1 - tail, k + 1, np.maximum(n - k, 1)), 1.0)
    return low, high


def exact_interval(
    successes: int, trials: int, confidence: float = CONFIDENCE
) -> Interval:
    """The one interval of one share."""
    low, high = exact_intervals([successes], [trials], confidence)
    return Interval(float(low[0]), float(high[0]))


def with_intervals(
    frame: pl.DataFrame,
    successes: str,
    trials: str,
    name: str,
    confidence: float = CONFIDENCE,
) -> pl.DataFrame:
    """Add `<name>_ratio` with its `<name>_low` and `<name>_high`, in [0, 1].

    The ratio is null where there are no trials.
    """
    low, high = exact_intervals(frame[successes], frame[trials], confidence)
    ratio = pl.when(pl.col(trials) > 0).then(pl.col(successes) / pl.col(trials))
    return frame.with_columns(
        ratio.alias(f"{name}_ratio"),
        pl.Series(f"{name}_low", low, dtype=pl.Float64),
        pl.Series(f"{name}_high", high, dtype=pl.Float64),
    )


def difference(
    first: tuple[int, int], second: tuple[int, int], confidence: float = CONFIDENCE
) -> Difference:
    """Compare two shares, each given as (successes, trials).

    The interval is Newcombe's hybrid of two score intervals (1998, his method 10),
    which stays within [-1, 1] and holds what it says with few trials, too.
    """
    (k1, n1), (k2, n2) = first, second
    if not (n1 and n2):
        return Difference(None, None, None, None, is_noise=True)
    p1, p2 = k1 / n1, k2 / n2
    one, two = _wilson(k1, n1, confidence), _wilson(k2, n2, confidence)
    low = p2 - p1 - float(np.hypot(p2 - two.low, one.high - p1))
    high = p2 - p1 + float(np.hypot(two.high - p2, p1 - one.low))
    p = fisher_p(k2, n2 - k2, k1, n1 - k1)
    return Difference(p2 - p1, low, high, p, is_noise=p >= 1 - confidence)


def _wilson(successes: int, trials: int, confidence: float) -> Interval:
    found = stats.binomtest(successes, trials).proportion_ci(confidence, "wilson")
    return Interval(float(found.low), float(found.high))


def odds_ratio(
    with_it: tuple[int, int], without: tuple[int, int], confidence: float = CONFIDENCE
) -> OddsRatio:
    """Odds of (events, others) with something over those without it.

    The ratio is that of the sample. Its interval is exact, conditional on the margins,
    where there are at most MOST_TABLES tables of these; else Woolf's, by logarithms.
    """
    (a, b), (c, d) = with_it, without
    if 0 in (a + b, c + d, a + c, b + d):
        return OddsRatio(None, None, None, None)
    ratio = (a * d) / (b * c) if b * c else float("inf")
    ends = _odds_interval(a, b, c, d, confidence)
    return OddsRatio(ratio, ends.low, ends.high, fisher_p(a, b, c, d))


def _odds_interval(a: int, b: int, c: int, d: int, confidence: float) -> Interval:
    if _are_few(a, b, c, d) or 0 in (a, b, c, d):
        tables = _tables(a, b, c, d)
        tail = (1 - confidence) / 2
        high = _odds_of(tables, tail)
        # Of the others, what is least is most.
        turned = Tables(-tables.counts[::-1], tables.chances[::-1], -tables.seen)
        low = -_odds_of(turned, tail)
        return Interval(float(np.exp(low)), float(np.exp(high)))
    z = stats.norm.ppf(1 - (1 - confidence) / 2)
    reach = float(z * np.sqrt(1 / a + 1 / b + 1 / c + 1 / d))
    middle = float(np.log(a) + np.log(d) - np.log(b) - np.log(c))
    return Interval(float(np.exp(middle - reach)), float(np.exp(middle + reach)))


def _are_few(a: int, b: int, c: int, d: int) -> bool:
    return min(a + b, c + d, a + c, b + d) <= MOST_TABLES


def _tables(a: int, b: int, c: int, d: int) -> Tables:
    """By the ratio of each to the one before: those of factorials lose digits."""
    counts = np.arange(a - min(a, d), a + min(b, c) + 1, dtype=np.float64)
    x = counts[1:]
    ratios = (a + b - x + 1) * (a + c - x + 1) / (x * (d - a + x))
    return Tables(counts, np.concatenate(([0.0], np.cumsum(np.log(ratios)))), float(a))


def _odds_of(tables: Tables, tail: float) -> float:
    """The logarithm of the odds by which so few are seen as often as `tail`."""
    if tables.seen == tables.counts[-1]:
        return float("inf")
    few = tables.counts <= tables.seen
    away = tables.counts - tables.seen

    def beyond(odds: float) -> float:
        chances = tables.chances + odds * away
        likely = np.exp(chances - chances.max())
        return float(likely[few].sum() / likely.sum()) - tail

    least, most = -1.0, 1.0
    while beyond(least) < 0:
        least *= 2
    while beyond(most) > 0:
        most *= 2
    return float(brentq(beyond, least, most, xtol=1e-13))


def mantel_haenszel(tables: ArrayLike, confidence: float = CONFIDENCE) -> AdjustedOdds:
    """Odds with something over those without it, comparing only within strata.

    tables: k strata of (events with it, others with it, events without, others
    without). Mantel and Haenszel's estimate, with the interval of Robins, Breslow and
    Greenland (1986), which holds for few large strata and for many small ones.
    """
    strata = np.asarray(tables, dtype=np.float64).reshape(-1, 4)
    a, b, c, d = strata[strata.sum(axis=1) > 0].T
    n = a + b + c + d
    # What each stratum says for the ratio, and what against it.
    ups, downs = a * d / n, b * c / n
    up, down = float(ups.sum()), float(downs.sum())
    if not up + down:
        return AdjustedOdds(None, None, None)
    if not up * down:
        return AdjustedOdds(up / down if down else float("inf"), None, None)
    same, crossed = (a + d) / n, (b + c) / n
    variance = (
        (same * ups).sum() / (2 * up**2)
        + (same * downs + crossed * ups).sum() / (2 * up * down)
        + (crossed * downs).sum() / (2 * down**2)
    )
    reach = float(stats.norm.ppf(1 - (1 - confidence) / 2) * np.sqrt(variance))
    middle = float(np.log(up / down))
    low, high = float(np.exp(middle - reach)), float(np.exp(middle + reach))
    return AdjustedOdds(up / down, low, high)


def fisher_p(a: int, b: int, c: int, d: int) -> float:
    """Two-sided p of Fisher's exact test of a table of two by two."""
    if _are_few(a, b, c, d):
        counts, chances, seen = _tables(a, b, c, d)
        likely = np.exp(chances - chances.max())
        limit = likely[counts == seen] * AS_LIKELY
        return float(likely[likely <= limit].sum() / likely.sum())
    return float(stats.fisher_exact([[a, b], [c, d]]).pvalue)


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """Each p corrected for all of them: of those kept below q, a share of q is chance.

    In the order given; give it all that were looked at, not those that looked well.
    """
    if not p:
        return []
    return [float(q) for q in stats.false_discovery_control(p, method="bh")]
