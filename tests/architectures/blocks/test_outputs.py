"""What a network returns in training, beside its logits."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch

from napari_medseg.architectures.blocks.outputs import Outputs, logits_of, supervised_logits

FULL, HALF, EDGES = torch.zeros(1, 2, 4, 4), torch.ones(1, 2, 2, 2), torch.full((1, 1, 4, 4), 2.0)


def test_logits_with_nothing_beside_them_stay_a_tensor() -> None:
    assert Outputs.of([FULL]) is FULL
    assert logits_of(FULL) is FULL
    assert supervised_logits(FULL) == (FULL,)


@pytest.mark.parametrize(
    ("supervised", "heads"),
    [([FULL, HALF], {}), ([FULL], {"edges": EDGES}), ([FULL, HALF], {"edges": EDGES})],
    ids=["scales", "a head", "both"],
)
def test_the_logits_of_full_size_come_first(supervised: list[torch.Tensor], heads: dict[str, torch.Tensor]) -> None:
    outputs = Outputs.of(supervised, heads)
    assert isinstance(outputs, Outputs)
    assert logits_of(outputs) is FULL
    assert list(supervised_logits(outputs)) == supervised
    assert outputs.heads == heads


def test_a_change_reaches_every_tensor() -> None:
    changed = Outputs(FULL, (HALF,), {"edges": EDGES}).map(lambda tensor: tensor + 1)
    assert [float(t.mean()) for t in (*changed.supervised, changed.heads["edges"])] == [1, 2, 3]


def test_outputs_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Outputs(FULL).logits = HALF  # type: ignore[misc]
