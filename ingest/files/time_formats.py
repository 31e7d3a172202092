"""Instants in a format of their own: its directives, and ISO 8601 made of it.

Directives mean what Python's documentation of strptime says of them, in English and
with ASCII digits; three formats count from 1970. What a local time without a zone
becomes is decided in ingest/instants.py.
"""

import re
from collections.abc import Callable

import polars as pl

_MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
# Of what strptime's pattern of an offset finds, it takes this, and refuses the rest.
_MINUTES = "(?:[01][0-9]|2[0-3]){}[0-5][0-9]"
_OFFSET = (
    rf"^(?:Z|[+-]{_MINUTES.format(':')}(?::[0-5][0-9](?:\.[0-9]{{1,6}})?)?"
    rf"|[+-]{_MINUTES.format('')}(?:[0-5][0-9](?:\.[0-9]{{1,6}})?)?)$"
)
# A directive: what it reads, and the pattern of that.
DIRECTIVES: dict[str, tuple[str, str]] = {
    "%Y": ("year of four digits", "[0-9]{4}"),
    "%y": ("year of two digits, 1969 to 2068", "[0-9]{2}"),
    "%m": ("month, 1 to 12", "1[0-2]|0[1-9]|[1-9]"),
    "%B": ("month's English name", "|".join(sorted(_MONTHS, key=len, reverse=True))),
    "%b": ("its first three letters", "|".join(name[:3] for name in _MONTHS)),
    "%d": ("day of the month, 1 to 31", "3[01]|[12][0-9]|0[1-9]|[1-9]| [1-9]"),
    "%j": (
        "day of the year, 1 to 366",
        "36[0-6]|3[0-5][0-9]|[12][0-9]{2}|0[1-9][0-9]|00[1-9]|[1-9][0-9]|0[1-9]|[1-9]",
    ),
    "%A": (
        "weekday's English name, not used",
        "|".join(sorted(_DAYS, key=len, reverse=True)),
    ),
    "%a": ("its first three letters, not used", "|".join(d[:3] for d in _DAYS)),
    "%H": ("hour, 0 to 23", "2[0-3]|[01][0-9]|[0-9]"),
    "%I": ("hour, 1 to 12, beside %p", "1[0-2]|0[1-9]|[1-9]"),
    "%p": ("AM or PM", "am|pm"),
    "%M": ("minute, 0 to 59", "[0-5][0-9]|[0-9]"),
    "%S": ("second, 0 to 59", "6[01]|[0-5][0-9]|[0-9]"),
    "%f": ("fraction of a second, 1 to 6 digits", "[0-9]{1,6}"),
    "%z": (
        "offset: +0100, +01:00 or Z",
        r"[+-][0-9]{2}:?[0-5][0-9](?::?[0-5][0-9](?:\.[0-9]{1,6})?)?|(?-i:Z)",
    ),
    "%Z": (
        "IANA name of a zone, such as CET or Asia/Tokyo",
        "[A-Za-z][A-Za-z0-9_+/-]*",
    ),
    "%%": ("percent sign", "%"),
}
# Formats that are a number, and how many of its units a second has.
COUNTS = {"unix": 1, "unix_ms": 1_000, "unix_us": 1_000_000}
_COUNT_PATTERN = r"^-?[0-9]{1,17}(\.[0-9]{1,6})?$"
_DIRECTIVE = re.compile("%.?", re.DOTALL)


def format_flaw(given: str) -> str | None:
    """Why instants can't be read by a format, in words; None where they can."""
    if given in COUNTS:
        return None
    found = [directive for directive in _DIRECTIVE.findall(given) if directive != "%%"]
    for directive in found:
        if directive not in DIRECTIVES:
            return (
                f"{directive} is no directive here; known are {', '.join(DIRECTIVES)}, "
                f"and the whole formats {', '.join(COUNTS)}"
            )
        if found.count(directive) > 1:
            return f"{directive} stands there more than once"
    return _gap_of(set(found)) or _clash_of(set(found))


