"""JSON keeps its digits, has one spelling, and is refused where it can't be kept."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nights import tries

from ingest.json_text import DEEPEST, canonical_each, canonical_json, parse_lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"b": 1, "a": 2}', '{"a":2,"b":1}'),
        ('{"n": [1.0, 1.00, 1e5, -0, 0.1]}', '{"n":[1.0,1.00,1e5,-0,0.1]}'),
        ('{"n": 123456789012345678901234567890}',) * 2,
        ('{"a": {"c": {}, "b": []}}', '{"a":{"b":[],"c":{}}}'),
        (r'{"a": "\u00e9\n\/"}', '{"a":"é\\n/"}'),
        (r'{"a": "\\u0000"}', r'{"a":"\\u0000"}'),
        (r'{"a": "\ud83d\ude00"}', '{"a":"😀"}'),
        ('{"a": true, "b": false, "c": null}', '{"a":true,"b":false,"c":null}'),
    ],
)
def test_json_object_has_one_spelling(text: str, expected: str) -> None:
    spelled = canonical_json(text)
    assert spelled == expected.replace(": ", ":")
    assert canonical_json(spelled) == spelled
    assert json.loads(spelled) == json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "1",
        "[1]",
        "null",
        '"text"',
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a": -Infinity}',
        '{"a": 1, "a": 1}',
        '{"a": {"b": 1, "b": 2}}',
        r'{"a": "\u0000"}',
        r'{"a": "\\\u0000"}',
        r'{"\u0000": 1}',
        r'{"a": "\ud800"}',
        r'{"\udc00": 1}',
        "{'a': 1}",
        '{"a": 01}',
        '{"a": 1} {}',
        '{"a":' * 100_000 + "1" + "}" * 100_000,
    ],
    ids=lambda text: text[:24] or "empty",
)
def test_json_that_can_not_be_stored_has_no_spelling(text: str) -> None:
    assert canonical_json(text) is None


def test_moderately_deep_json_is_kept() -> None:
    text = '{"a":' * 100 + "1" + "}" * 100
    assert canonical_json(text) == text


@pytest.mark.parametrize("text", ['{"a":', '{"a":1,"c":', '{"a": [0.0], "b":'])
def test_json_is_kept_to_the_deepest_level_and_no_deeper(text: str) -> None:
    assert canonical_json(text * DEEPEST + "{}" + "}" * DEEPEST) is None
    kept = text * (DEEPEST - 1) + "{}" + "}" * (DEEPEST - 1)
    assert canonical_json(kept) == kept.replace(" ", "")


class _Number(str):
    __slots__ = ()


def _by_the_letter(text: str) -> str | None:
    """What `canonical_json` promises, in nothing but the standard library."""
    try:
        value = json.loads(
            text,
            parse_float=_Number,
            parse_int=_Number,
            parse_constant=_fail,
            object_pairs_hook=_members,
        )
        spelled = _spell(value)
        spelled.encode()
    except ValueError:
        return None
    return spelled if isinstance(value, dict) and not _has_nul(value) else None


def _fail(*_: object) -> Any:
    raise ValueError


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(pairs) if len(dict(pairs)) == len(pairs) else _fail()


def _spell(value: Any) -> str:
    if isinstance(value, dict):
        parts = (f"{_spell(k)}:{_spell(v)}" for k, v in sorted(value.items()))
        return "{" + ",".join(parts) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_spell, value)) + "]"
    if isinstance(value, _Number):
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def _has_nul(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_nul(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return any(map(_has_nul, value))
    return isinstance(value, str) and "\x00" in value


_space = st.sampled_from(["", "", "", " ", "  ", "\t", "\r", "\x0c"])
_number = st.one_of(
    st.integers().map(str),
    st.floats().map(repr),
    st.decimals(allow_nan=False).map(str),
    st.from_regex(
        r"-?[0-9]{1,25}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True
    ),
    st.sampled_from(["-0", "-0.0", "01", "1.", "NaN", "-Infinity", "1e400"]),
)
_piece = st.one_of(
    st.text(max_size=3).map(lambda text: json.dumps(text, ensure_ascii=False)[1:-1]),
    st.text(max_size=2).map(lambda text: json.dumps(text)[1:-1]),
    st.sampled_from(
        ["\\/", "\\u0020", "\\u001F", "\\u0000", "\\\\u0000", "\\ud800", "\x7f"]
    ),
)
_text = st.lists(_piece, max_size=3).map(lambda pieces: '"' + "".join(pieces) + '"')


@st.composite
def _spaced(draw: st.DrawFn, parts: list[str], marks: str) -> str:
    inside = ",".join(draw(_space) + part + draw(_space) for part in parts)
    return marks[0] + inside + marks[1]


def _object(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    key = st.sampled_from(['"a"', '"b"', '"\\u0061"', '"é"', '"z z"']) | _text
    member = st.tuples(key, _space, _space, values).map(
        lambda m: f"{m[0]}{m[1]}:{m[2]}{m[3]}"
    )
    return st.lists(member, max_size=4).flatmap(lambda parts: _spaced(parts, "{}"))


_scalar = st.one_of(_number, _text, st.sampled_from(["true", "false", "null"]))
_value = st.recursive(
    _scalar,
    lambda values: st.one_of(
        _object(values),
        st.lists(values, max_size=3).flatmap(lambda parts: _spaced(parts, "[]")),
    ),
    max_leaves=6,
)
JSON = _object(_value) | _value


@settings(max_examples=tries(300, 1500), deadline=None)
@given(text=JSON)
@example('{"a":1,"a":1}')
@example('{"a":"\\u0020","a":0}')
@example('{"a":9007199254740993,"b":9007199254740993.0}')
def test_spelling_is_what_the_standard_library_says(text: str) -> None:
    assert canonical_json(text) == _by_the_letter(text)


@settings(max_examples=tries(150, 500), deadline=None)
@given(text=JSON, place=st.integers(0, 60), other=st.text('{}[]",:0 \\', max_size=2))
def test_damaged_json_is_judged_as_the_standard_library_does(
    text: str, place: int, other: str
) -> None:
    damaged = text[:place] + other + text[place + 1 :]
    assert canonical_json(damaged) == _by_the_letter(damaged)


@pytest.mark.parametrize(
    "lines",
    [
        b'{"a":1} {"b":1}\n\n',
        b'{"a":1}{"b":1}\n',
        b'{"a":\n1}\n{"a":1}{"a":1}\n',
        b'{"a":1}\r{"b":1}\n',
        b'{"a":1,"a":1}\n',
        b'{"a":-0}\n',
        b"[]\n",
        b"1\n",
        b"",
        b"\n",
    ],
)
def test_lines_that_are_not_one_object_each_are_left_to_the_exact_lane(
    lines: bytes,
) -> None:
    assert parse_lines(lines) is None


@given(texts=st.lists(st.one_of(JSON, st.text(max_size=4)), max_size=5))
@example(texts=['{"a":1,"a":2}', "{}"])
@example(texts=['{"a":"\\u0000"}', "{}"])
@example(texts=['{"a":\n1}', "{}"])
@example(texts=["{}", "1"])
@example(texts=['{"a":' * DEEPEST + "{}" + "}" * DEEPEST])
def test_texts_at_once_are_spelled_as_each_alone(texts: list[str]) -> None:
    assert canonical_each(texts) == [canonical_json(text) for text in texts]
