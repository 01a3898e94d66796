"""DiNTS: what a search found, as MONAI runs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from monai.networks import nets

from napari_medseg.errors import InputError
from napari_medseg.registry import network
from network_suite import NetworkSuite, noise
from zoo import codes


class TestDiNTS(NetworkSuite):
    network = "dints"
    overfit_size = (32, 32)
    small: ClassVar[Mapping[str, object]] = {"channel_mul": 0.125}


def test_it_equals_monai_for_a_searched_network() -> None:
    torch.manual_seed(0)
    found: dict[str, Any] = codes(blocks=3, depths=3)
    space = nets.TopologyInstance(
        [found["arch_code_a"], found["arch_code_c"]], channel_mul=0.125, num_blocks=3, num_depths=3
    )
    peer = nets.DiNTS(space, 1, 3, node_a=torch.from_numpy(found["node_a"])).eval()
    flat: dict[str, Any] = {
        ours: tuple(int(n) for n in np.asarray(found[theirs]).ravel())
        for ours, theirs in (("paths", "arch_code_a"), ("operations", "arch_code_c"), ("nodes", "node_a"))
    }
    net = network("dints").build(out_channels=3, blocks=3, depths=3, channel_mul=0.125, **flat).eval()
    net.load_state_dict({f"net.{name}": tensor for name, tensor in peer.state_dict().items()})
    x = noise(1, 1, (32, 32, 32))
    with torch.inference_mode():
        assert torch.equal(net(x), peer(x))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"paths": (1,) * 13}, "paths needs 14 numbers"),
        ({"nodes": (0,) * 9}, "nodes leave nothing of the last block"),
        ({"spatial_dims": 2, "operations": (4,) * 14}, "operations go from 0 to 1"),
    ],
)
def test_codes_that_do_not_go_together(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        network("dints").build(**changed)
