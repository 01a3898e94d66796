from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from napari_medseg import registry
from napari_medseg.architectures.blocks.dense import DenseLayer, dense_block, transition
from napari_medseg.architectures.residual.hdenseunet import DenseUNet, HDenseUNet
from network_suite import NetworkSuite, noise

SMALL: dict[str, Any] = {
    "features": 8,
    "width": 8,
    "planar_growth": 4,
    "planar_blocks": (1, 1, 1, 1),
    "growth": 4,
    "blocks": (1, 1, 1, 1),
}


def build(**overrides: object) -> HDenseUNet:
    torch.manual_seed(0)
    spec = registry.network("hdenseunet")
    network = spec.build_from(spec.arguments("default", **{**SMALL, **overrides}))
    assert isinstance(network, HDenseUNet)
    return network


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


class TestHDenseUNet(NetworkSuite):
    network = "hdenseunet"
    small: ClassVar = SMALL
    learning_rate = 1e-2


def test_every_part_has_its_published_number_of_parameters() -> None:
    with torch.device("meta"):
        paper = registry.network("hdenseunet").build("paper")
        with_skips = registry.network("hdenseunet").build("paper", skips=True)
    assert isinstance(paper, HDenseUNet)
    assert isinstance(with_skips, HDenseUNet)
    assert [count(p) for p in (paper.planar, paper.volumetric, paper.fusion)] == [44_862_339, 15_977_467, 110_979]
    # The authors' 2D part alone has skips, of which one needs a convolution: 2112 channels to 2208.
    assert count(with_skips.planar) == 44_862_339 + 2112 * 2208 + 2208


def test_training_gives_the_logits_of_each_part_at_full_size() -> None:
    outputs = build(out_channels=3).train()(noise(1, 1, (3, 20, 34)))
    assert [tuple(o.shape) for o in outputs.supervised] == [(1, 3, 3, 20, 34)] * 3


def test_the_planar_part_is_a_network_of_volumes_that_can_be_trained_first() -> None:
    network = build()
    stages = network.training_phases()
    assert list(stages) == ["planar", "joint"]
    assert stages["planar"] is network.planar
    assert stages["joint"] is network
    names = {name for name, _ in network.named_parameters() if name.startswith("planar.")}
    assert {f"planar.{name}" for name, _ in network.planar.named_parameters()} == names
    x = noise(2, 1, (3, 33, 20))
    loss = network.planar(x).square().mean()
    loss.backward()
    assert all((p.grad is not None) == (name in names) for name, p in network.named_parameters())
    # Volumes whose depth needs no padding: the slices are those that the whole network gives to its 2D part.
    x = noise(1, 1, (4, 32, 64))
    torch.testing.assert_close(network.train()(x).auxiliary[0], network.planar(x))


def test_a_slice_sees_its_neighbours_and_no_others() -> None:
    planar = build().planar.eval()
    x = noise(1, 1, (7, 32, 64))
    changed = x.clone()
    changed[:, :, 3] += 1
    with torch.inference_mode():
        difference = (planar(changed) - planar(x)).abs().amax((0, 1, 3, 4))
    assert (difference > 0).tolist() == [False, False, True, True, True, False, False]


def test_edge_slices_are_repeated() -> None:
    planar = build().planar.eval()
    x = noise(1, 1, (2, 32, 64))
    net = planar.slices.net
    with torch.inference_mode():
        first, last = (net(x[:, 0, [0, 0, 1]]).logits, net(x[:, 0, [0, 1, 1]]).logits)
        torch.testing.assert_close(planar(x), torch.stack([first, last], dim=2))


def test_the_scores_guide_the_3d_part() -> None:
    network = build().eval()
    x = noise(1, 1, (4, 32, 64))
    seen: list[torch.Tensor] = []
    network.volumetric.stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.inference_mode():
        network(x)
        network.score_scale = 250.0
        network(x)
        scores = network.planar(x)
    torch.testing.assert_close(seen[0], torch.cat([x, scores], 1))
    torch.testing.assert_close(seen[1], torch.cat([x, 250 * scores], 1))


def test_without_supervision_the_3d_part_has_no_head() -> None:
    assert "volumetric.scores.weight" in dict(build().named_parameters())
    assert "volumetric.scores.weight" not in dict(build(deep_supervision=False).named_parameters())


@pytest.mark.parametrize(("dims", "size", "deepest"), [(2, (64, 96), (2, 3)), (3, (8, 64, 96), (2, 2, 3))])
def test_thick_slices_are_halved_twice_along_z(dims: int, size: tuple[int, ...], deepest: tuple[int, ...]) -> None:
    net = DenseUNet(
        dims, 1, out_channels=2, features=4, width=4, growth=2, blocks=(1, 1, 1, 1), norm="batch", skips=True
    )
    seen: list[torch.Size] = []
    net.last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[2:]))
    net.eval()(noise(1, 1, size))
    assert seen == [torch.Size(deepest)]


def test_dense_layers_keep_what_they_were_given() -> None:
    x = noise(2, 6, (5, 7))
    block = dense_block(2, "batch", 6, 3, 4).eval()
    y = block(x)
    assert y.shape == (2, 6 + 4 * 3, 5, 7)
    assert torch.equal(y[:, :6], x)
    layer = block[0]
    assert isinstance(layer, DenseLayer)
    assert torch.equal(y[:, 6:9], layer.body(x))


def test_a_transition_averages() -> None:
    unit = transition(3, "batch", 4, 2, (1, 2, 2)).eval()
    x = noise(1, 4, (3, 4, 6))
    assert unit(x).shape == (1, 2, 3, 2, 3)
    torch.testing.assert_close(unit(x), unit[:2](x).unflatten(4, (3, 2)).unflatten(3, (2, 2)).mean((4, 6)))


def test_the_whole_starts_from_what_the_2d_part_says() -> None:
    x = noise(1, 1, (4, 32, 32))
    whole, alone = build().eval(), build(residual=False).eval()
    with torch.inference_mode():
        scores = whole.planar(x)
        assert (whole(x) - scores).std() < 0.5 * scores.std()
        assert (alone(x) - alone.planar(x)).std() > 0.5 * scores.std()
