"""Fixtures that more than one folder of tests needs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def medseg_data() -> Path:
    """The folder of real volumes; the test is skipped where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MEDSEG_DATA", beside))
    if not folder.is_dir():
        pytest.skip("real volumes are absent: set MEDSEG_DATA to their folder")
    return folder
