"""Networks that join their channels late: which parts are doubled, and what a missing channel changes: nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from napari_medseg import registry
from napari_medseg.architectures.blocks.outputs import Outputs, logits_of
from napari_medseg.architectures.fused import LayerFusion, joined, mean_decision, shares_of
from napari_medseg.errors import InputError

SMALL: dict[str, Any] = {"channels": (4, 8, 8)}


def test_channels_that_are_there_share_the_weight() -> None:
    x = torch.ones(3, 2, 1, 1, 2)
    x[0, 1], x[2] = 0, 0
    assert shares_of(x).tolist() == [[1.0, 0.5, 0.5], [0.0, 0.5, 0.5]]


def test_features_and_decisions_are_averaged_by_shares() -> None:
    shares = torch.tensor([[1.0, 0.5], [0.0, 0.5]])
    apart = torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(4, 1, 1, 1)  # two modalities of two patches
    assert joined(apart, shares).flatten().tolist() == [1.0, 3.0]
    even, odd = torch.zeros(2, 2, 1, 1), torch.tensor([[0.0, 3.0]] * 2).log_softmax(1).reshape(2, 2, 1, 1)
    probabilities = mean_decision([even, odd], shares).exp()
    three = float(odd.exp()[0, 1])
    assert probabilities[0].flatten().tolist() == pytest.approx([0.5, 0.5])
    assert probabilities[1, 1].item() == pytest.approx((0.5 + three) / 2)


@pytest.mark.parametrize("name", ["unet3d", "vnet", "unetr"])
def test_encoders_are_apart_and_decoders_are_not(name: str) -> None:
    spec = registry.network(name)
    with torch.device("meta"):
        alone = spec.build(in_channels=1)
        layers, decisions = (spec.build(in_channels=3, fusion=fusion) for fusion in ("layer", "decision"))
        outputs = logits_of(layers.train()(torch.zeros(2, 3, 64, 64, 64)))
    counts = [sum(p.numel() for p in network.parameters()) for network in (alone, layers, decisions)]
    assert counts[2] == 3 * counts[0]
    assert counts[0] < counts[1] < counts[2]
    assert outputs.shape == (2, 2, 64, 64, 64)


@pytest.mark.parametrize("fusion", ["layer", "decision"])
def test_a_missing_channel_changes_nothing_and_one_alone_is_the_network_itself(fusion: str) -> None:
    torch.manual_seed(0)
    spec = registry.network("unet")
    network = spec.build(in_channels=2, fusion=fusion, **SMALL).eval()
    x = torch.randn(1, 2, 8, 8, 8)
    x[:, 1] = 0
    alone = spec.build(in_channels=1, **SMALL).eval()
    if isinstance(network, LayerFusion):
        state = {k.replace(".members.0", "").replace(".module", ""): v for k, v in network.net.state_dict().items()}
        alone.load_state_dict({k: v for k, v in state.items() if ".members." not in k})
        wanted = alone(x[:, :1])
    else:
        alone.load_state_dict(network.get_submodule("members.0").state_dict())
        wanted = alone(x[:, :1]).log_softmax(1)
    torch.testing.assert_close(network(x), wanted)
    both = network(torch.randn(1, 2, 8, 8, 8))
    assert not torch.allclose(both, wanted, atol=1e-3)


def test_all_scales_are_joined_in_training_and_all_weights_learn() -> None:
    for fusion in ("layer", "decision"):
        network = registry.network("unet3d").build(in_channels=2, fusion=fusion, **SMALL).train()
        outputs = network(torch.randn(2, 2, 8, 8, 8))
        assert isinstance(outputs, Outputs)
        assert [len(scale) for scale in outputs.supervised] == [2, 2]
        torch.stack([scale.square().sum() for scale in outputs.supervised]).sum().backward()  # type: ignore[no-untyped-call]
        assert all(p.grad is not None for p in network.parameters())


def test_what_cannot_be_fused_is_refused() -> None:
    unet, flat = registry.network("unet"), registry.network("highresnet")
    with pytest.raises(InputError, match="fusion layer needs two channels or more; got 1"):
        unet.build(fusion="layer")
    with pytest.raises(InputError, match="no encoder apart from the rest: fuse its input, or decisions"):
        flat.build(in_channels=2, fusion="layer")
    with pytest.raises(InputError, match="fusion is one of input, layer, decision"):
        unet.arguments(fusion="late")
    assert "fusion" not in unet.arguments(fusion="input")


NONE_APART = {"highresnet", "lednet", "edanet", "dabnet", "deepigeos_pnet", "hdenseunet", "ccnet", "danet", "setr"}
"""Networks without an encoder apart from the rest."""


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, spec in registry.networks().items() if spec.takes == "image"])
def test_networks_are_fused_by_layers_or_say_that_they_have_no_encoder_apart(name: str) -> None:
    spec = registry.network(name)
    x = torch.zeros(2, 2, *[64] * spec.dims[-1], device="meta")
    with torch.device("meta"):
        if name in NONE_APART:
            with pytest.raises(InputError, match="fuse its input, or decisions"):
                spec.build(in_channels=2, fusion="layer")
            return
        network = spec.build(in_channels=2, fusion="layer")
        assert all(logits_of(network.train(mode)(x)).shape == x.shape for mode in (False, True))
