from __future__ import annotations

import pytest
import torch

from napari_medseg.foreign.torch_parser import NumpyType, number, state_of


@pytest.mark.parametrize(
    ("code", "raw", "value"), [("f8", b"\0\0\0\0\0\0\xe0?", 0.5), ("i8", b"\7" + bytes(7), 7)], ids=["f8", "i8"]
)
def test_numbers_of_numpy(code: str, raw: bytes, value: float) -> None:
    assert number(NumpyType(code), raw) == value


def test_objects_of_numpy_are_refused() -> None:
    with pytest.raises(ValueError, match="numpy scalar of type 'O8' is unsupported"):
        number(NumpyType("O8"), b"")


def test_the_state_dict_is_found_in_a_checkpoint() -> None:
    weights = {"a": torch.zeros(1)}
    assert state_of(weights) == weights
    assert state_of({"epoch": 1, "model": weights}) == weights
    with pytest.raises(ValueError, match="no weights found"):
        state_of({"epoch": 1})
