"""Folders and files that this project keeps: private, and never half written.

What is in them is decided elsewhere.
"""

import os
import tempfile
from pathlib import Path

# What other accounts of the machine may do with them: nothing.
PRIVATE_FOLDER = 0o700
# They may pass through, to what they know by name and have a right on.
PASSABLE_FOLDER = 0o711


def make_folder(folder: Path, mode: int = PRIVATE_FOLDER) -> Path:
    """Make a folder where there is none, whatever the umask; one that is there stays.

    Raises:
        OSError: it can't be made, or something else has its name.
    """
    if folder.is_dir():
        return folder
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        # Another process may have made it in between.
        if not folder.is_dir():
            raise
    else:
        folder.chmod(mode)
    return folder


def write_whole(path: Path, content: str) -> None:
    """Write a private file beside its name, then rename it: all of it, or as it was.

    Raises:
        OSError: it can't be written; nothing is left.
    """
    # A name of its own: two processes may write the same file.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