def _gap_of(used: set[str]) -> str | None:
    """What a format lacks to be an instant."""
    if not used & {"%Y", "%y"}:
        return "it reads no year: name it, as in %Y"
    if not ("%j" in used or ("%d" in used and used & {"%m", "%b", "%B"})):
        return "it reads no day: name month and day, as in %m and %d, or %j"
    if ("%I" in used) != ("%p" in used):
        return "%I and %p are an hour only together; for 24 hours there is %H"
    for finer, coarser, unit in (
        ("%M", {"%H", "%I"}, "hour"),
        ("%S", {"%M"}, "minute"),
        ("%f", {"%S"}, "second"),
    ):
        if finer in used and not used & coarser:
            return f"{finer} needs the {unit} as well"
    return None


def _clash_of(used: set[str]) -> str | None:
    """What a format says twice."""
    for names in (
        ("%Y", "%y"),
        ("%m", "%b", "%B"),
        ("%j", "%d"),
        ("%H", "%I"),
        ("%z", "%Z"),
    ):
        both = [name for name in names if name in used]
        if len(both) > 1:
            return f"{both[0]} and {both[1]} say the same; leave one out"
    return None


def to_iso(text: pl.Expr, given: str) -> pl.Expr:
    """The ISO 8601 texts of instants in a format; null for what is not of it.

    Args:
        text: of String.
        given: a format without a flaw.

    Returns:
        Local times as such, those with an offset in UTC, those with a zone's name with
        that in brackets.
    """
    if given in COUNTS:
        return _counted(text, COUNTS[given])
    return text.map_batches(lambda texts: _read(texts, given), return_dtype=pl.String)


def _read(texts: pl.Series, given: str) -> pl.Series:
    # In steps: an expression that is used several times is evaluated as often.
    frame = pl.DataFrame({"text": texts}).with_columns(
        pl.col("text").str.extract_groups(_pattern(given)).struct.unnest()
    )
    is_whole = pl.col("whole").str.len_bytes() == pl.col("text").str.len_bytes()
    used = set(_DIRECTIVE.findall(given))

    def part(directive: str) -> pl.Expr | None:
        return pl.col(directive[1]) if directive in used else None

    frame = frame.with_columns(_local=pl.when(is_whole).then(_local(part)))
    local, offset, zone = pl.col("_local"), part("%z"), part("%Z")
    if offset is not None:
        instant = local - _offset(offset)
        # Beyond the first year and the last there is no ISO 8601 of four digits.
        instant = pl.when(instant.dt.year().is_between(1, 9999)).then(instant)
        spelled = _spelled(instant) + pl.lit("Z")
    elif zone is not None:
        spelled = _spelled(local) + pl.lit("[") + zone + pl.lit("]")
    else:
        spelled = _spelled(local)
    return frame.select(spelled).to_series()


def _pattern(given: str) -> str:
    """The regular expression of a format, a group a directive, as strptime has it."""
    parts = re.split("(%.)", re.sub(r"\s+", " ", given), flags=re.DOTALL)
    made = [_of_directive(p) if p in DIRECTIVES else _of_literal(p) for p in parts]
    return f"(?i)^(?P<whole>{''.join(made)})"


def _of_directive(directive: str) -> str:
    pattern = DIRECTIVES[directive][1]
    return pattern if directive == "%%" else f"(?P<{directive[1]}>{pattern})"


