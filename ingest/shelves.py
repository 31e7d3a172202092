"""Moving a file out of the inbox, and to where it is kept; never over another one.

What is delivered and what refused belongs in inbox.py.
"""

import errno
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

from ingest.names import readable

# Beside the files, so that a rename gets them there.
TAKEN = ".taken"
SCRATCH = ".part"
REASON = ".txt"
REFUSED = "refused"


def take(path: Path) -> Path:
    """Rename a file into a folder of its own in TAKEN beside it; returns its place.

    Raises:
        OSError: it is gone, or can't be renamed; it is where it was.
    """
    folder = path.parent / TAKEN
    with suppress(FileExistsError):
        folder.mkdir()
    if not stat.S_ISDIR(folder.lstat().st_mode):
        raise NotADirectoryError(errno.ENOTDIR, f"{TAKEN} is no folder", str(folder))
    place = _own_folder(folder) / path.name
    try:
        path.rename(place)
    except OSError:
        _remove_empty(place.parent)
        raise
    return place


def refusals(home: Path) -> list[Path]:
    """The reasons of the files that lie in `refused`, by their place."""
    found = (home / REFUSED).rglob(f"*{REASON}")
    return sorted(path for path in found if path.is_file())


def file_away(place: Path, home: Path, name: Path, refusal: str | None) -> str | None:
    """Move a taken file to `archive`, or to `refused` with the reason beside it.

    Returns:
        None; or in a sentence why it lies where it did.
    """
    shelf = home / ("archive" if refusal is None else REFUSED)
    try:
        kept = _free_place(shelf, name, "" if refusal is None else REASON)
        if refusal is not None:
            # First, so that no refused file is without its reason.
            _write(_reason(kept), f"{refusal}\n")
        try:
            _move(place, kept)
        except OSError:
            if refusal is not None:
                _reason(kept).unlink()
            raise
    except OSError as error:
        return readable(
            f"{place}: it can't be moved to {shelf}: {error.strerror or error}. "
            "It stays, and the next run takes it again."
        )
    _remove_empty(place.parent)
    return None


def _own_folder(folder: Path) -> Path:
    """A new folder in a folder, numbered after those that are there."""
    names = [path.name for path in folder.iterdir()]
    numbers = [int(name) for name in names if name.isascii() and name.isdecimal()]
    place = folder / str(max(numbers, default=0) + 1)
    place.mkdir()
    return place


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
        folder.parent.rmdir()


def _free_place(shelf: Path, name: Path, extra: str) -> Path:
    """A path of the name within the shelf where nothing is; its folder is made.

    extra: what is put behind the name for a second file, which must not be there.
    """
    folder = shelf
    folder.mkdir(parents=True, exist_ok=True)
    for part in name.parts[:-1]:
        folder = _first(folder, part, "", lambda p: p.is_dir() or _is_free(p))
        folder.mkdir(exist_ok=True)
    return _first(
        folder,
        name.name,
        extra,
        lambda p: _is_free(p) and _is_free(p.with_name(f"{p.name}{extra}")),
    )


def _is_free(path: Path) -> bool:
    return not os.path.lexists(path)


def _first(folder: Path, name: str, extra: str, is_fit: Callable[[Path], bool]) -> Path:
    """The first that fits of `name`, `1-name`, `2-name` …, cut to what a name holds."""
    longest = os.pathconf(folder, "PC_NAME_MAX") - len(extra)
    for number in count():
        path = folder / _cut(f"{number}-" if number else "", name, longest)
        if is_fit(path):
            return path
    raise AssertionError


def _cut(prefix: str, name: str, longest: int) -> str:
    """Both, without so much of the name's beginning as is too long, in bytes."""
    end = os.fsencode(name)[-(longest - len(prefix)) :]
    # Not from the middle of a character.
    while end != os.fsencode(name) and end[0] & 0xC0 == 0x80:
        end = end[1:]
    return prefix + os.fsdecode(end)


def _reason(kept: Path) -> Path:
    return kept.with_name(f"{kept.name}{REASON}")


def _move(source: Path, place: Path) -> None:
    try:
        source.rename(place)
    except OSError as error:
        is_elsewhere = error.errno == errno.EXDEV
        if not is_elsewhere or not stat.S_ISREG(source.lstat().st_mode):
            raise
        _copy(source, place)
        source.unlink()


def _copy(source: Path, place: Path) -> None:
    """Copy to another filesystem: whole and on its disk, or not there."""
    scratch = _first(place.parent, SCRATCH, "", _is_free)
    try:
        with source.open("rb") as old, scratch.open("xb") as new:
            shutil.copyfileobj(old, new)
            new.flush()
            os.fsync(new.fileno())
        shutil.copystat(source, scratch)
        scratch.rename(place)
    except OSError:
        scratch.unlink(missing_ok=True)
        raise


def _write(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
