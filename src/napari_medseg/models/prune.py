"""A shallower network cut from a trained UNet++ (Zhou et al. 2018, section 2.3)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from napari_medseg.errors import InputError
from napari_medseg.io.disk.keeping import stepping_aside, warn_if_kept
from napari_medseg.models.file import FIRST, Model, as_model, write_model
from napari_medseg.models.trust import PLAIN_TRUST

PRUNABLE = "unetpp"


def prune_model(model: Model | str | Path, level: int, out: str | Path) -> Model:
    """Write the model that keeps the nodes X(i, j) with i + j <= `level` of a UNet++, and the head of X(0, level).

    Its logits are those of that head, unchanged. The scores in its record are those of the whole model; what
    was measured of the probabilities is left out.

    Raises InputError for another network, for one that was trained without deep supervision (its inner heads do not
    exist) and for a level that is not 1 .. depth; ModelFileError for `out`.
    """
    model = as_model(model)
    spec = model.spec
    if spec.network != PRUNABLE:
        raise InputError(f"{model.path}: only a {PRUNABLE} can be pruned; this is a {spec.network}")
    if "fusion" in spec.arguments:
        raise InputError(f"{model.path}: a model that fuses its channels later than its input cannot be pruned")
    if not spec.arguments["deep_supervision"]:
        raise InputError(
            f"{model.path}: was trained without deep supervision, so only its deepest head exists: train it with"
        )
    channels = spec.arguments["channels"]
    assert isinstance(channels, tuple), "checked when the file was opened"
    if not 1 <= level < len(channels):
        raise InputError(
            f"{model.path}: level must lie in 1 to {len(channels) - 1}, the depth of the model; got {level}"
        )
    arguments = {**spec.arguments, "channels": channels[: level + 1], "deep_supervision": False}
    weights = model.load_network().state_dict()
    kept = {name: tensor for name, tensor in weights.items() if _is_kept(name, level)}
    if spec.first is not None:
        kept |= {FIRST + name: tensor for name, tensor in model.load_first().state_dict().items()}
    warn_if_kept(Path(out))
    with stepping_aside(Path(out)):
        return write_model(out, replace(spec, arguments=arguments, deep_supervision=False, trust=PLAIN_TRUST), kept)


def _is_kept(name: str, level: int) -> bool:
    """Whether a tensor, "nodes.I_J..." or "heads.0_J...", belongs to the nodes i + j <= level or to their head."""
    part, node, *_ = name.split(".")
    i, j = map(int, node.split("_"))
    return i + j <= level if part == "nodes" else j == level
