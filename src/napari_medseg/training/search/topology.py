"""A network found by gradient descent: DiNTS (He et al., CVPR 2021), on MONAI's space of topologies.

Every path and operation of the space is there at first, weighed by numbers that are learned as the weights are: a step
of the weights on one batch, a step of these numbers on the next. What weighs most becomes the network.

N: batch. K: classes. *size: (Z, Y, X) or (Y, X).
    images  (N, C, *size)
    logits  (N, K, *size)
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from monai.networks import nets
from monai.networks.nets.dints import TopologySearch

from napari_medseg.architectures.modes import in_mode
from napari_medseg.architectures.monai.unets import Wrapped
from napari_medseg.events import Progress, Work
from napari_medseg.training.loop import ShouldStop
from napari_medseg.training.losses.context import Context
from napari_medseg.training.state import Setup

BLOCKS, DEPTHS, WIDTH = 4, 3, 0.25
"""Blocks of cells, resolutions, and features in multiples of 32: what a CPU searches in minutes."""
_FIRST_SHARE = 0.3
"""Share of the time in which the weights alone learn: at first, what is chosen would be chosen by chance."""
_WEIGHTS_RATE, _CHOICES_RATE = 1e-3, 0.05
_MATCHING = 0.01
"""Weight of the entropy that makes the paths out of a block go on in the next."""


def finding_topology(setup: Setup, should_stop: ShouldStop) -> Work[Mapping[str, Any]]:
    """The arguments of the network "dints" that the search finds within the budget of the setup.

    setup: with the patches and the loss to search by. Yields Progress per step. The network starts from new weights
    when it is trained.
    """
    spec, device = setup.spec, setup.device
    spatial_dims = 3 if spec.mode == "3d" else 2
    with torch.random.fork_rng(), contextlib.redirect_stdout(io.StringIO()):  # MONAI prints a hint on patches
        torch.manual_seed(setup.config.seed)
        space = TopologySearch(
            channel_mul=WIDTH, num_blocks=BLOCKS, num_depths=DEPTHS, spatial_dims=spatial_dims, device=str(device)
        ).to(device)
        net = nets.DiNTS(space, int(spec.arguments["in_channels"]), len(spec.labels) + 1, spatial_dims=spatial_dims)  # type: ignore[arg-type]  # checked by the registry
    network = in_mode(Wrapped(net.to(device), 2 ** (DEPTHS + 1)), spec.mode, spec.patch_zyx[0])
    choices = [space.log_alpha_a, space.log_alpha_c]
    weights = [p for p in net.parameters() if not any(p is choice for choice in choices)]
    optimisers = (torch.optim.AdamW(weights, lr=_WEIGHTS_RATE), torch.optim.Adam(choices, lr=_CHOICES_RATE))
    batches, step = setup.sampler.batches(), 0
    setup.budget.begin()
    while not step or (setup.budget.fraction(step) < 1 and not should_stop()):
        chooses = step % 2 == 1 and setup.budget.fraction(step) > _FIRST_SHARE
        batch = next(batches)
        network.train()
        loss = setup.loss(network(batch.images), batch.classes, Context(images=batch.images))
        if chooses:
            loss = loss + _MATCHING * space.get_topology_entropy(space.get_prob_a(child=True)[0])
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if torch.isfinite(loss):
            optimisers[chooses].step()
        step += 1
        yield Progress(int(1000 * setup.budget.fraction(step)), 1000, "search: topology")
    return arguments_of(space)


def arguments_of(space: TopologySearch) -> dict[str, Any]:
    """The arguments of the registered network "dints" of what weighs most in a space."""
    nodes, paths, operations, _ = space.decode()
    return {
        "blocks": space.num_blocks,
        "depths": space.num_depths,
        "channel_mul": space.filter_nums[0] / 32,
        "downsample": space.use_downsample,
        **{
            name: tuple(np.asarray(code).astype(int).ravel().tolist())
            for name, code in (("paths", paths), ("operations", operations), ("nodes", nodes))
        },
    }
