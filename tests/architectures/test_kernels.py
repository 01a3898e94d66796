from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from napari_medseg.architectures.blocks.outputs import logits_of
from napari_medseg.architectures.kernels import CpuKernels
from napari_medseg.registry import network

HAS_ONEDNN: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
ONEDNN = pytest.mark.skipif(not HAS_ONEDNN, reason="this torch is built without oneDNN")


def kernels_of(run: Callable[[], object]) -> set[str]:
    """The names of torch's kernels that a call uses."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile, torch.no_grad():
        run()
    return {event.key for event in profile.key_averages()}


def logits(net: nn.Module, x: Tensor, *, ours: bool) -> Tensor:
    with torch.no_grad():
        if not ours:
            return logits_of(net(x))
        with CpuKernels():
            return logits_of(net(x))


@ONEDNN
def test_a_small_window_runs_by_onednn_and_torch_alone_leaves_it_out() -> None:
    x, weight = torch.randn(1, 4, 8, 16, 16), torch.randn(4, 4, 3, 3, 3)

    def run() -> Tensor:
        return nn.functional.conv3d(x, weight, padding=1)

    def run_ours() -> None:
        with CpuKernels():
            torch.testing.assert_close(run(), expected, rtol=1e-4, atol=1e-4)

    expected = run()
    assert "aten::slow_conv3d_forward" in kernels_of(run), "torch takes oneDNN by itself now: this module can go"
    found = kernels_of(run_ours)
    assert "aten::mkldnn_convolution" in found
    assert "aten::slow_conv3d_forward" not in found


@pytest.mark.parametrize("name", ["unet3d", "vnet", "nnunet"])
def test_networks_give_the_same_logits(name: str) -> None:
    torch.manual_seed(0)
    net = network(name).build(in_channels=1, out_channels=3, spatial_dims=3).eval()
    x = torch.randn(1, 1, 16, 16, 16)
    torch.testing.assert_close(logits(net, x, ours=True), logits(net, x, ours=False), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"),
    [(1, 1, 1, 1), ((1, 2, 2), (0, 1, 1), 1, 2), (1, "same", 1, 1), (1, 2, 2, 1)],
)
def test_convolutions_of_every_kind(stride: object, padding: object, dilation: int, groups: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv3d(4, 4, (1, 3, 3) if stride != 1 else 3, stride, padding, dilation, groups)  # type: ignore[arg-type]
    x = torch.randn(2, 4, 6, 8, 10)
    torch.testing.assert_close(logits(conv, x, ours=True), logits(conv, x, ours=False), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("more", "replaced"), [({}, True), ({"bias": False}, True), ({"stride": 2}, False), ({"groups": 2}, False)]
)
def test_convolutions_of_one_voxel(more: dict[str, Any], replaced: bool) -> None:
    torch.manual_seed(0)
    conv, x = nn.Conv3d(4, 6, 1, **more), torch.randn(2, 4, 3, 4, 5)
    torch.testing.assert_close(logits(conv, x, ours=True), logits(conv, x, ours=False), rtol=1e-4, atol=1e-5)
    assert ("aten::_convolution" not in kernels_of(lambda: logits(conv, x, ours=True))) == replaced


@pytest.mark.parametrize(
    ("kernel", "more", "replaced"),
    [
        (2, {"stride": 2}, True),
        ((1, 2, 3), {"stride": (1, 2, 3), "bias": False}, True),
        (3, {"stride": 2, "padding": 1, "output_padding": 1}, False),
        (2, {"stride": 2, "groups": 2}, False),
    ],
)
def test_up_convolutions(kernel: Any, more: dict[str, Any], replaced: bool) -> None:
    torch.manual_seed(0)
    up, x = nn.ConvTranspose3d(4, 6, kernel, **more), torch.randn(2, 4, 3, 4, 5)
    torch.testing.assert_close(logits(up, x, ours=True), logits(up, x, ours=False), rtol=1e-4, atol=1e-5)
    assert ("aten::_convolution" not in kernels_of(lambda: logits(up, x, ours=True))) == replaced


@pytest.mark.parametrize("affine", [True, False])
def test_instance_norms(affine: bool) -> None:
    torch.manual_seed(0)
    norm, x = nn.InstanceNorm3d(5, affine=affine), 100 + torch.randn(2, 5, 6, 7, 8)
    torch.testing.assert_close(logits(norm, x, ours=True), logits(norm, x, ours=False), rtol=1e-4, atol=1e-4)
    assert "aten::native_group_norm" in kernels_of(lambda: logits(norm, x, ours=True))
    tracked = nn.InstanceNorm3d(5, track_running_stats=True).eval()
    assert torch.equal(logits(tracked, x, ours=True), logits(tracked, x, ours=False))


def test_training_and_what_is_outside_are_left_alone() -> None:
    conv, x = nn.Conv3d(1, 1, 3), torch.randn(1, 1, 6, 6, 6, requires_grad=True)
    with CpuKernels():
        conv(x).sum().backward()
    assert x.grad is not None
    assert "aten::mkldnn_convolution" not in kernels_of(lambda: conv(x.detach()))
