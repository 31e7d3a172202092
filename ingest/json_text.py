"""JSON that loses nothing: its numbers digit for digit, and one spelling of it.

Which values a transition may have belongs in transition.py.
"""

import json
import re
from typing import Any

import msgspec

# What Python and PostgreSQL both read at any depth of their own stack.
DEEPEST = 200
# \u0000 behind an even number of backslashes; jsonb refuses it.
ESCAPED_NUL = re.compile(rb"(?<!\\)(\\\\)*\\u0000")

# Whole numbers become int, others keep their digits as Raw.
_decoder = msgspec.json.Decoder(float_hook=msgspec.Raw)
_encoder = msgspec.json.Encoder(order="sorted")


def parse_json(text: bytes) -> object:
    """Parse JSON, each number kept as its digits.

    Raises:
        ValueError: it is no JSON in UTF-8, repeats a key, is nested deeper than
            DEEPEST, or holds NaN, an infinity or half a character.
    """
    return _parse(text)[0]


def parse_lines(text: bytes) -> list[dict[str, object]] | None:
    """Parse lines of JSON objects, none deeper than DEEPEST, as `parse_json` does.

    Returns:
        None where one of them is no such object, or would have to be read exactly.
    """
    lines = text.removesuffix(b"\n").replace(b"\r\n", b"\n").split(b"\n")
    parsed = _parse_each(lines)
    return parsed and parsed[0]


def spell_json(value: object) -> str:
    """Write what `parse_json` gave, keys sorted, no spaces, non-ASCII as it is."""
    return _encoder.encode(value).decode()


def spell_each(values: list[object]) -> list[str | None]:
    """Null and text as they are, anything else as `spell_json` writes it."""
    others = [v for v in values if v is not None and v.__class__ is not str]
    spelled = iter(_encoder.encode_lines(others).decode().split("\n"))
    return [v if v is None or isinstance(v, str) else next(spelled) for v in values]


def canonical_json(text: str) -> str | None:
    """The one spelling of a JSON object, its numbers digit for digit.

    Returns:
        None where it is no object, repeats a key, or holds what jsonb can't.
    """
    try:
        value, spelled = _parse(text.encode())
    except ValueError:
        return None
    is_storable = isinstance(value, dict) and not _has_nul(spelled)
    return spelled.decode() if is_storable else None


def canonical_each(texts: list[str]) -> list[str | None]:
    """What `canonical_json` makes of each, at once where all of them are plain."""
    lines = [text.encode() for text in texts]
    is_flat = all(line.count(b"{") + line.count(b"[") <= DEEPEST for line in lines)
    parsed = _parse_each(lines) if is_flat else None
    if parsed is None or _has_nul(parsed[1]):
        return list(map(canonical_json, texts))
    return list(parsed[1].decode().removesuffix("\n").split("\n"))


def _parse_each(lines: list[bytes]) -> tuple[list[dict[str, object]], bytes] | None:
    """The objects of lines and their spelling; None where one must be read exactly."""
    try:
        values = list(map(_decoder.decode, lines))
        spelled = _encoder.encode_lines(values)
    except ValueError:
        return None
    is_same = _is_same(b"\n".join([*lines, b""]), spelled)
    return (values, spelled) if is_same and set(map(type, values)) == {dict} else None


def _parse(text: bytes) -> tuple[object, bytes]:
    """The value, and its one spelling."""
    if text.count(b"{") + text.count(b"[") <= DEEPEST:
        try:
            value = _decoder.decode(text)
            spelled = _encoder.encode(value)
        except ValueError:
            return _parse_exactly(text.decode())
        if _is_same(text, spelled):
            return value, spelled
    return _parse_exactly(text.decode())


def _has_nul(spelled: bytes) -> bool:
    # The pattern alone takes forty times as long.
    return rb"\u0000" in spelled and ESCAPED_NUL.search(spelled) is not None


def _is_same(text: bytes, spelled: bytes) -> bool:
    """Whether nothing but spaces was lost.

    Spelling makes nothing longer. What it lost otherwise is a repeated key, the minus
    of -0, or (harmless, but not told apart) an escape or a tab.
    """
    return len(text) - text.count(b" ") == len(spelled) - spelled.count(b" ")


def _parse_exactly(text: str) -> tuple[object, bytes]:
    try:
        value = json.loads(
            text,
            parse_float=_digits,
            parse_int=_digits,
            parse_constant=_refuse,
            object_pairs_hook=_distinct,
        )
    except RecursionError:
        _refuse("what is nested so deeply")
    if _is_deep(value):
        _refuse(f"what is nested deeper than {DEEPEST} levels")
    return value, _encoder.encode(value)


def _digits(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode())


def _refuse(name: str) -> Any:
    msg = f"{name} is no JSON that can be kept"
    raise ValueError(msg)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        msg = "a key is repeated"
        raise ValueError(msg)
    return members


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(DEEPEST):
        level = [child for parent in level for child in _children(parent)]
    return any(isinstance(value, dict | list) for value in level)


def _children(value: object) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
