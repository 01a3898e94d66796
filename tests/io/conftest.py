from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="class")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all tests of a class, so that hypothesis may use it."""
    return tmp_path_factory.mktemp("files")
