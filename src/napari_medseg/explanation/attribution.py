"""The methods themselves, on one window: a network and a score in, a map of the window out.

z, y, x: voxels of the window. h: its halo, slices that the network sees too. C: channels of the input, of which the
first `images` are those of the image. K: outputs of the network.
    window   (1, C, z + 2 h, y, x)
    logits   (1, K, z, y, x)
    map      (z + 2 h, y, x) of methods that look at the input, (z, y, x) of the others
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_medseg.architectures.averaged import Averaged
from napari_medseg.architectures.blocks.base import AttentionMap, ShapeMap
from napari_medseg.architectures.blocks.outputs import logits_of
from napari_medseg.errors import NotSupportedError
from napari_medseg.explanation.views import apart, as_volume, fitted, is_map, odds, padded_by, views_of
from napari_medseg.explanation.watching import Guided, Watch
from napari_medseg.geometry import Shape3, triple_of

if TYPE_CHECKING:
    from napari_medseg.config import ExplainConfig

_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class Question:
    """What a window is asked: a score, and how the answer is worked out."""

    index: int
    """The output of the network that is explained."""
    weights: Tensor
    """(z, y, x): how much each voxel counts in the score."""
    apart_each: bool
    """Whether outputs are regions that overlap, and not classes of which one is right."""
    images: int
    config: ExplainConfig

    def score(self, logits: Tensor) -> Tensor:
        """The log-odds of the label, summed over its voxels."""
        return (odds(logits, self.index, apart_each=self.apart_each)[0] * self.weights).sum()

    @property
    def size(self) -> Shape3:
        """The voxels (z, y, x) of the window, without halo."""
        return triple_of(self.weights.shape)


Attribution = Callable[[nn.Module, Tensor, Question], Tensor]


def gradient(network: nn.Module, window: Tensor, asked: Question) -> Tensor:
    """The size of the score's derivative by each voxel, summed over the channels."""
    return _derivative(network, window, asked).abs().sum(0)


def guided(network: nn.Module, window: Tensor, asked: Question) -> Tensor:
    """The positive part of the derivative, where rectifiers pass positive derivatives only."""
    with Guided():
        return _derivative(network, window, asked).clamp(min=0).sum(0)


def integrated(network: nn.Module, window: Tensor, asked: Question) -> Tensor:
    """The image minus grey, times the mean derivative on the way from grey to the image (midpoint rule)."""
    grey, total = _grey(window), torch.zeros_like(window[0, : asked.images])
    for step in range(asked.config.steps):
        at = grey + (window - grey) * ((step + 0.5) / asked.config.steps)
        total += _derivative(network, at, asked)
    return ((window - grey)[0, : asked.images] * total / asked.config.steps).sum(0)


def occlusion(network: nn.Module, window: Tensor, asked: Question) -> Tensor:
    """How much the score falls where a cube of the image is grey."""
    grey, heat = _grey(window), torch.zeros_like(window[0, 0])
    with torch.no_grad():
        whole = asked.score(logits_of(network(window)))
        starts = [range(0, n, asked.config.occluder) for n in heat.shape]
        for corner in itertools.product(*starts):
            cube = tuple(slice(s, s + asked.config.occluder) for s in corner)
            covered = window.clone()
            covered[0, : asked.images][(slice(None), *cube)] = grey[0, : asked.images]
            heat[cube] = whole - asked.score(logits_of(network(covered)))
    return heat


def grad_cam(network: nn.Module, window: Tensor, asked: Question) -> Tensor:
    """Features, weighted by the mean of the score's derivative by each, rectified (Selvaraju et al. 2017, eq. 1, 2)."""
    return _class_activation(network, window, asked, lambda features, g: g.mean((1, 2, 3), keepdim=True))


def grad_cam_plus_plus(network: nn.Module, window: Tensor, asked: Question) -> Tensor:
    """As `grad_cam`, with the weights of Chattopadhyay et al. 2018, eq. 18 and 19."""

    def weights(features: Tensor, g: Tensor) -> Tensor:
        summed = features.sum((1, 2, 3), keepdim=True)
        below = 2 * g**2 + summed * g**3
        shares = torch.where(below.abs() > _TINY, g**2 / torch.where(below.abs() > _TINY, below, 1.0), 0.0)
        return (shares * g.clamp(min=0)).sum((1, 2, 3), keepdim=True)

    return _class_activation(network, window, asked, weights)


def cam(network: nn.Module, window: Tensor, asked: Question) -> Tensor:
    """The last layer's evidence for the label against the mean of the others, without biases, rectified.

    Raises NotSupportedError where the logits do not come from one convolution of 1 voxel.
    """
    with torch.no_grad(), Watch() as watch:
        logits = logits_of(network(window))
    if isinstance(getattr(network, "net", network), Averaged):
        raise _no_last_layer("several models that are averaged have several last layers")
    total = torch.zeros(asked.size, device=window.device)
    for view, calls in enumerate(apart(watch.convolved, views_of(network))):
        features, weights, made = calls[-1]
        if len(weights) != logits.shape[1] or max(weights.shape[2:]) > 1 or weights.shape[1] != features.shape[1]:
            raise _no_last_layer("the last layer is no convolution of 1 voxel")
        if not torch.equal(as_volume(made, network, view)[(slice(None), *map(slice, asked.size))], logits[0]) and (
            views_of(network) == 1
        ):
            raise _no_last_layer("the logits are not what the last convolution gives")
        flat = weights.flatten(1)
        others = (flat.sum(0) - flat[asked.index]) / max(1, len(flat) - 1)
        evidence = flat[asked.index] if asked.apart_each else flat[asked.index] - others
        total += torch.einsum("c,czyx->zyx", evidence, as_volume(features, network, view))[
            tuple(map(slice, asked.size))
        ]
    return total.clamp(min=0)


