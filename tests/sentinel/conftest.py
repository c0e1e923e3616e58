"""A data directory for the commands under test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import databases, processes


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Of this test's own, below a folder that the stores' account may enter."""
    with databases.open_folder() as folder:
        yield folder / "data"
        processes.kill_all(folder)
