"""What every network must do: a test class inherits it and names its network.

Networks of one kind train, segment and export through the same code. The first network of each kind in the table does
so in every run; for the others these tests are slow. Facts about the network itself are tested for each, in its lowest
dimension where the dimension does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import balls
from napari_medseg import read, registry, segment, train, write
from napari_medseg.architectures import costs_of
from napari_medseg.architectures.blocks.outputs import Outputs, logits_of, supervised_logits
from napari_medseg.architectures.onnx_graph import onnx_graph
from napari_medseg.explanation.watching import Guided
from napari_medseg.inference.graphs.network import OpenVinoNetwork
from napari_medseg.models.file import Channel, ModelSpec, Normalisation, load_model, write_model
from napari_medseg.registry import NetworkSpec

SIZES: dict[int, list[tuple[int, ...]]] = {
    3: [(16, 16, 16), (5, 18, 11), (1, 20, 9), (1, 1, 1)],
    2: [(32, 32), (33, 7), (1, 1)],
}
GIB = 2**30
Test = TypeVar("Test", bound=Callable[..., object])
TRAINING_PATCH: dict[int, tuple[int, ...]] = {3: (96, 96, 96), 2: (512, 512)}


def noise(batch: int, channels: int, size: tuple[int, ...], seed: int = 0) -> Tensor:
    """Standard normal (batch, channels, *size), the same for the same seed."""
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(seed))


def ball(size: tuple[int, ...], radius: float) -> Tensor:
    """Class indices (1, *size): 1 inside a ball (a disc in 2D) in the middle."""
    axes = torch.meshgrid(*(torch.arange(n) - (n - 1) / 2 for n in size), indexing="ij")
    inside = torch.stack(axes).square().sum(0) <= radius**2
    return inside.long()[None]


def once_per_kind(test: Test) -> Test:
    """Mark a test of the suite as one that only the first network of each kind runs every time."""
    test.once_per_kind = True  # type: ignore[attr-defined]
    return test


def kind(spec: NetworkSpec) -> tuple[object, ...]:
    """What training and segmenting see of a network: those of one kind go through the same code."""
    return spec.dims, spec.deep_supervision, spec.supervision


def is_first_of_its_kind(spec: NetworkSpec) -> bool:
    return spec is next(other for other in registry.networks().values() if kind(other) == kind(spec))


class NetworkSuite:
    """Inherit, set `network`, and `small` to arguments that keep the tests fast.

    Presets are tested with `small` over them; the paper's own size is counted on the meta device.
    """

    network: ClassVar[str]
    small: ClassVar[Mapping[str, object]] = {}
    learning_rate: ClassVar[float] = 3e-3
    """With which Adam overfits one small image."""
    seed: ClassVar[int] = 0
    """Of the weights: some seeds draw units of a small network that its ReLU keeps at 0 for every input."""
    overfit_size: ClassVar[tuple[int, ...]] = ()
    """Of that image, where 16^3 voxels take minutes or are but a few at the bottom."""

    @property
    def spec(self) -> NetworkSpec:
        return registry.network(self.network)

    @classmethod
    def presets(cls) -> list[registry.PresetName]:
        """Those that differ although `small` overrides both; what `preset` is parametrised by."""
        own = set(registry.network(cls.network).paper or ()) - set(cls.small) - set(registry.COMMON)
        return ["default", "paper"] if own else ["default"]

    def build(self, preset: registry.PresetName, **overrides: object) -> nn.Module:
        """The same weights each time."""
        torch.manual_seed(self.seed)
        return self.spec.build_from(self.arguments(preset, **overrides))

    def arguments(self, preset: registry.PresetName, **overrides: object) -> dict[str, registry.Argument]:
        common = {"in_channels": 1, "out_channels": 2, "spatial_dims": self.spec.dims[0]}
        return self.spec.arguments(preset, **{**common, **self.small, **overrides})

    @property
    def size(self) -> tuple[int, ...]:
        """A size that suits the network's lowest dimension."""
        return SIZES[self.spec.dims[0]][0]

    def test_logits_have_the_size_of_any_input(self, preset: registry.PresetName) -> None:
        for dims in self.spec.dims:
            network = self.build(preset, in_channels=2, out_channels=5, spatial_dims=dims)
            for size in SIZES[dims][1:]:
                x = noise(2, 2, size)
                with torch.no_grad():
                    assert logits_of(network.train()(x)).shape == (2, 5, *size)
                    logits = network.eval()(x[:1])
                assert logits.shape == (1, 5, *size)
                assert logits.isfinite().all()

    @pytest.mark.parametrize("in_channels", [1, 4])
    def test_takes_any_number_of_channels(self, in_channels: int) -> None:
        network = self.build("default", in_channels=in_channels).eval()
        x = noise(1, in_channels, self.size)
        changed = x.clone()
        changed[:, -1] += 1
        with torch.inference_mode():
            assert not torch.equal(network(x), network(changed)), "the last channel counts"

    def test_every_parameter_has_a_gradient(self, preset: registry.PresetName) -> None:
        network = self.build(preset).train()
        outputs = network(noise(2, 1, tuple(2 * n for n in self.size)))
        target = torch.zeros(2, dtype=torch.long)
        losses = [cross_entropy(logits.flatten(2)[..., 0], target) for logits in supervised_logits(outputs)]
        losses += [head.square().mean() for head in (outputs.heads.values() if isinstance(outputs, Outputs) else ())]
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]  # torch
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.ndim <= 1 or parameter.grad.abs().max() > 0, name

    def test_supervised_logits_come_in_training_only(self) -> None:
        network = self.build("default")
        x = noise(2, 1, self.size)
        supervised = supervised_logits(network.train()(x))
        assert (len(supervised) > 1) == bool(self.arguments("default").get("deep_supervision", False))
        assert all(logits.shape[:2] == (2, 2) for logits in supervised)
        with torch.inference_mode():
            assert isinstance(network.eval()(x), Tensor)

    def test_eval_is_deterministic_and_sees_each_image_alone(self, preset: registry.PresetName) -> None:
        network = self.build(preset).eval()
        x = noise(2, 1, self.size)
        with torch.inference_mode():
            both = network(x)
            assert torch.equal(both, network(x))
            alone = torch.cat([network(x[:1]), network(x[1:])])
        # Batch norms that have seen nothing let some networks grow to 1e14: a logit is as exact as its like.
        torch.testing.assert_close(alone, both, rtol=1e-3, atol=max(1e-3, 1e-5 * both.std().item()))

    def test_untrained_logits_neither_vanish_nor_explode(self, preset: registry.PresetName) -> None:
        network = self.build(preset).train()
        spread = logits_of(network(noise(2, 1, tuple(2 * n for n in self.size)))).std().item()
        assert 0.02 < spread < 30

    def test_bf16_is_finite_and_near(self, preset: registry.PresetName) -> None:
        network = self.build(preset).eval()
        x = noise(1, 1, self.size)
        with torch.inference_mode():
            exact = network(x)
            with torch.autocast("cpu", torch.bfloat16):
                rough = network(x).float()
        assert rough.isfinite().all()
        assert (rough - exact).abs().mean() < 0.1 * exact.std()

    @once_per_kind
    def test_guided_backprop_is_not_the_plain_gradient(self) -> None:
        network = self.build("default").eval()
        x = noise(1, 1, self.size)

        def derivative() -> Tensor:
            leaf = x.clone().requires_grad_(True)
            return torch.autograd.grad(network(leaf.clone())[:, 1].sum(), leaf)[0]

        plain = derivative()
        with Guided() as guided:
            other = derivative()
        assert guided.count > 0
        assert other.isfinite().all()
        assert not torch.allclose(other, plain, atol=1e-3 * float(plain.abs().max()))

    @once_per_kind
    def test_overfits_one_small_image(self) -> None:
        size = self.overfit_size or SIZES[self.spec.dims[-1]][0]
        network = self.build("default", spatial_dims=len(size)).train()
        target = ball(size, 0.3 * size[0])
        x = target[:, None].float() + 0.5 * noise(1, 1, size)
        assert any(_dice(network, x, target) > 0.95 for _ in _steps(network, x, target, self.learning_rate))

    def test_model_file_brings_back_the_same_network(self, tmp_path: Path) -> None:
        network = self.build("default")
        network.train()(noise(2, 1, self.size))  # moves running statistics away from their start
        spec = self.model_spec(self.arguments("default"))
        write_model(tmp_path / "m.safetensors", spec, network.state_dict())
        again = load_model(tmp_path / "m.safetensors").load_network()
        assert not again.training
        expected, found = network.state_dict(), again.state_dict()
        assert list(found) == list(expected)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        with torch.inference_mode():
            x = noise(1, 1, self.size, seed=1)
            assert torch.equal(again(x), network.eval()(x))

    @once_per_kind
    def test_trains_as_the_panel_does_and_segments_a_zarr_volume(self, tmp_path: Path) -> None:
        volumes = [(balls.volume(seed=seed), balls.segmentation()) for seed in range(2)]
        model = train(
            volumes,
            network=self.network,
            out=tmp_path / "m.safetensors",
            epochs=1,
            device="cpu",
            arguments=self.small,
            val=0,
            patch_zyx=self.training_patch,
        )
        write(tmp_path / "image.zarr", volumes[0][0])
        labels = segment(read(tmp_path / "image.zarr"), model, out=tmp_path / "labels.zarr")
        assert labels.data.shape == balls.SHAPE
        assert set(np.unique(np.asarray(labels.data[...]))) <= {0, 1, 2}

    @property
    def training_patch(self) -> tuple[int, int, int]:
        return (1, 16, 16) if self.spec.dims[-1] == 2 else (8, 16, 16)

    def model_spec(self, arguments: Mapping[str, registry.Argument]) -> ModelSpec:
        flat = arguments["spatial_dims"] == 2
        return ModelSpec(
            network=self.network,
            arguments=arguments,
            channels=(Channel(name="T1", modality="MR"),),
            labels={7: "lesion"},
            patch_zyx=(1, 32, 32) if flat else (16, 16, 16),
            mode="2d" if flat else "3d",
            normalisation=(Normalisation(kind="zscore"),),
            deep_supervision=bool(arguments.get("deep_supervision", False)),
        )

    def test_parameters_of_the_paper(self) -> None:
        if self.spec.paper is None:
            pytest.skip("no configuration is published")
        with torch.device("meta"):
            network = self.spec.build("paper")
        assert sum(p.numel() for p in network.parameters()) == self.spec.parameters_paper

    def test_building_is_silent(self, capfd: pytest.CaptureFixture[str]) -> None:
        self.build("default")
        assert capfd.readouterr() == ("", "")

    @once_per_kind
    def test_default_trains_within_8_gib(self, record_property: Callable[[str, object], None]) -> None:
        found = costs_of(self.spec, TRAINING_PATCH[self.spec.dims[-1]])
        record_property("training_memory_bytes", found.training_bytes)
        assert found.parameters * 16 < found.training_bytes < 8 * GIB

    @pytest.fixture(scope="class")
    @classmethod
    def exported(cls) -> tuple[Tensor, Tensor, Any]:
        """An image of the highest dimension, its logits, and the program that torch exports."""
        suite = cls()
        dims = suite.spec.dims[-1]
        network = suite.build("default", spatial_dims=dims).eval()
        x = noise(1, 1, SIZES[dims][0])
        with torch.inference_mode():
            expected = network(x)
        return x, expected, torch.export.export(network, (x,), strict=False)

    @once_per_kind
    def test_torch_export(self, exported: tuple[Tensor, Tensor, Any]) -> None:
        x, expected, program = exported
        with torch.inference_mode():
            torch.testing.assert_close(program.module()(x), expected, rtol=1e-4, atol=1e-4)

    @pytest.mark.slow
    def test_other_programs_compute_the_same(self) -> None:
        """onnxruntime and OpenVINO, from the ONNX graph."""
        dims = self.spec.dims[-1]
        network = self.build("default", spatial_dims=dims).eval()
        x = noise(1, 1, SIZES[dims][0])
        with torch.inference_mode():
            expected = logits_of(network(x))
        graph = onnx_graph(network, tuple(x.shape), careful_sums=True)
        session = onnxruntime.InferenceSession(graph)
        (by_onnxruntime,) = session.run(None, {"image": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(by_onnxruntime), expected, rtol=1e-3, atol=1e-3)
        by_openvino = OpenVinoNetwork(graph, "fp32")(x)
        torch.testing.assert_close(by_openvino, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def _steps(network: nn.Module, x: Tensor, target: Tensor, learning_rate: float) -> Iterator[int]:
    """150 steps of Adam; every tenth is yielded."""
    optimiser = torch.optim.Adam(network.parameters(), learning_rate)
    for step in range(1, 151):
        loss = cross_entropy(logits_of(network.train()(x)), target)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        optimiser.step()
        if step % 10 == 0:
            yield step


def _dice(network: nn.Module, x: Tensor, target: Tensor) -> float:
    with torch.no_grad():
        found = network.eval()(x).argmax(1)
    both = (found * target).sum()
    return float(2 * both / (found.sum() + target.sum()))
