"""The inbox: a folder whose files are delivered, then filed away.

Files in the inbox itself have the columns of raw.status_transitions; those in a folder
of it are read with the mapping.yml beside them. How files are moved belongs in
shelves.py.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl
import psycopg

from ingest.delivery import DeliveryResult, Settings, deliver
from ingest.errors import DatabaseError, SourceError
from ingest.files.mapping import Mapping, load_mapping
from ingest.files.sources import FORMATS, suffix
from ingest.names import readable, readable_path
from ingest.shelves import TAKEN, file_away, take
from ingest.store.database import Connection
from ingest.store.locks import Lock, holding

MAPPING_NAME = "mapping.yml"
MAPPING_NAMES = (MAPPING_NAME, "mapping.yaml")
HELD = "the mapping beside it can't be read. Mend that first."


class Taken(NamedTuple):
    """What became of a file: its delivery, or why it was refused.

    path: its name in the inbox, as a person can read it. left: why it was not moved to
    `archive` or `refused`, and where it lies; the next run tries again.
    """

    path: Path
    delivery: DeliveryResult | None
    refusal: str | None
    left: str | None = None


class Passed(NamedTuple):
    """What stays in the inbox unread, and why: the first of its folder, and others."""

    path: Path
    reason: str
    others: int = 0

    def __str__(self) -> str:
        more = f" and {self.others:,} more" if self.others else ""
        return f"{self.path}{more}: passed over, {self.reason}"


class Waiting(NamedTuple):
    """A file to deliver: where it lies, and its name within the inbox.

    is_taken: whether a run took it out of the inbox already, and could not end.
    """

    path: Path
    name: Path
    size: int
    changed_ns: int
    is_taken: bool = False


class Survey(NamedTuple):
    """All that lies in an inbox, but for the mappings.

    waiting: in the order of delivery, what earlier runs left before what is new.
    """

    waiting: list[Waiting]
    passed: list[Passed]


def take_in(
    connection: Connection,
    inbox: Path,
) -> Iterator[Taken | Passed]:
    """Deliver every file that waits, moving each to `archive` or `refused` beside it.

    A file is taken out of the inbox before it is read: another one that gets its name
    meanwhile is delivered by the next run, and so is what a killed run had taken. A
    refused file gets a .txt with the reason next to it; the others go on. One at a
    time: another process waits, and finds what this one left. Write a file elsewhere
    and rename it into the inbox, so that it is never taken while it grows.

    Raises:
        psycopg.Error: the database stopped answering, or misses a right or a table; the
            file at hand is delivered first by the next run.
    """
    with holding(connection, Lock.INBOX):
        found = survey(inbox)
        for file in found.waiting:
            yield _take_one(connection, inbox, file)
        yield from found.passed


def survey(inbox: Path) -> Survey:
    """What lies in the inbox; nothing is moved, and links are not followed."""
    top = _look(inbox, Path())
    parts = [top, *(_look(inbox / name, name) for name in top.folders)]
    left = [file for part in parts for file in part.left]
    new = sorted((file for part in parts for file in part.new), key=lambda f: f.name)
    return Survey([*left, *new], [passed for part in parts for passed in part.passed])


class _Folder(NamedTuple):
    """What lies in the inbox, or in a folder of it; names are within the inbox."""

    left: list[Waiting]
    new: list[Waiting]
    folders: list[Path]
    passed: list[Passed]


def _look(folder: Path, name: Path) -> _Folder:
    found = _Folder([], [], [], [])
    is_top = name == Path()
    try:
        entries = _listed(folder)
    except FileNotFoundError:
        return found
    except OSError as error:
        found.passed.append(_unlisted(folder, error))
        return found
    is_held = not is_top and _is_held(entries)
    objections: dict[str, list[Path]] = {}
    for entry, status in entries.items():
        path, is_folder = folder / entry, stat.S_ISDIR(status.st_mode)
        reason = _objection(path, status, is_top=is_top)
        if entry == TAKEN and is_folder:
            found.left.extend(_left(path, name, found.passed))
        elif reason is not None:
            objections.setdefault(reason, []).append(path)
        elif is_folder:
            found.folders.append(name / entry)
        elif is_top or entry != MAPPING_NAME:
            found.new.append(_waiting(path, name / entry, status))
    if is_held and (held := [file.path for file in (*found.left, *found.new)]):
        objections[HELD] = held
        found = found._replace(left=[], new=[])
    for reason, paths in objections.items():
        first = readable_path(paths[0])
        found.passed.append(Passed(first, reason, len(paths) - 1))
    return found


def _unlisted(folder: Path, error: OSError) -> Passed:
    reason = f"it can't be listed: {error.strerror or error}. Allow that."
    return Passed(readable_path(folder), reason)


def _objection(path: Path, status: os.stat_result, *, is_top: bool) -> str | None:
    """Why an entry of a folder is not for us; None where it is, or is a folder."""
    name, mode = path.name, status.st_mode
    is_folder = stat.S_ISDIR(mode)
    if stat.S_ISLNK(mode):
        return "it is a link, and links are not followed. Put the file itself there."
    if name.startswith("."):
        return "its name begins with a dot. Rename it."
    if is_folder:
        return None if is_top else "it lies in a folder already. Move it up by one."
    if is_top and name in MAPPING_NAMES:
        return "a mapping belongs in a folder, beside its files. Move it there."
    if name == MAPPING_NAME:
        return None if stat.S_ISREG(mode) else "it is no file. Put a file there."
    if name.lower() in MAPPING_NAMES:
        return f"a mapping is named {MAPPING_NAME}. Rename it."
    if suffix(path) not in FORMATS:
        known = ", ".join(FORMATS)
        return f"its name ends in none of {known} (.gz may follow). Rename it."
    return None


def _is_held(entries: dict[str, os.stat_result]) -> bool:
    """Whether a folder has something that is meant as its mapping, and none that is."""
    mapping = entries.get(MAPPING_NAME)
    if mapping is not None:
        return not stat.S_ISREG(mapping.st_mode)
    return any(name.lower() in MAPPING_NAMES for name in entries)


def _listed(folder: Path) -> dict[str, os.stat_result]:
    """The entries of a folder by name, without those that vanish meanwhile."""
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                found[entry.name] = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
    return dict(sorted(found.items()))


def _left(folder: Path, name: Path, passed: list[Passed]) -> list[Waiting]:
    """What lies in a folder of taken files, at any depth, in the order of taking.

    What can't be listed goes into `passed`.
    """
    found: list[Waiting] = []
    ahead = [folder]
    while ahead:
        place = ahead.pop()
        try:
            entries = _listed(place)
        except OSError as error:
            passed.append(_unlisted(place, error))
            continue
        inner = [e for e, status in entries.items() if stat.S_ISDIR(status.st_mode)]
        found += [
            _waiting(place / entry, name / entry, status)._replace(is_taken=True)
            for entry, status in entries.items()
            if entry not in inner
        ]
        # The tenth taken follows the ninth.
        inner.sort(key=lambda entry: (len(entry), entry), reverse=True)
        ahead += [place / entry for entry in inner]
    return found


def _waiting(path: Path, name: Path, status: os.stat_result) -> Waiting:
    return Waiting(path, name, status.st_size, status.st_mtime_ns)


def _take_one(connection: Connection, inbox: Path, file: Waiting) -> Taken | Passed:
    known_as = readable_path(inbox / file.name)
    try:
        place = file.path if file.is_taken else take(file.path)
    except FileNotFoundError:
        return Passed(known_as, "it was gone before it could be read.")
    except OSError as error:
        reason = f"{known_as}: it can't be taken out of the inbox"
        reason = f"{reason}: {error.strerror or error}. It stays there, unread."
        return Taken(known_as, None, reason, reason)
    taken = _delivered(connection, inbox, file, place)
    if taken.left is None:
        left = file_away(place, inbox.parent, file.name, taken.refusal)
        taken = taken._replace(left=left)
    return taken


def _delivered(
    connection: Connection, inbox: Path, file: Waiting, place: Path
) -> Taken:
    """The file delivered from where it was taken to, or why it is refused."""
    known_as = readable_path(inbox / file.name)
    try:
        before = place.lstat()
        if not stat.S_ISREG(before.st_mode):
            msg = f"{known_as}: it is no file, but a link, a folder, a pipe or so."
            raise SourceError(msg)
        settings = Settings(_mapping(inbox, file.name))
        delivery = deliver(connection, place, settings, known_as=known_as)
        after = place.lstat()
    except (Exception, pl.exceptions.PanicException) as error:
        if connection.closed or not is_of_the_file(error):
            raise
        return Taken(known_as, None, readable(_sentence(known_as, error)))
    if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
        return Taken(known_as, delivery, None)
    left = (
        f"{readable_path(place)}: it was written to while it was delivered; "
        "the next run delivers it again, for what was added."
    )
    return Taken(known_as, delivery, None, left)


def _mapping(inbox: Path, name: Path) -> Mapping | None:
    """The mapping for a file of the inbox, if there is one.

    Raises:
        SourceError: it is no mapping.
    """
    path = inbox / name.parent / MAPPING_NAME
    if name.parent == Path() or not os.path.lexists(path):
        return None
    if not stat.S_ISREG(path.lstat().st_mode):
        msg = f"{path}: it is no file. Put a file there, and deliver {name.name} again."
        raise SourceError(msg)
    return load_mapping(path)


def is_of_the_file(error: BaseException) -> bool:
    """Whether another file may fare better: not where the database is what failed."""
    if isinstance(error, psycopg.Error):
        # Values, keys, limits of a value's size, memory for one value.
        kind = error.sqlstate or ""
        is_of_values = kind[:2] in ("22", "23", "54") or kind == "XX000"
        return is_of_values or isinstance(error, psycopg.DataError)
    return not isinstance(error, DatabaseError)


def _sentence(known_as: Path, error: BaseException) -> str:
    if isinstance(error, SourceError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"{known_as}: it takes more memory than there is. Deliver it in parts."
    if isinstance(error, RecursionError):
        return f"{known_as}: it, or its mapping, is nested too deeply. Flatten it."
    reason = (str(error).strip().splitlines() or ["no reason given"])[0].rstrip(".")
    kind = type(error).__name__
    return f"{known_as}: it can't be delivered: {reason} ({kind}). Mend it."
