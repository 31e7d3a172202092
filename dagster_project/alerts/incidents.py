"""Incidents: troubles by cause, how often each occurred, and what channels know of it.

A channel gets one message a cause and half hour at most, with counts; what ended is
told once. Where troubles are looked for belongs in watching.py and in health, and the
sending in pipeline.py. Instants are seconds since 1970, in UTC.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

HALF_HOUR = 1800.0
# In a message; the others are counted.
LISTED = 20
_NUMBERS = re.compile(
    r"\b0x[0-9a-f]+|\b[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}\b"
    r"|\b(?=[a-f]*[0-9])[0-9a-f]{7,}\b|[0-9]+",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Observation:
    """A trouble that stands, or of which more occurred.

    cause: its kind and what it is of, the same each time, as "run/verify/step/error".
    count: how often it occurred since it was looked for last, or, where it is a level,
        of how many things it is now.
    mark: which was the newest; with the mark known already nothing new occurred.
    """

    cause: str
    title: str
    said: str
    count: int = 1
    mark: str = ""
    is_level: bool = False


class Looked(NamedTuple):
    """What a look found: of causes that begin so, all others that stood are over.

    still: causes that stand, without anything new.
    """

    prefix: str
    found: Sequence[Observation] = ()
    still: frozenset[str] = frozenset()


class Incident(msgspec.Struct):
    """A trouble from beginning to end, and what followed within half an hour."""

    cause: str
    title: str
    said: str
    began_at: float
    last_at: float
    count: int
    mark: str
    ended_at: float | None = None


class Told(msgspec.Struct):
    """What a channel was told last of a cause."""

    began_at: float
    count: int
    at: float
    is_over: bool


class Telling(NamedTuple):
    """What a channel is to be told of an incident: `new` occurrences since it was."""

    incident: Incident
    new: int
    is_over: bool


Incidents = dict[str, Incident]


def observe(incidents: Incidents, looks: Iterable[Looked], now: float) -> None:
    """Take in what was found: incidents begin, go on, end, or begin again."""
    for look in looks:
        found = {o.cause for o in look.found}
        for observation in look.found:
            _note(incidents, observation, now)
        for cause, incident in incidents.items():
            is_over = cause not in found and cause not in look.still
            if cause.startswith(look.prefix) and is_over and incident.ended_at is None:
                incident.ended_at = now


def _note(incidents: Incidents, seen: Observation, now: float) -> None:
    known = incidents.get(seen.cause)
    # What comes and goes is one trouble, until all who are told know that it is over.
    if known is None:
        incidents[seen.cause] = Incident(
            seen.cause, seen.title, seen.said, now, now, seen.count, seen.mark
        )
        return
    is_back = known.ended_at is not None
    known.ended_at = None
    if seen.is_level:
        known.count = max(known.count, seen.count)
    elif is_back or seen.mark != known.mark:
        known.count += seen.count
    known.title, known.said, known.mark = seen.title, seen.said, seen.mark
    known.last_at = now


def due(
    incidents: Mapping[str, Incident], told: Mapping[str, Told], now: float
) -> list[Telling]:
    """What a channel is to be told now, the newest first."""
    found = [_telling(i, told.get(i.cause), now) for i in incidents.values()]
    tellings = [telling for telling in found if telling]
    return sorted(tellings, key=lambda t: (-t.incident.last_at, t.incident.cause))


def _telling(incident: Incident, told: Told | None, now: float) -> Telling | None:
    is_over = incident.ended_at is not None
    if told is None:
        return Telling(incident, incident.count, is_over)
    if now - told.at < HALF_HOUR:
        return None
    if told.began_at != incident.began_at:
        return Telling(incident, incident.count, is_over)
    new = max(incident.count - told.count, 0)
    if new or told.is_over != is_over:
        return Telling(incident, new, is_over)
    return None


def after(telling: Telling, now: float) -> Told:
    """What a channel knows once it took a telling."""
    incident = telling.incident
    return Told(incident.began_at, incident.count, now, telling.is_over)


def forget(
    incidents: Incidents, told: Sequence[Mapping[str, Told]], now: float
) -> None:
    """Drop what ended and no channel needs to hear of any more."""
    for cause, incident in list(incidents.items()):
        # Without a channel, who comes later is told of what stands then.
        if incident.ended_at is not None and all(
            _is_settled(incident, known.get(cause), now) for known in told
        ):
            del incidents[cause]


def _is_settled(incident: Incident, told: Told | None, now: float) -> bool:
    """Whether a channel knows that it is over, and would be told of another at once."""
    return (
        told is not None
        and told.is_over
        and now - told.at >= HALF_HOUR
        and (told.began_at, told.count) == (incident.began_at, incident.count)
    )


def compose(tellings: Sequence[Telling]) -> tuple[str, str]:
    """All of them as one message: its title and its text."""
    over = [t for t in tellings if t.is_over]
    if len(tellings) == 1:
        (only,) = tellings
        title = f"{'Over' if only.is_over else 'Pipeline'}: {only.incident.title}"
    else:
        counts = [f"{len(tellings) - len(over)} troubles", f"{len(over)} over"]
        newest = tellings[0].incident.title
        title = f"Pipeline: {', '.join(counts)}; the newest: {newest}"
    parts = [_in_words(telling) for telling in tellings[:LISTED]]
    if len(tellings) > LISTED:
        parts.append(f"And {len(tellings) - LISTED:,} more.")
    parts.append("How everything is: status-engine health")
    return title, "\n\n".join(parts)


def _in_words(telling: Telling) -> str:
    incident = telling.incident
    lines = [f"{incident.title}: {incident.said}"]
    if not telling.new and not telling.is_over:
        lines.append(f"It is back; the first time was {_utc(incident.began_at)}")
    elif incident.count > 1 or telling.new != incident.count:
        lines.append(
            f"{telling.new:,} new, {incident.count:,} in all since "
            f"{_utc(incident.began_at)}"
        )
    else:
        lines.append(f"Since {_utc(incident.began_at)}")
    if telling.is_over and incident.ended_at is not None:
        lines.append(f"Over: {_utc(incident.ended_at)}")
    return "\n".join(lines)


def _utc(instant: float) -> str:
    return f"{datetime.fromtimestamp(instant, UTC):%Y-%m-%d %H:%M:%S} UTC"


def kind_of_error(text: str) -> str:
    """The first line of an error, without what differs from one time to the next."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return _NUMBERS.sub("N", lines[0])[:200] if lines else "without a word"
