"""What an earlier training left steps aside, and comes back where the work fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_medseg.io.disk.keeping import name_to_keep, step_aside, stepping_aside
from napari_medseg.training.saving.checkpoint import require_writable


def test_the_first_free_name_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.b.safetensors"
    names = []
    for _ in range(3):
        names.append(name_to_keep(path).name)
        name_to_keep(path).touch()
    assert names == ["a.b.previous.safetensors", "a.b.previous-2.safetensors", "a.b.previous-3.safetensors"]


def test_a_model_may_have_its_suffix_in_capitals(tmp_path: Path) -> None:
    assert require_writable(tmp_path / "A.SAFETENSORS") == tmp_path / "A.SAFETENSORS"


def test_nothing_has_no_place_to_go(tmp_path: Path) -> None:
    assert step_aside(tmp_path / "a.training") is None
    assert list(tmp_path.iterdir()) == []


def test_after_a_fault_it_is_back(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_text("a night")
    with pytest.raises(FileNotFoundError, match=r"a\.safetensors"), stepping_aside(path):
        path.read_text()
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a.safetensors": "a night"}
