"""YAML files of every kind: what is read of them, and what is refused in time."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ingest import SourceError, load_mapping
from ingest.configuration import workflows, yaml_files
from ingest.configuration.yaml_files import Located, read_yaml
from ingest.errors import WorkflowError

Write = Callable[[str, str | bytes], Path]


def _read(path: Path) -> Located:
    defects: list[str] = []
    content = read_yaml(path, defects)
    assert defects == []
    assert content is not None
    return content


def _refusal(path: Path) -> str:
    """The one sentence with which each reader of files refuses this one."""
    with pytest.raises(WorkflowError) as of_workflow:
        workflows.check(path)
    with pytest.raises(SourceError) as of_mapping:
        load_mapping(path)
    assert str(of_mapping.value) == str(of_workflow.value)
    assert "\n" not in str(of_mapping.value)
    return str(of_mapping.value)


def _bomb(levels: int, width: int, item: str = "*{}", form: str = "[{}]") -> str:
    """Lines that each name the one before them so many times."""
    lines = ["k0: &k0 {a: b}"]
    for level in range(1, levels + 1):
        items = [item.format(f"k{level - 1}")] * width
        lines.append(f"k{level}: &k{level} {form.format(', '.join(items))}")
    return "\n".join(lines)


MULTIPLY = "aliases multiply it too much; write out what they say."
WITHIN = "stands within what it names."


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        # Made all the same, it would be large and no more.
        pytest.param(_bomb(5, 12), 6, MULTIPLY, id="list"),
        pytest.param(_bomb(9, 9), 6, MULTIPLY, id="list of 9^9"),
        pytest.param(_bomb(9, 9, form="{{<<: [{}]}}"), 6, MULTIPLY, id="merge of 9^9"),
        pytest.param(
            _bomb(1, 1).replace("b}", "b" * 300_000 + "}") + "\nk2: [*k1, *k1, *k1]",
            3,
            MULTIPLY,
            id="text",
        ),
        pytest.param("a: &x [*x]", 1, f"alias 'x' {WITHIN}", id="itself"),
        pytest.param("a: &x {b: c,\n  <<: *x}", 2, f"alias 'x' {WITHIN}", id="merge"),
        pytest.param("a: *x", 1, "alias 'x' names nothing before it.", id="unknown"),
        pytest.param("<<: {a: b}\n<<: {c: d}", 2, "key '<<' stands", id="merges"),
        pytest.param("<<: a", 1, "key '<<' takes a mapping", id="merge of a text"),
    ],
)
def test_alias_that_multiplies_or_names_itself_is_refused_at_once(
    write: Write, text: str, line: int, words: str
) -> None:
    path = write("bomb.yml", text)
    started = time.process_time()
    assert _refusal(path).startswith(f"{path}, line {line}: {words}")
    assert time.process_time() - started < 2


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        pytest.param(
            "a:\n " + "[\n " * 3_000, 51, "it is nested more than 50 levels", id="lists"
        ),
        pytest.param(
            "{a: " * 3_000, 1, "it is nested more than 50 levels", id="mappings"
        ),
        pytest.param("a: " + "- " * 60, 1, "this is no YAML", id="no list there"),
        pytest.param("- " * 60, 1, "it is nested more than 50 levels", id="block"),
        pytest.param("a: [" + "1," * 500_000 + "]", 1, "there are more", id="values"),
        pytest.param("%TAG !a! x\n" * 101, None, "more than 100 lines", id="%"),
        pytest.param("#" * (4 << 20) + "\n", None, "it is larger than 4 MiB", id="big"),
        pytest.param("a: " + "1" * 5_000, 1, "a number has more than 4,300", id="int"),
        pytest.param("a: 0x" + "F" * 4_000, 1, "'0xFFFF", id="hexadecimal"),
        pytest.param("a: 1" + ":59" * 900 + ".5", 1, "'1:59:59", id="sexagesimal"),
        pytest.param("a: 0x_", 1, "'0x_' can't be read as int", id="no digits"),
        pytest.param("a: !!int x", 1, "'x' can't be read as int", id="no int"),
        pytest.param("a: !!bool x", 1, "'x' can't be read as bool", id="no bool"),
        pytest.param("a: !!python/none", 1, "tag '!!python/none' is", id="python"),
        pytest.param("a: !!binary YQ==", 1, "tag '!!binary' is not known", id="binary"),
        pytest.param("a: !!set {b}", 1, "tag '!!set' is not known here;", id="set"),
        pytest.param("a: !!omap []", 1, "tag '!!omap' is not known here;", id="omap"),
        pytest.param("a: !x b", 1, "tag '!x' is not known here; leave it", id="tag"),
        pytest.param("a: !!str [b]", 1, "tag '!!str' is not known here;", id="no text"),
        pytest.param("a: b\n[c]: d", 2, "a key is a list or a mapping;", id="key"),
        pytest.param("a: &x {}\n*x : d", 2, "a key is a list or a", id="alias as key"),
        pytest.param("a: b\n---\nc: d", 2, "a second document begins;", id="documents"),
        pytest.param("a: b\nc: d\x00", 2, "this is no YAML: character U+0000", id="0"),
        pytest.param("a: b\n\tc: d", 2, "this is no YAML: found character", id="tab"),
        pytest.param('a: "\\ud800"', 1, "'\\ud800' can't be stored", id="surrogate"),
        pytest.param("a: b\na: c", 2, "key 'a' stands there twice.", id="twice"),
        pytest.param("a: b\n'a': c", 2, "key 'a' stands there twice.", id="quoted"),
        pytest.param("1: b\n'1': c", 2, "key '1' stands there twice.", id="number"),
        pytest.param(b"a: b\nc: \xe9", 2, "this is no YAML: it is not UTF-8", id="é"),
        pytest.param("a: b".encode("utf-16"), 1, "this is no YAML: it is not", id="16"),
    ],
)
def test_file_beyond_a_bound_is_refused_with_its_line(
    write: Write, text: str | bytes, line: int | None, words: str
) -> None:
    path = write("file.yml", text)
    place = f", line {line}" if line else ""
    assert _refusal(path).startswith(f"{path}{place}: {words}")


@pytest.mark.parametrize("text", ["", "# only this\n", "- a", "a", "---\n"])
def test_file_that_holds_no_mapping_is_refused(write: Write, text: str) -> None:
    path = write("file.yml", text)
    with pytest.raises(WorkflowError, match="line 1: a workflow file is a mapping;"):
        workflows.check(path)
    with pytest.raises(SourceError, match="line 1: a mapping file is a mapping;"):
        load_mapping(path)


def test_pipe_in_place_of_a_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "file.yml"
    os.mkfifo(path)
    assert _refusal(path) == f"{path}: this is no regular file. Check the path."


def test_path_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 300 + ".yml")
    assert _refusal(path) == f"{path}: File name too long. Check the path."


def test_byte_order_mark_is_passed_over_at_the_beginning_only(write: Write) -> None:
    assert _read(write("file.yml", "\ufeffa: b\n")) == {"a": "b"}
    assert _read(write("file.yml", "a: b\n  \ufeffc\n")) == {"a": "b \ufeffc"}


def test_merged_keys_are_there_unless_a_mapping_has_them_itself(write: Write) -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {x: 3, z: 4}\nc:\n  z: 5\n  <<: [*a, *b]\n"
    merged = _read(write("file.yml", text))["c"]
    assert merged == {"x": 1, "y": 2, "z": 5}
    assert merged.lines == {"x": 1, "y": 1, "z": 4}


def test_name_that_is_given_again_is_of_the_value_that_began_last(write: Write) -> None:
    assert _read(write("file.yml", "a: &x [&x b, *x]\nc: *x\n")) == {
        "a": ["b", "b"],
        "c": "b",
    }


# One value of each kind that YAML 1.1 knows, in each way to write it.
VALUES = """
texts: [a, 'b', "c\\n\\u00e9\\/", ! d, !!str 1, "2", =, <<, 1e3, 0o7, 08, 1__, .]
whole: [0, -1, +2, 010, 0x1F, 0b1_0, 1_000, 190:20:30, !!int "7", ! 8]
floats: [1.5, -.5, 1., 1.5e+3, 190:20:30.5, !!float 1]
flags: [yes, No, on, OFF, true, False, !!bool "yes"]
nulls: [~, null, Null, , !!null x]
literal: |
  a
   b

