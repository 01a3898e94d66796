"""Fine-tuning a part of a network: a frozen encoder, or low-rank adapters and the small file that holds them.

A low-rank adapter adds B A to a weight W that stays as it is (Hu et al., ICLR 2022): for a convolution (O, I, *k) A is
(r, I * k) and B is (O, r). B starts at 0, so the network starts as it was.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils import parametrize

from napari_medseg.errors import FileError, InputError
from napari_medseg.io.disk.files import replace_bytes
from napari_medseg.models.file import Model, write_model
from napari_medseg.models.spec import ModelSpec
from napari_medseg.models.transfer import class_axes

_KEY = "napari_medseg_adapter"
_A, _B = ".parametrizations.weight.0.a", ".parametrizations.weight.0.b"
_ADAPTED = (nn.Linear, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class LowRank(nn.Module):
    """W -> W + B A, of the shape of W; the first axis of W is that of B."""

    def __init__(self, weight: torch.Tensor, rank: int) -> None:
        super().__init__()
        rows = weight.shape[0]
        self.a = nn.Parameter(torch.empty(rank, weight.numel() // rows, device=weight.device))
        self.b = nn.Parameter(torch.zeros(rows, rank, device=weight.device))
        nn.init.kaiming_uniform_(self.a, a=5**0.5)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight + (self.b @ self.a).view_as(weight)


def freeze_encoder(network: nn.Module, volumes: nn.Module, inputs: torch.Tensor) -> None:
    """Let the weights rest that work down to the coarsest maps: the encoder.

    volumes: the network as one of volumes. inputs: of a shape that it takes. Raises InputError for a network whose maps
    all have one size, or that comes to its coarsest ones last: it has no encoder apart.
    """
    encoder, last = _modules_of_encoder(network, volumes, inputs)
    if last in encoder:
        raise InputError("the network has no encoder apart from the rest: adapt all weights, or low-rank")
    for module in encoder:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad = False


def _modules_of_encoder(
    network: nn.Module, volumes: nn.Module, inputs: torch.Tensor
) -> tuple[list[nn.Module], nn.Module]:
    """The modules with weights up to the last one at the first stretch of coarsest maps; and the very last module."""
    seen: list[tuple[nn.Module, int]] = []

    def look(module: nn.Module, _: object, output: object) -> None:
        if torch.is_tensor(output) and output.ndim > 3:
            seen.append((module, output.shape[2:].numel()))
        elif seen:  # tokens, which have no size: they belong to the map before
            seen.append((module, seen[-1][1]))

    owners = [m for m in network.modules() if any(True for _ in m.parameters(recurse=False))]
    hooks = [module.register_forward_hook(look) for module in owners]
    was_training = volumes.training
    with torch.no_grad():
        volumes.eval()(inputs)
    volumes.train(was_training)
    for hook in hooks:
        hook.remove()
    coarsest = min(size for _, size in seen)
    start = next(index for index, (_, size) in enumerate(seen) if size == coarsest)
    stop = next((i for i in range(start, len(seen)) if seen[i][1] != coarsest), len(seen))
    return [module for module, _ in seen[:stop]], seen[-1][0]


def add_low_rank(network: nn.Module, spec: ModelSpec, rank: int) -> None:
    """Give the large weights adapters, and let all else rest but the norms and what has an item per class."""
    own = set(class_axes(spec))
    for parameter in network.parameters():
        parameter.requires_grad = False
    for name, module in list(network.named_modules()):
        of_classes = any(f"{name}.{kind}" in own for kind, _ in module.named_parameters(recurse=False))
        if of_classes or isinstance(module, _NormBase | nn.GroupNorm | nn.LayerNorm):
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad = True
        elif isinstance(module, _ADAPTED) and not parametrize.is_parametrized(module):
            rows, columns = len(module.weight), module.weight.numel() // len(module.weight)
            if min(rows, columns) > rank:
                parametrize.register_parametrization(module, "weight", LowRank(module.weight, rank))


def plain_weights(network: nn.Module) -> dict[str, torch.Tensor]:
    """The weights as a network without adapters has them: W + B A under the name of W."""
    state = network.state_dict()
    plain = _beside_adapters(state)
    for name in _adapted(state):
        plain[f"{name}.weight"] = _weight_of(network, name)
    return plain


def without_adapters(network: nn.Module) -> None:
    """Turn W and its adapter into one weight, in place."""
    for name in _adapted(network.state_dict()):
        parametrize.remove_parametrizations(network.get_submodule(name), "weight", leave_parametrized=True)


def adapter_path(out: Path) -> Path:
    """Where the adapter of a model lies: beside it."""
    return out.with_suffix(".adapter")


def adapter_of(network: nn.Module) -> dict[str, torch.Tensor]:
    """What a training with adapters has changed: the adapters, the weights that learned, and statistics."""
    learned = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    buffers = {name for name, _ in network.named_buffers()}
    return {name: tensor for name, tensor in network.state_dict().items() if name in learned | buffers}


def write_adapter(path: Path, base: Model, spec: ModelSpec, changed: Mapping[str, torch.Tensor]) -> None:
    """Write an adapter: a safetensors file with the spec of the model that it makes, and the SHA-256 of its base."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in changed.items()}
    about = json.dumps({"base": base.sha256, "base name": base.path.name, "spec": spec.to_json()})
    replace_bytes(path, safetensors.torch.save(tensors, metadata={_KEY: about}))


def with_adapter(base: Model, adapter: str | Path, out: str | Path) -> Model:
    """Write the model that an adapter makes of its base.

    Raises FileError for what is no adapter, InputError for one of another base.
    """
    path = Path(adapter)
    about, spec, changed = _read(path)
    if about["base"] != base.sha256:
        raise InputError(f"{path.name} is an adapter of {about['base name']}, not of {base.path.name}: give that model")
    weights = base.load_network().state_dict()
    for name in _adapted(changed):
        whole = weights[f"{name}.weight"]
        weights[f"{name}.weight"] = whole + (changed[f"{name}{_B}"] @ changed[f"{name}{_A}"]).view_as(whole)
    weights |= _beside_adapters(changed)
    return write_model(out, spec, weights)


def changed_by(adapter: Path) -> dict[str, torch.Tensor]:
    """What an adapter holds, see `adapter_of`. Raises FileError for what is no adapter."""
    return _read(adapter)[2]


def _read(path: Path) -> tuple[dict[str, str], ModelSpec, dict[str, torch.Tensor]]:
    """The base of an adapter, the spec of the model that it makes, and what it holds."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            about = json.loads(file.metadata()[_KEY])
            changed = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        return {name: about[name] for name in ("base", "base name")}, ModelSpec.from_json(about["spec"]), changed
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise FileError(f"{path}: no adapter of this project: {error}") from error


def _beside_adapters(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of all modules that have no adapter, and of those that have one what is not its weight.

    A network's own parametrizations (TransUNet standardises the weights of its stem) are not adapters.
    """
    inside = tuple(f"{name}.parametrizations.weight." for name in _adapted(state))
    return {name: tensor for name, tensor in state.items() if not name.startswith(inside)}


def _weight_of(network: nn.Module, module: str) -> torch.Tensor:
    """W + B A of a module that has an adapter."""
    weight = network.get_submodule(module).weight
    assert isinstance(weight, torch.Tensor), "adapted modules have one weight"
    return weight.detach()


def _adapted(names: Iterable[str]) -> list[str]:
    """The modules that have an adapter."""
    return [name.removesuffix(_A) for name in names if name.endswith(_A)]
