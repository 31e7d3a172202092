"""Texts made of the rows of ingest.in_force; reading and printing are elsewhere."""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

from ingest.configuration.in_force import CalendarVersion, Definition, StepInForce

YEAR = timedelta(days=365)


def headline(definition: Definition) -> str:
    """What a workflow is, in one line."""
    whose = definition.business_entity or "all business entities"
    retired = "" if definition.is_active else ", retired"
    return (
        f"{definition.name} for {whose}{retired}: version {definition.versions}, "
        f"in force since {definition.in_force_since}"
    )


def step_rows(steps: list[StepInForce]) -> list[dict[str, Any]]:
    """The steps of a workflow as the rows of a table."""
    return [
        {
            **step._asdict(),
            "allowed_next": ", ".join(step.allowed_next),
            "is_final": "yes" if step.is_final else "",
            "is_waiting": "yes" if step.is_waiting else "",
        }
        for step in steps
    ]


def state_diagram(steps: list[StepInForce]) -> str:
    """A Mermaid state diagram; hours are in the descriptions of the states."""
    return "\n".join(["stateDiagram-v2", *(f"    {line}" for line in _lines(steps))])


def _lines(steps: list[StepInForce]) -> Iterator[str]:
    # A status may have any name, and an id may not.
    ids = {step.status: f"s{number}" for number, step in enumerate(steps, start=1)}
    for step in steps:
        yield f'state "{_escaped(step.status)}" as {ids[step.status]}'
    for step in steps:
        if step.sla_hours is not None:
            of = f" of {step.calendar}" if step.calendar else ""
            text = _escaped(f"SLA {step.sla_hours} h{of}")
            yield f"{ids[step.status]} : {text}"
    yield f"[*] --> {ids[steps[0].status]}"
    for step in steps:
        for following in step.allowed_next:
            yield f"{ids[step.status]} --> {ids[following]}"
        if step.is_final:
            yield f"{ids[step.status]} --> [*]"


def _escaped(text: str) -> str:
    """With Mermaid's entity codes for all that might mean something to it."""
    return "".join(c if c.isalnum() or c in " ._" else f"#{ord(c)};" for c in text)


def calendar_text(calendar: CalendarVersion) -> str:
    """Zone, opening windows, and the dates of the coming year that differ."""
    weekdays = ((day, _hours(windows)) for day, windows in calendar.windows.items())
    return "\n".join(
        [
            f"{calendar.name}: {calendar.timezone}, in force since "
            f"{calendar.in_force_since}, covers {calendar.covers_from} to "
            f"{calendar.covers_until}",
            "",
            *(f"{day:<12}{hours}" for day, hours in weekdays),
            "",
            *(_days_ahead(calendar) or ["No other hours in the coming year."]),
        ]
    )


def _days_ahead(calendar: CalendarVersion) -> list[str]:
    days: dict[date, str] = {
        **{day: _closed(why) for day, why in calendar.closed_dates.items()},
        **{day: _hours(windows) for day, windows in calendar.special_dates.items()},
    }
    return [
        f"{day} {day:%a}  {what}"
        for day, what in sorted(days.items())
        if calendar.today <= day < calendar.today + YEAR
    ]


def _closed(why: str) -> str:
    """A holiday is named; what a file closes has no other reason than that."""
    return why if why == "closed" else f"closed: {why}"


def _hours(windows: list[str]) -> str:
    return ", ".join(windows) or "closed"
