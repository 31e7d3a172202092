"""YAML files as mappings that know their lines; what they mean belongs elsewhere.

A file is composed while its events are parsed, so that what is too large, too deep or
multiplied by aliases is refused before it is made.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml.constructor import SafeConstructor
from yaml.reader import Reader

from ingest.errors import WorkflowError

# A workflow of 5,000 steps is 1.8 MB and 160,000 values.
MOST_BYTES = 4 << 20
MOST_VALUES = 500_000
# What aliases stand for, in characters, each value counted as VALUE_SIZE more.
MOST_ALIASED = 1_000_000
VALUE_SIZE = 8
DEEPEST = 50
# Python reads no whole number of more digits.
LONGEST_NUMBER = 4_300
# libyaml compares each of them with all before it.
MOST_DIRECTIVES = 100
# libyaml parses 20 times faster, and refuses little that Python's parser takes.
PARSERS: tuple[Any, ...] = (
    (yaml.CSafeLoader, yaml.SafeLoader) if yaml.__with_libyaml__ else (yaml.SafeLoader,)
)
LONGEST_REPARSED = 256 << 10
LONGEST_SHOWN = 100

_TAG = "tag:yaml.org,2002:"
_NUMBERS = (f"{_TAG}int", f"{_TAG}float")
_PLAIN: dict[str, list[tuple[str, re.Pattern[str]]]] = (
    yaml.SafeLoader.yaml_implicit_resolvers
)
_CONSTRUCT: dict[str, Callable[[SafeConstructor, yaml.ScalarNode], Any]] = {
    f"{_TAG}null": SafeConstructor.construct_yaml_null,
    f"{_TAG}bool": SafeConstructor.construct_yaml_bool,
    f"{_TAG}int": SafeConstructor.construct_yaml_int,
    f"{_TAG}float": SafeConstructor.construct_yaml_float,
}
# What SafeConstructor raises for texts that are not what their tag says.
_MISFITS = (ValueError, LookupError, ArithmeticError, AttributeError)
# As values, `<<` and `=` are texts, and so are dates, as in YAML 1.2 and in JSON.
_TEXTS = (f"{_TAG}str", f"{_TAG}merge", f"{_TAG}value", f"{_TAG}timestamp")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Located(dict[Any, Any]):
    """A YAML mapping that knows its file and the line of each of its keys."""

    path: Path
    line: int
    lines: dict[str, int]

    def at(self, key: object = None) -> str:
        """Where it, or one of its keys, stands."""
        return f"{self.path}, line {self.lines.get(str(key), self.line)}"

    def over(self, defaults: dict[str, Any]) -> "Located":
        """It, and what it leaves out."""
        return self.of({**defaults, **self})

    def of(self, content: dict[Any, Any]) -> "Located":
        """Other content in its place."""
        other = Located(content)
        other.path, other.line, other.lines = self.path, self.line, self.lines
        return other


class _RefusedError(Exception):
    """What ends the reading of a file, in one sentence."""


def shown(value: object) -> str:
    """A value in a sentence, cut short."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]} ..."


def yaml_paths(path: Path) -> list[Path]:
    """A file, or every .yml and .yaml file of a folder, by name.

    Raises:
        WorkflowError: there is none, or it can't be looked at.
    """
    try:
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix in (".yml", ".yaml"))
            missing = "the folder holds no .yml file"
        else:
            found = [path] if path.exists() else []
            missing = "no such file or folder"
    except OSError as error:
        msg = f"{path}: {error.strerror or error}. Check the path."
        raise WorkflowError(msg) from error
    if not found:
        msg = f"{path}: {missing}. Check the path."
        raise WorkflowError(msg)
    return found