def attention(network: nn.Module, window: Tensor, asked: Question) -> Tensor:
    """The maps of a network's attention, each times the score's derivative by it, rectified, and summed.

    Raises NotSupportedError for a network without attention over places.
    """
    return _marked(network, window, asked, AttentionMap, "has no attention over places")


def shape(network: nn.Module, window: Tensor, asked: Question) -> Tensor:
    """The borders that a shape stream sees, each times the size of the score's derivative by it."""
    return _marked(network, window, asked, ShapeMap, "has no shape stream: saunet has one")


ATTRIBUTIONS: Mapping[str, Attribution] = MappingProxyType(
    {
        "grad-cam": grad_cam,
        "grad-cam++": grad_cam_plus_plus,
        "cam": cam,
        "gradient": gradient,
        "guided-backprop": guided,
        "integrated-gradients": integrated,
        "occlusion": occlusion,
        "attention": attention,
        "shape": shape,
    }
)
"""{name of a method that explains networks of images: what it does with a window}."""


def _derivative(network: nn.Module, window: Tensor, asked: Question) -> Tensor:
    """(images, z + 2 h, y, x): the score's derivative by the channels of the image."""
    leaf = window.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        # A network may work on its input in place, which a leaf does not allow.
        score = asked.score(logits_of(network(leaf.clone())))
        (found,) = torch.autograd.grad(score, leaf)
    return found[0, : asked.images]


def _grey(window: Tensor) -> Tensor:
    """The mean of each channel (1, C, 1, 1, 1)."""
    return window.mean((2, 3, 4), keepdim=True)


def _class_activation(
    network: nn.Module, window: Tensor, asked: Question, weights: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    leaf = window.detach().clone().requires_grad_(True)
    with torch.enable_grad(), Watch() as watch:
        score = asked.score(logits_of(network(leaf.clone())))
    total = torch.zeros(asked.size, device=window.device)
    views = views_of(network)
    runs = zip(apart(watch.rectified, views), apart(watch.convolved, views), strict=True)
    for view, (rectified, calls) in enumerate(runs):
        convolved, padded = [made for _, _, made in calls], padded_by(network, view, calls[0][0], asked.size)
        for features in (
            *_looked_at(network, view, asked, padded, rectified),
            *_looked_at(network, view, asked, padded, convolved),
        ):
            (found,) = torch.autograd.grad(score, features, retain_graph=True, allow_unused=True)
            if found is not None and bool(found.any()):
                values, g = (as_volume(t.detach(), network, view) for t in (features, found))
                heat = (weights(values, g) * values).sum(0).clamp(min=0)
                total += fitted(heat, asked.size, padded)
                break
    return total


def _looked_at(network: nn.Module, view: int, asked: Question, padded: Shape3, calls: list[Tensor]) -> list[Tensor]:
    """The features at the level that is asked for, the last ones first; then those of other levels."""
    maps = [t for t in reversed(calls) if t.requires_grad and is_map(t, network, view, padded)]
    levels = sorted({_voxels(t) for t in maps}, reverse=True)
    if not levels:
        return []
    chosen = levels[{"fine": 0, "middle": len(levels) // 2, "deep": len(levels) - 1}[asked.config.layer]]
    return sorted(maps, key=lambda t: _voxels(t) != chosen)


def _voxels(features: Tensor) -> int:
    return features[:, 0].numel()


def _marked(network: nn.Module, window: Tensor, asked: Question, kind: type[nn.Module], lacks: str) -> Tensor:
    """The maps that pass modules of a kind, as one."""
    places = [place for place in network.modules() if isinstance(place, kind)]
    seen: list[Tensor] = []
    hooks = [place.register_forward_hook(lambda _, __, output: seen.append(output)) for place in places]
    leaf = window.detach().clone().requires_grad_(True)
    try:
        with torch.enable_grad(), Watch() as watch:
            score = asked.score(logits_of(network(leaf.clone())))
    finally:
        for hook in hooks:
            hook.remove()
    total, found = torch.zeros(asked.size, device=window.device), False
    views = views_of(network)
    for view, (calls, convolved) in enumerate(zip(apart(seen, views), apart(watch.convolved, views), strict=True)):
        padded = padded_by(network, view, convolved[0][0], asked.size)
        for passed in (t for t in calls if t.shape[1] == 1 and is_map(t, network, view, padded)):
            found = True
            total += fitted(_weighed(passed, score, network, view, asked, kind), asked.size, padded)
    if not found:
        raise NotSupportedError(f"the network {lacks}: choose another method, such as grad-cam")
    return total


def _weighed(
    passed: Tensor, score: Tensor, network: nn.Module, view: int, asked: Question, kind: type[nn.Module]
) -> Tensor:
    """One map (z, y, x), times its effect on the score where asked for: attention helps, borders do both."""
    values = as_volume(passed.detach(), network, view)[0]
    if not asked.config.weighted:
        return values
    found: tuple[Tensor | None, ...] = torch.autograd.grad(score, passed, retain_graph=True, allow_unused=True)
    g = found[0]
    if g is None:
        return torch.zeros_like(values)
    effect = values * as_volume(g, network, view)[0]
    return effect.abs() if kind is ShapeMap else effect.clamp(min=0)


def _no_last_layer(why: str) -> NotSupportedError:
    return NotSupportedError(f"cam needs logits that are sums of features: {why}: use grad-cam")
