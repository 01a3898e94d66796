"""What every network must do: a test class inherits it and names its network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from napari_medseg import registry
from napari_medseg.modelfile import Channel, ModelSpec, Normalisation, load_model, write_model

SIZES = [
    pytest.param((16, 16, 16), id="aligned"),
    pytest.param((5, 18, 11), id="odd"),
    pytest.param((1, 20, 9), id="one slice"),
    pytest.param((1, 1, 1), id="one voxel"),
    pytest.param((33, 7), id="2D odd"),
    pytest.param((1, 1), id="2D one pixel"),
]


def noise(batch: int, channels: int, size: tuple[int, ...], seed: int = 0) -> Tensor:
    """Standard normal (batch, channels, *size), the same for the same seed."""
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(seed))


def full_size(output: Tensor | list[Tensor]) -> Tensor:
    """The logits at the size of the input, of a network with or without deep supervision."""
    return output[0] if isinstance(output, list) else output


class NetworkSuite:
    """Inherit, set `network`, and `small` to arguments that keep the tests fast."""

    network: ClassVar[str]
    small: ClassVar[Mapping[str, object]] = {}

    @pytest.fixture(params=["default", "paper"])
    def preset(self, request: pytest.FixtureRequest) -> registry.PresetName:
        preset: registry.PresetName = request.param
        return preset

    def build(self, preset: registry.PresetName, **overrides: object) -> nn.Module:
        """The same weights each time."""
        torch.manual_seed(0)
        return registry.network(self.network).build_from(self.arguments(preset, **overrides))

    def arguments(self, preset: registry.PresetName, **overrides: object) -> dict[str, registry.Argument]:
        return registry.network(self.network).arguments(preset, **{**self.small, **overrides})

    @pytest.mark.parametrize("size", SIZES)
    def test_logits_have_the_size_of_any_input(self, preset: registry.PresetName, size: tuple[int, ...]) -> None:
        network = self.build(preset, in_channels=2, out_channels=5, spatial_dims=len(size))
        x = noise(2, 2, size)
        trained = network.train()(x)
        assert full_size(trained).shape == (2, 5, *size)
        with torch.inference_mode():
            logits = network.eval()(x)
        assert logits.shape == (2, 5, *size)
        assert logits.isfinite().all()

    @pytest.mark.parametrize("in_channels", [1, 3, 4, 17])
    def test_takes_any_number_of_channels(self, preset: registry.PresetName, in_channels: int) -> None:
        network = self.build(preset, in_channels=in_channels, spatial_dims=2).eval()
        x = noise(1, in_channels, (16, 16))
        changed = x.clone()
        changed[:, -1] += 1
        with torch.inference_mode():
            assert not torch.equal(network(x), network(changed)), "the last channel counts"

    def test_every_parameter_has_a_gradient(self, preset: registry.PresetName) -> None:
        network = self.build(preset).train()
        outputs = network(noise(2, 1, (32, 32, 16)))
        outputs = outputs if isinstance(outputs, list) else [outputs]
        target = torch.zeros(2, dtype=torch.long)
        loss = sum(nn.functional.cross_entropy(o.flatten(2)[..., 0], target) for o in outputs)
        assert isinstance(loss, Tensor)
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.ndim == 1 or parameter.grad.abs().max() > 0, name

    def test_eval_is_deterministic_and_sees_each_image_alone(self, preset: registry.PresetName) -> None:
        network = self.build(preset).eval()
        x = noise(2, 1, (16, 16, 16))
        with torch.inference_mode():
            both = network(x)
            assert torch.equal(both, network(x))
            torch.testing.assert_close(torch.cat([network(x[:1]), network(x[1:])]), both, rtol=1e-4, atol=1e-4)

    def test_untrained_logits_neither_vanish_nor_explode(self, preset: registry.PresetName) -> None:
        network = self.build(preset).train()
        spread = full_size(network(noise(2, 1, (32, 32, 32)))).std().item()
        assert 0.05 < spread < 20

    def test_runs_in_bf16(self, preset: registry.PresetName) -> None:
        network = self.build(preset).eval()
        x = noise(1, 1, (16, 16, 16))
        with torch.inference_mode():
            exact = network(x)
            with torch.autocast("cpu", torch.bfloat16):
                rough = network(x)
        assert (rough.float() - exact).abs().mean() < 0.1 * exact.std()

    def test_model_file_brings_back_the_same_network(self, tmp_path: Path) -> None:
        network = self.build("default")
        network.train()(noise(2, 1, (16, 16, 16)))  # moves running statistics away from their start
        arguments = self.arguments("default")
        spec = ModelSpec(
            network=self.network,
            arguments=arguments,
            channels=(Channel(name="T1", modality="MR"),),
            labels={7: "lesion"},
            patch_zyx=(16, 16, 16),
            normalisation=(Normalisation(kind="zscore"),),
            deep_supervision=bool(arguments.get("deep_supervision", False)),
        )
        write_model(tmp_path / "m.safetensors", spec, network.state_dict())
        again = load_model(tmp_path / "m.safetensors").load_network()
        assert not again.training
        expected, found = network.state_dict(), again.state_dict()
        assert list(found) == list(expected)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        with torch.inference_mode():
            x = noise(1, 1, (16, 16, 16), seed=1)
            assert torch.equal(again(x), network.eval()(x))
