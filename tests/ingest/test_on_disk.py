"""Folders and files that several processes make at once."""

import threading
from pathlib import Path

from ingest.store.on_disk import make_folder


def test_folder_that_many_make_at_once_is_made_for_all(tmp_path: Path) -> None:
    failed: list[OSError] = []

    def make(barrier: threading.Barrier, folder: Path) -> None:
        barrier.wait()
        try:
            make_folder(folder)
        except OSError as error:
            failed.append(error)

    for number in range(100):
        barrier = threading.Barrier(8)
        folder = tmp_path / str(number) / "home"
        threads = [
            threading.Thread(target=make, args=(barrier, folder)) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert folder.is_dir()
    assert failed == []
