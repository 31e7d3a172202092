"""Formats of instants against Python's own reading, whatever the text."""

import time
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nights import tries

from ingest.files.time_formats import DIRECTIVES, format_flaw, to_iso

YEARS = ("%Y", "%y")
DATES = (("%m", "%d"), ("%B", "%d"), ("%b", "%d"), ("%j",))
CLOCKS = (
    (),
    ("%H",),
    ("%H", "%M"),
    ("%I", "%p"),
    ("%I", "%M", "%p"),
    ("%H", "%M", "%S"),
    ("%I", "%M", "%S", "%p"),
    ("%H", "%M", "%S", "%f"),
    ("%I", "%M", "%S", "%f", "%p"),
)
MARKS = ("", " ", "  ", "-", "/", ".", ":", "T", "%%", ", ", "[", "(?", "\\", "é", "\t")
# Numbers are drawn up to a little more than there is.
MOST = {
    "%Y": 10_100,
    "%y": 101,
    "%j": 370,
    "%f": 1_000_100,
    "%m": 13,
    "%d": 32,
    "%H": 24,
    "%I": 13,
}
TEXTS = 40


@st.composite
def formats(draw: st.DrawFn) -> str:
    """A format without a flaw, its directives in any order."""
    parts = [
        draw(st.sampled_from(YEARS)),
        *draw(st.sampled_from(DATES)),
        *draw(st.sampled_from(CLOCKS)),
        *draw(st.sampled_from(((), ("%z",)))),
        *draw(st.sampled_from(((), ("%A",), ("%a",)))),
    ]
    parts = draw(st.permutations(parts)) if draw(st.booleans()) else parts
    mark = st.sampled_from(MARKS)
    return "".join(piece for part in parts for piece in (part, draw(mark)))


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A format, and texts that are nearly of it."""
    given = draw(formats())
    return given, [draw(_texts(given)) for _ in range(TEXTS)]


@st.composite
def _texts(draw: st.DrawFn, given: str) -> str:
    text = given.replace("%%", "\0")
    for directive in DIRECTIVES:
        if directive != "%%" and directive in text:
            text = text.replace(directive, draw(_values(directive)))
    text = text.replace("\0", "%")
    change = draw(st.sampled_from(("", "", "", "upper", "longer", "shorter", "space")))
    if change == "upper":
        return text.upper()
    if change == "longer":
        return text + draw(st.sampled_from(("0", " ", "Z", "x", "\n")))
    if change == "shorter":
        return text[: draw(st.integers(0, len(text)))]
    return text.replace(" ", "   ") if change == "space" else text


@st.composite
def _values(draw: st.DrawFn, directive: str) -> str:
    if directive == "%z":
        sign = draw(st.sampled_from("+-"))
        hour, minute = draw(st.integers(0, 26)), draw(st.integers(0, 61))
        forms = ("Z", "{}{:02}{:02}", "{}{:02}:{:02}", "{}{:02}{:02}30", "{}{}:{:02}")
        seconds = "{}{:02}:{:02}:30.5"
        form = draw(st.sampled_from((*forms, seconds)))
        return form.format(sign, hour, minute)
    if directive in ("%B", "%b", "%A", "%a", "%p"):
        month, hour = draw(st.integers(1, 12)), draw(st.integers(0, 23))
        return datetime(2020, month, 5, hour, tzinfo=UTC).strftime(directive)
    most = MOST.get(directive, 61)
    number = draw(st.integers(0, most))
    width = draw(st.sampled_from((0, 2, 2, 3, 4, 4, 6)))
    return f"{number:0{width}}"


def _read(text: str, given: str) -> datetime | None:
    """What Python reads: local, or in UTC where there is an offset."""
    try:
        found = datetime.strptime(text, given)  # noqa: DTZ007
        # Python takes the 366th day of a year of 365 for the next year's first.
        if time.strptime(text, given).tm_yday != found.timetuple().tm_yday:
            return None
        return found.astimezone(UTC) if found.tzinfo else found
    except (ValueError, OverflowError):
        return None


def _expected(text: str, given: str) -> str | None:
    found = _read(text, given)
    if found is None:
        return None
    zone = "Z" if found.tzinfo else ""
    return found.replace(tzinfo=None).isoformat(timespec="microseconds") + zone


# Each example is TEXTS texts of one format.
@settings(
    max_examples=tries(60, 2_000),
    deadline=None,
)
@given(cases())
@example(("%Y/%m/%d %H:%M:%S.%f", ["2014/01/02 11:15:41.250", "2014/01/02 11:15:41.7"]))
@example(("%d.%m.%Y", ["1.2.2014", " 1.2.2014", "31.11.2014", "29.02.2016"]))
@example(
    ("%H:%M:%S %Y-%j", ["23:59:60 2016-366", "23:59:59 2016-366", "0:0:0 2015-366"])
)
@example(("%I:%M %p %d %b %y", ["12:00 AM 1 jan 68", "12:00 pm 1 JAN 69"]))
@example(("%Y%m%d", ["00000101", "00010101"]))
@example(("%Y-%m-%dT%H:%M%z", ["0000-12-31T23:30-01:00", "0001-01-01T00:30+01:00"]))
# Seconds of an offset, which wants another colon then.
@example(("%z%j%H%y", ["+00:00101000", "+00:00:10101000", "+2400101000"]))
def test_format_reads_what_python_reads(case: tuple[str, list[str]]) -> None:
    given, texts = case
    assert format_flaw(given) is None
    found = pl.DataFrame({"text": texts}).select(to_iso(pl.col("text"), given))
    assert found.to_series().to_list() == [_expected(text, given) for text in texts]


@pytest.mark.parametrize(
    ("given", "text", "expected"),
    [
        ("unix", "1782874800", "2026-07-01T03:00:00.000000Z"),
        ("unix", "-1.5", "1969-12-31T23:59:58.500000Z"),
        ("unix", "1.0000001", None),
        ("unix", "1e9", None),
        ("unix_ms", "1782874800500.25", "2026-07-01T03:00:00.500250Z"),
        ("unix_ms", "1.0001", None),
        ("unix_us", "1782874800500250", "2026-07-01T03:00:00.500250Z"),
        ("unix_us", "1.5", None),
        ("unix", "99999999999999999", None),
        ("%Y-%m-%d %Z", "2014-02-03 CET", "2014-02-03T00:00:00.000000[CET]"),
        (
            "%Z %Y-%m-%d",
            "America/New_York 2014-02-03",
            "2014-02-03T00:00:00.000000[America/New_York]",
        ),
        ("%Y-%m-%d", "٢٠١٤-02-03", None),
    ],
)
def test_count_or_zone_is_read(given: str, text: str, expected: str | None) -> None:
    assert format_flaw(given) is None
    assert pl.select(to_iso(pl.lit(text), given)).item() == expected
