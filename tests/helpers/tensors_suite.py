"""What a network must do that takes more than an image: a test class inherits it, names its network and its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from napari_medseg import registry
from napari_medseg.architectures.blocks.outputs import Outputs
from napari_medseg.registry import NetworkSpec


def tensors(outputs: Tensor | Outputs) -> list[Tensor]:
    """All tensors that a network gives, the logits first."""
    return [outputs] if isinstance(outputs, Tensor) else [*outputs.supervised, *outputs.heads.values()]


class TensorsSuite:
    """Inherit, set `network`, `small` to arguments that keep the tests fast, and say what goes in."""

    network: ClassVar[str]
    small: ClassVar[Mapping[str, object]] = {}

    def inputs(self, in_channels: int, dims: int, seed: int) -> tuple[Tensor, ...]:
        """What `forward` takes: two images of `in_channels` in `dims` dimensions, or one graph."""
        raise NotImplementedError

    @property
    def spec(self) -> NetworkSpec:
        return registry.network(self.network)

    def build(self, seed: int = 0, **overrides: object) -> nn.Module:
        torch.manual_seed(seed)
        chosen: dict[str, Any] = {**self.small, **overrides}
        return self.spec.build(**chosen)

    def test_it_says_that_it_takes_more_than_an_image(self) -> None:
        assert self.spec.takes != "image"

    def test_forward_is_finite_and_deterministic_for_any_number_of_channels(self) -> None:
        for dims in self.spec.dims:
            for in_channels in (1, 3):
                network = self.build(in_channels=in_channels, spatial_dims=dims).eval()
                with torch.inference_mode():
                    found = tensors(network(*self.inputs(in_channels, dims, 1)))
                    again = tensors(network(*self.inputs(in_channels, dims, 1)))
                assert found
                assert all(output.isfinite().all() for output in found)
                assert all(torch.equal(a, b) for a, b in zip(found, again, strict=True))

    def test_every_input_counts(self) -> None:
        dims = self.spec.dims[-1]
        network = self.build().eval()
        inputs = self.inputs(1, dims, 1)
        for k, changed in enumerate(self.inputs(1, dims, 2)):
            with torch.inference_mode():
                before, after = (tensors(network(*x))[0] for x in (inputs, (*inputs[:k], changed, *inputs[k + 1 :])))
            assert not torch.equal(before, after), k

    def test_every_parameter_has_a_gradient(self) -> None:
        network = self.build().train()
        found = tensors(network(*self.inputs(1, self.spec.dims[-1], 1)))
        loss = torch.stack([(output - 0.5).square().mean() for output in found]).sum()
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.ndim <= 1 or parameter.grad.abs().max() > 0, name

    def test_bf16_is_finite_and_near(self) -> None:
        network = self.build().eval()
        inputs = self.inputs(1, self.spec.dims[-1], 1)
        with torch.inference_mode():
            exact = tensors(network(*inputs))[0]
            with torch.autocast("cpu", torch.bfloat16):
                rough = tensors(network(*inputs))[0].float()
        assert rough.isfinite().all()
        assert (rough - exact).abs().mean() < 0.1 * exact.std()

    def test_a_state_dict_brings_back_the_same_network(self) -> None:
        network, again = self.build(0), self.build(1)
        inputs = self.inputs(1, self.spec.dims[-1], 1)
        network.train()(*inputs)  # moves running statistics away from their start
        with torch.inference_mode():
            expected = tensors(network.eval()(*inputs))
            assert not torch.equal(tensors(again.eval()(*inputs))[0], expected[0])
            again.load_state_dict(network.state_dict())
            found = tensors(again(*inputs))
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))

    def test_building_is_silent(self, capfd: pytest.CaptureFixture[str]) -> None:
        self.build()
        assert capfd.readouterr() == ("", "")

    def test_parameters_of_the_paper(self) -> None:
        if self.spec.paper is None:
            pytest.skip("no configuration is published")
        with torch.device("meta"):
            network = self.spec.build("paper")
        assert sum(p.numel() for p in network.parameters()) == self.spec.parameters_paper
