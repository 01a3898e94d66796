"""Arguments of MONAI's networks that do not go together."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from napari_medseg.errors import InputError
from napari_medseg.registry import network


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("monai_attention_unet", {"strides": (2,)}),
        ("monai_unet", {"strides": (2,)}),
        ("segresnet", {"blocks_up": (1,)}),
        ("mednext", {"blocks": (2, 2)}),
    ],
    ids=["monai_attention_unet", "monai_unet", "segresnet", "mednext"],
)
def test_arguments_that_do_not_go_together(name: str, change: dict[str, Any]) -> None:
    with torch.device("meta"), pytest.raises(InputError, match="do not go together"):
        network(name).build(**change)
