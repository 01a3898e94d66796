from __future__ import annotations

from pathlib import Path

import pytest

from napari_medseg.errors import InputError
from napari_medseg.models.naming import first_free, is_model_path, require_model_path


@pytest.mark.parametrize(
    ("name", "is_model"),
    [("m.safetensors", True), ("M.SAFETENSORS", True), ("a.v2.Safetensors", True), ("m.pt", False), ("m", False)],
)
def test_a_model_is_known_by_its_suffix(name: str, is_model: bool) -> None:
    assert is_model_path(name) is is_model


def test_another_suffix_is_refused_by_name() -> None:
    require_model_path(Path("M.SAFETENSORS"))
    with pytest.raises(InputError, match=r"m\.pt: a model is written as \*\.safetensors; got suffix '\.pt'"):
        require_model_path(Path("m.pt"))


def test_the_first_path_with_nothing_at_it(tmp_path: Path) -> None:
    names = [tmp_path / name for name in "abc"]
    names[0].touch()
    assert first_free(names) == names[1]
