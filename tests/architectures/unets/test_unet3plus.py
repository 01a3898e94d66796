from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch.nn.functional import cross_entropy

from napari_medseg import registry
from napari_medseg.architectures.unets.unet3plus import UNet3Plus
from network_suite import NetworkSuite, noise

SMALL: dict[str, Any] = {"channels": (4, 8, 8), "branch_channels": 4}


def build(**overrides: object) -> UNet3Plus:
    torch.manual_seed(0)
    spec = registry.network("unet3plus")
    network = spec.build_from(spec.arguments("default", **{**SMALL, **overrides}))
    assert isinstance(network, UNet3Plus)
    return network


def without_dropout(network: UNet3Plus) -> UNet3Plus:
    """In training, but for the module of presence, which drops features."""
    network.train()
    assert network.presence is not None
    network.presence.eval()
    return network


class TestUNet3Plus(NetworkSuite):
    network = "unet3plus"
    small: ClassVar = SMALL


class TestGuidedUNet3Plus(NetworkSuite):
    network = "unet3plus"
    small: ClassVar = {**SMALL, "guided": True}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param({"deep_supervision": True}, 26_989_637, id="supervised"),
        pytest.param({"deep_supervision": True, "guided": True}, 26_991_687, id="guided"),
    ],
)
def test_parameters_of_the_variants(change: dict[str, Any], expected: int) -> None:
    with torch.device("meta"):
        network = registry.network("unet3plus").build("paper", **change)
    assert sum(p.numel() for p in network.parameters()) == expected


def test_every_level_is_supervised_at_its_own_size() -> None:
    shapes = [tuple(o.shape) for o in build(out_channels=3).train()(noise(1, 1, (9, 17, 2))).supervised]
    assert shapes == [(1, 3, 9, 17, 2), (1, 3, 5, 9, 1), (1, 3, 3, 5, 1)]


def test_a_node_sees_every_scale_at_its_own_size() -> None:
    network = build(spatial_dims=2).eval()
    seen: list[list[torch.Size]] = []
    for node in network.decoder:
        node.register_forward_pre_hook(lambda _, inputs: seen.append([s.shape[1:] for s in inputs[0]]))
    network(noise(1, 1, (8, 16)))
    middle, finest = seen
    assert middle == [(4, 8, 16), (8, 4, 8), (8, 2, 4)]
    assert finest == [(4, 8, 16), (12, 4, 8), (8, 2, 4)]


@pytest.mark.parametrize("classes", [1, 3])
def test_absence_lowers_the_foreground_and_nothing_else(classes: int) -> None:
    network = without_dropout(build(guided=True, out_channels=classes, deep_supervision=False))
    x = noise(2, 1, (8, 8, 8))
    with torch.inference_mode():
        outputs = network(x)
        assert torch.equal(network.eval()(x), outputs.logits), "instance norm knows no modes"
        network.presence = None
        plain = network(x)
    presence = outputs.heads["presence"]
    # Softmax of the two scores, by hand.
    something = presence.exp()[:, 1] / presence.exp().sum(1)
    foreground = slice(0 if classes == 1 else 1, None)
    expected = plain.clone()
    expected[:, foreground] += something.log()[:, None, None, None, None]
    torch.testing.assert_close(outputs.logits, expected)


def test_the_loss_of_the_logits_alone_teaches_the_presence() -> None:
    # The paper's argmax passes no gradient; without a loss of its own the module would stay as it was drawn.
    torch.manual_seed(0)
    network = build(guided=True, deep_supervision=False, spatial_dims=2).train()
    x = noise(8, 1, (16, 16))
    full = torch.arange(8) % 2 == 0
    x[full] += 3
    target = full.long()[:, None, None].expand(8, 16, 16)
    optimiser = torch.optim.Adam([p for n, p in network.named_parameters() if n.startswith("presence")], 0.03)
    for _ in range(60):
        loss = cross_entropy(network(x).logits, target)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        optimiser.step()
    certainty = without_dropout(network)(x).heads["presence"].softmax(1)[:, 1]
    assert certainty[full].min() > certainty[~full].max()


def test_without_the_module_there_is_no_presence() -> None:
    assert not build().train()(noise(1, 1, (8, 8, 8))).heads
