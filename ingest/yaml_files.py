"""YAML files as mappings that know their lines; what they mean belongs elsewhere."""

from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from ingest.errors import WorkflowError


class Located(dict[str, Any]):
    """A YAML mapping that knows its file and the line of each of its keys."""

    path: Path
    line: int
    lines: dict[str, int]

    def at(self, key: str | None = None) -> str:
        """Where it, or one of its keys, stands."""
        return f"{self.path}, line {self.lines.get(key or '', self.line)}"

    def over(self, defaults: dict[str, Any]) -> "Located":
        """It, and what it leaves out."""
        whole = Located({**defaults, **self})
        whole.path, whole.line, whole.lines = self.path, self.line, self.lines
        return whole


def yaml_paths(path: Path) -> list[Path]:
    """A file, or every .yml and .yaml file of a folder, by name.

    Raises:
        WorkflowError: there is none.
    """
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in (".yml", ".yaml"))
        if not files:
            msg = f"{path}: the folder holds no .yml file. Check the path."
            raise WorkflowError(msg)
        return files
    if not path.exists():
        msg = f"{path}: no such file or folder. Check the path."
        raise WorkflowError(msg)
    return [path]


def read_yaml(path: Path, defects: list[str]) -> Located | None:
    """The mapping that a file holds, or None; what is wrong goes into defects."""
    found: list[str] = []
    try:
        text = path.read_text(encoding="utf-8")
        # A safe loader: what it makes besides is texts and mappings.
        content = yaml.load(text, _loader(path, found))  # noqa: S506
    except OSError as error:
        defects.append(f"{path}: {error.strerror or error}. Check the path.")
        return None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or getattr(error, "reason", error)
        defects.append(f"{path}{line}: this is no YAML: {reason}.")
        return None
    if not isinstance(content, Located):
        defects.append(f"{path}, line 1: a workflow file is a mapping; this is none.")
        return None
    found += _unstorable(content)
    defects += found
    return None if found else content


def _loader(path: Path, defects: list[str]) -> type[yaml.SafeLoader]:
    """A loader of Located mappings; dates stay the texts that they are in JSON."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.yaml_implicit_resolvers = {
        first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct(loader: yaml.SafeLoader, node: yaml.MappingNode) -> Located:
        located = Located()
        located.path, located.line = path, node.start_mark.line + 1
        located.lines = {}
        own = [key_node for key_node, _ in node.value]
        for place, key_node in enumerate(own):
            if any(key_node.value == other.value for other in own[:place]):
                line = key_node.start_mark.line + 1
                name = key_node.value
                defects.append(f"{path}, line {line}: key {name!r} stands there twice.")
        loader.flatten_mapping(node)
        for key_node, value_node in node.value:
            key = str(loader.construct_object(key_node, deep=True))
            located[key] = loader.construct_object(value_node, deep=True)
            located.lines[key] = key_node.start_mark.line + 1
        return located

    Loader.add_constructor("tag:yaml.org,2002:map", construct)
    return Loader


def _unstorable(content: Located) -> Iterator[str]:
    """Values that YAML knows and JSON, or PostgreSQL, does not."""
    for key, value in content.items():
        for part in (key, *_parts(value)):
            if isinstance(part, Located):
                yield from _unstorable(part)
            elif not _is_storable(part):
                yield (
                    f"{content.at(key)}: {part!r} can't be stored as JSON; "
                    "write a text or a number."
                )


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _parts(item)
    else:
        yield value


def _is_storable(value: Any) -> bool:
    if isinstance(value, str):
        # Neither NUL nor half of a pair of UTF-16.
        return not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value)
    if isinstance(value, float):
        return isfinite(value)
    return value is None or isinstance(value, int)