folded: >-
  a
  b
"""


@pytest.mark.parametrize("parser", yaml_files.PARSERS)
def test_values_but_dates_are_those_of_a_safe_loader(
    write: Write, monkeypatch: pytest.MonkeyPatch, parser: type[yaml.SafeLoader]
) -> None:
    text = VALUES.replace("=, <<, ", "").replace("Null, ,", "Null,")
    path = write("file.yml", text)
    monkeypatch.setattr(yaml_files, "PARSERS", (parser,))
    assert repr(_read(path)) == repr(yaml.safe_load(text))


def test_values_are_equal_and_stand_in_their_lines_without_libyaml(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lines(value: Any) -> Any:
        if isinstance(value, Located):
            inner = {key: lines(item) for key, item in value.items()}
            return value.line, value.lines, inner
        return [lines(item) for item in value] if isinstance(value, list) else value

    for number, path in enumerate(Path("workflows").glob("*.yml")):
        copy = write(f"{number}.yml", path.read_text())
        by_libyaml = _read(copy)
        with monkeypatch.context() as patch:
            patch.setattr(yaml_files, "PARSERS", yaml_files.PARSERS[-1:])
            assert repr(lines(_read(copy))) == repr(lines(by_libyaml))


def test_dates_are_texts_and_keys_too_where_they_become_json(write: Write) -> None:
    path = write("file.yml", "a: 2026-01-01\n1: {yes: !!timestamp x}\n")
    assert _read(path) == {"a": "2026-01-01", "1": {"True": "x"}}


def test_keys_that_become_one_text_are_there_twice(write: Write) -> None:
    path = write("file.yml", "a: {yes: b, true: c}\n")
    assert "line 1: key 'true' stands there twice" in _refusal(path)