def read_yaml(
    path: Path, defects: list[str], *, kind: str = "a workflow file"
) -> Located | None:
    """The mapping that a file holds, or None; what is wrong goes into defects.

    Args:
        path: of a regular file of up to MOST_BYTES.
        defects: gets one line a defect, with file and, where there is one, line.
        kind: what the file is to be, in words.

    Returns:
        Values that can be stored as JSON: keys are texts, and timestamps stay texts.
    """
    try:
        text = _read_text(path)
        content, found = _compose(path, text)
    except OSError as error:
        defects.append(f"{path}: {error.strerror or error}. Check the path.")
        return None
    except yaml.YAMLError as error:
        defects.append(f"{path}{_place(error)}: this is no YAML: {_reason(error)}.")
        return None
    except _RefusedError as error:
        defects.append(str(error))
        return None
    if not isinstance(content, Located):
        defects.append(f"{path}, line 1: {kind} is a mapping; this is none.")
        return None
    defects += found
    return None if found else content


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f", line {mark.line + 1}" if mark else ""


def _reason(error: yaml.YAMLError) -> str:
    reason = getattr(error, "problem", None) or getattr(error, "reason", None)
    return str(reason or error).partition("\n")[0]


def _read_text(path: Path) -> str:
    """The text of a file.

    Raises:
        OSError: it can't be read.
        _RefusedError: it is no regular file, too large, or no text of YAML.
    """
    # A pipe that nobody writes to would be waited for.
    with open(path, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            msg = f"{path}: this is no regular file. Check the path."
            raise _RefusedError(msg)
        raw = file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        msg = f"{path}: it is larger than {MOST_BYTES >> 20} MiB. Make it smaller."
        raise _RefusedError(msg)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        msg = f"{path}, line {line}: this is no YAML: it is not UTF-8. Save it as such."
        raise _RefusedError(msg) from error
    if bad := Reader.NON_PRINTABLE.search(text):
        line, code = text.count("\n", 0, bad.start()) + 1, ord(bad.group())
        msg = (
            f"{path}, line {line}: this is no YAML: character U+{code:04X} can't stand "
            "in it. Remove it."
        )
        raise _RefusedError(msg)
    if len(re.findall("^%", text, re.MULTILINE)) > MOST_DIRECTIVES:
        msg = f"{path}: more than {MOST_DIRECTIVES} lines begin with %. Remove them."
        raise _RefusedError(msg)
    return text


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _compose(path: Path, text: str) -> tuple[Any, list[str]]:
    """What a text says, and defects in it.

    Raises:
        YAMLError: it is no YAML.
        _RefusedError: it is beyond a bound.
    """
    # libyaml passes over a byte order mark in the middle.
    parsers = PARSERS[-1:] if "\ufeff" in text else PARSERS
    for parser in parsers:
        composer = _Composer(path, yaml.parse(text, Loader=parser))
        try:
            return composer.content(), composer.defects
        except yaml.YAMLError:
            if parser is parsers[-1] or len(text) > LONGEST_REPARSED:
                raise
    raise AssertionError


@dataclass
class _Anchor:
    """A value that has a name, and its size; None until it is whole."""

    value: Any = None
    size: int | None = None


class _Composer:
    """Makes values of the events of a document, and counts them."""

    def __init__(self, path: Path, events: Iterator[yaml.Event]) -> None:
        self.defects: list[str] = []
        self._path, self._events = path, events
        self._constructor = SafeConstructor()
        self._anchors: dict[str, _Anchor] = {}
        self._values = self._size = self._aliased = 0

    def content(self) -> Any:
        """The value of the only document; None where there is none."""
        next(self._events)
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        content = self._value(next(self._events), 1)
        next(self._events)
        event = next(self._events)
        if not isinstance(event, yaml.StreamEndEvent):
            self._refuse(event, "a second document begins; keep one in a file")
        return content

    def _refuse(self, event: yaml.Event, words: str) -> NoReturn:
        msg = f"{self._path}, line {_line(event)}: {words}."
        raise _RefusedError(msg)

    def _value(self, event: Any, depth: int) -> Any:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        self._values += 1
        if self._values > MOST_VALUES:
            self._refuse(event, f"there are more than {MOST_VALUES:,} values")
        if depth > DEEPEST:
            self._refuse(event, f"it is nested more than {DEEPEST} levels deep")
        anchor, before = _Anchor(), self._size
        if event.anchor is not None:
            self._anchors[event.anchor] = anchor
        self._size += VALUE_SIZE
        anchor.value = self._made(event, depth)
        anchor.size = self._size - before
        return anchor.value

    def _made(self, event: Any, depth: int) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", f"{_TAG}{'map' if is_mapping else 'seq'}"):
            self._refuse_tag(event)
        if is_mapping:
            return self._mapping(event, depth)
        items = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, depth + 1))
        return items

    def _alias(self, event: Any) -> Any:
        anchor = self._anchors.get(event.anchor)
        if anchor is None:
            self._refuse(event, f"alias {shown(event.anchor)} names nothing before it")
        if anchor.size is None:
            self._refuse(
                event, f"alias {shown(event.anchor)} stands within what it names"
            )
        self._size += anchor.size
        self._aliased += anchor.size
        if self._aliased > MOST_ALIASED:
            self._refuse(event, "aliases multiply it too much; write out what they say")
        return anchor.value

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        text = event.value
        self._size += len(text)
        if _SURROGATE.search(text) or "\0" in text:
            self._note(event, text)
        tag = event.tag
        if tag is None or tag == "!":
            tag = _tag_of(text) if event.implicit[0] else f"{_TAG}str"
        if tag in _TEXTS:
            return text
        if tag not in _CONSTRUCT:
            self._refuse_tag(event)
        if tag in _NUMBERS and len(text) > LONGEST_NUMBER:
            self._refuse(event, f"a number has more than {LONGEST_NUMBER:,} digits")
        try:
            value = _CONSTRUCT[tag](self._constructor, yaml.ScalarNode(tag, text))
            # A number may be read in base 16, and be too long for base 10.
            str(value)
        except _MISFITS:
            kind = tag.removeprefix(_TAG)
            self._refuse(event, f"{shown(text)} can't be read as {kind}; quote a text")
        if isinstance(value, float) and not isfinite(value):
            self._note(event, value)
        return value

    def _refuse_tag(self, event: Any) -> NoReturn:
        tag = event.tag.replace(_TAG, "!!")
        self._refuse(event, f"tag {shown(tag)} is not known here; leave it out")

    def _note(self, event: yaml.Event, value: object) -> None:
        self.defects.append(
            f"{self._path}, line {_line(event)}: {shown(value)} can't be stored as "
            "JSON; write a text or a number."
        )

    def _mapping(self, start: yaml.Event, depth: int) -> Located:
        """A mapping; what it merges comes first, and its own keys hold before it."""
        own: dict[Any, Any] = {}
        lines: dict[str, int] = {}
        merged: list[Located] = []
        has_merged = False
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            is_merge = _is_merge(event)
            key = "<<" if is_merge else self._key(event, depth + 1)
            line = _line(event)
            if has_merged if is_merge else key in own:
                name = getattr(event, "value", key)
                self.defects.append(
                    f"{self._path}, line {line}: key {shown(name)} stands there twice."
                )
            value = self._value(next(self._events), depth + 1)
            if is_merge:
                has_merged = True
                merged = self._merged(event, value)
            else:
                own[key] = value
                lines[key] = line
        located = Located()
        located.lines = {}
        for part in merged:
            located.update(part)
            located.lines |= part.lines
        located.update(own)
        located.lines |= lines
        located.path, located.line = self._path, _line(start)
        return located

    def _key(self, event: yaml.Event, depth: int) -> Any:
        if isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
            self._refuse(event, "a key is a list or a mapping; write a text")
        key = self._value(event, depth)
        if isinstance(key, list | dict):
            self._refuse(event, "a key is a list or a mapping; write a text")
        return str(key)

    def _merged(self, event: yaml.Event, value: Any) -> list[Located]:
        """The mappings that `<<` names, those that hold before others last."""
        parts = value[::-1] if isinstance(value, list) else [value]
        if not all(isinstance(part, Located) for part in parts):
            self._refuse(event, "key '<<' takes a mapping or a list of mappings")
        return parts


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _is_merge(event: yaml.Event) -> bool:
    if not isinstance(event, yaml.ScalarEvent):
        return False
    is_plain = event.tag in (None, "!") and event.implicit[0] and event.value == "<<"
    return is_plain or event.tag == f"{_TAG}merge"


def _tag_of(text: str) -> str:
    """What a plain text is, as YAML 1.1 has it."""
    for tag, pattern in _PLAIN.get(text[:1], ()):
        if pattern.match(text):
            return tag
    return f"{_TAG}str"