def _of_literal(text: str) -> str:
    return "".join(r"\s+" if c == " " else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    # Another escape than Python's for what Rust's engine would not take.
    is_plain = character.isalnum() or ord(character) > 127
    return character if is_plain else f"\\x{ord(character):02X}"


def _local(part: Callable[[str], pl.Expr | None]) -> pl.Expr:
    """The local time of the parts of a text; null where there is no such."""
    day, fraction = part("%d"), part("%f")
    clock = _joined(":", _hour(part), _digits(part("%M")), _digits(part("%S")))
    if fraction is not None:
        # To microseconds, as 5 is half a second.
        digits = (fraction + pl.lit("00000")).str.slice(0, 6)
        clock = _joined(".", clock, digits)
    first = _joined("-", _year(part), pl.lit("01-01"))
    date = (
        first if day is None else _joined("-", _year(part), _month(part), _digits(day))
    )
    local = _joined("T", date, clock).str.to_datetime(
        "%Y-%m-%dT%H:%M:%S%.f", time_unit="us", strict=False
    )
    # ISO 8601 has a year 0; the calendar of instants has none.
    local = pl.when(local.dt.year() > 0).then(local)
    if day is None:
        local = _on_day(local, part("%j"))
    second = part("%S")
    # A leap second is no instant.
    return local if second is None else pl.when(second != "60").then(local)


def _joined(mark: str, *parts: pl.Expr) -> pl.Expr:
    return pl.concat_str(parts, separator=mark)


def _digits(text: pl.Expr | None) -> pl.Expr:
    return pl.lit("00") if text is None else text.str.strip_chars(" ")


def _year(part: Callable[[str], pl.Expr | None]) -> pl.Expr:
    full, short = part("%Y"), part("%y")
    if full is not None:
        return full
    assert short is not None
    return pl.when(short < "69").then(pl.lit("20") + short).otherwise("19" + short)


def _month(part: Callable[[str], pl.Expr | None]) -> pl.Expr:
    number = part("%m")
    if number is not None:
        return number
    full, short = part("%B"), part("%b")
    name = full if full is not None else short
    assert name is not None
    places = {month[:3]: f"{n:02}" for n, month in enumerate(_MONTHS, start=1)}
    return name.str.to_lowercase().str.slice(0, 3).replace_strict(places, default=None)


def _hour(part: Callable[[str], pl.Expr | None]) -> pl.Expr:
    hour, half = part("%I"), part("%p")
    if hour is None or half is None:
        return _digits(part("%H"))
    number = hour.cast(pl.Int64) % 12
    is_afternoon = half.str.to_lowercase() == "pm"
    number = pl.when(is_afternoon).then(number + 12).otherwise(number)
    return number.cast(pl.String)


def _on_day(first: pl.Expr, number: pl.Expr | None) -> pl.Expr:
    """The same time on a day of the year, from its first."""
    assert number is not None
    found = first + pl.duration(days=number.cast(pl.Int64) - 1)
    # The 366th day of a year of 365 is none.
    return pl.when(found.dt.year() == first.dt.year()).then(found)


def _offset(text: pl.Expr) -> pl.Expr:
    """How long; null where colons are here and not there, or hours more than 23."""
    digits = text.str.slice(1).str.replace_all(":", "", literal=True)

    def number(start: int) -> pl.Expr:
        found = digits.str.slice(start, 2).cast(pl.Int64, strict=False)
        return found.fill_null(0)

    fraction = (digits.str.slice(7) + pl.lit("000000")).str.slice(0, 6)
    length = pl.duration(
        hours=number(0),
        minutes=number(2),
        seconds=number(4),
        microseconds=fraction.cast(pl.Int64, strict=False).fill_null(0),
    )
    is_utc = text == "Z"
    sign = pl.when(text.str.starts_with("-")).then(-1).otherwise(1)
    found = pl.when(is_utc).then(pl.duration(hours=0)).otherwise(length * sign)
    return pl.when(text.str.contains(_OFFSET)).then(found)


def _spelled(local: pl.Expr) -> pl.Expr:
    return local.dt.to_string("%Y-%m-%dT%H:%M:%S%.6f")


def _counted(text: pl.Expr, per_second: int) -> pl.Expr:
    """The instants of counts since 1970, to the microsecond, and no finer."""
    is_count = text.str.contains(_COUNT_PATTERN)
    digits = len(str(1_000_000 // per_second)) - 1
    whole = text.str.extract(r"^(-?[0-9]+)", 1)
    fraction = text.str.extract(r"\.([0-9]+)$", 1).fill_null("")
    is_exact = fraction.str.strip_chars_end("0").str.len_bytes() <= digits
    scaled = whole + (fraction + pl.lit("000000")).str.slice(0, digits)
    count = pl.when(is_count & is_exact).then(scaled).cast(pl.Int64, strict=False)
    instant = count.cast(pl.Datetime("us"))
    instant = pl.when(instant.dt.year().is_between(1, 9999)).then(instant)
    return _spelled(instant) + pl.lit("Z")
