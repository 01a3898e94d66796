"""Say what a file is, where it lies in the patient, and what is odd about it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medseg.cli import terminal
from napari_medseg.errors import InputError
from napari_medseg.foreign import holds_no_model, refuse_foreign_model
from napari_medseg.foreign.look import intensities_told
from napari_medseg.io.outputs import members_of
from napari_medseg.models.file import load_model
from napari_medseg.models.naming import is_model_path

if TYPE_CHECKING:
    from napari_medseg.models.file import Model
    from napari_medseg.models.spec import Normalisation, Stage

NAME = "info"
_DOCUMENTS = {
    "napari_medseg_plan": "a plan of a training, in JSON: `train --plan` follows it",
    "napari_medseg_interaction": "the log of a session with prompts, in JSON: `interact --prompts` does it again",
    "napari_medseg_set": "a set of models, in JSON: `segment --model` uses them together",
}
"""{key of a document: what it is}."""


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("path", type=Path, metavar="PATH", help="Image, label or model file.")
    parser.add_argument("--labels", action="store_true", help="Take it as labels.")
    parser.add_argument("--image", type=Path, metavar="IMAGE", help="The image that the labels belong to.")


def run(args: Namespace) -> None:
    if args.image is not None and not args.labels:
        raise InputError("--image says which image labels belong to: add --labels")
    if told := _document(args.path):
        terminal.print_result(f"{args.path}: {told}")
        return
    if not holds_no_model(args.path):
        refuse_foreign_model(args.path)
    for line in _lines(args):
        terminal.print_result(line)


def _document(path: Path) -> str:
    """What a JSON document of ours is, and what takes it; "" for any other file."""
    members = members_of(path) if path.suffix.lower() == ".json" else ()
    return next((text for key, text in _DOCUMENTS.items() if key in members), "")


def _lines(args: Namespace) -> list[str]:
    if is_model_path(args.path):
        return _model_lines(load_model(args.path))
    from napari_medseg.cli.describe import describe

    return describe(args.path, labels=args.labels, image=args.image)


def _model_lines(model: Model) -> list[str]:
    """The facts that a model file states, one per line."""
    spec, training = model.spec, model.spec.training
    facts = {
        "model": str(model.path),
        "sha256": model.sha256,
        "network": spec.network,
        "arguments": ", ".join(f"{name}={value}" for name, value in spec.arguments.items()),
        "channels": ", ".join(f"{channel.name} ({channel.modality})" for channel in spec.channels),
        "labels": ", ".join(f"{label} {name}" for label, name in spec.labels.items()),
        "mode": spec.mode,
        "first stage": _stage(spec.first) if spec.first else "",
        "spacing (z, y, x)": _numbers(spec.spacing_zyx_mm, " mm") or "as the image's",
        "patch (z, y, x)": _numbers(spec.patch_zyx, " voxels"),
        "mirrored along": spec.recipe.axes_told,
        "orientation": spec.orientation or "as the image's",
        "normalisation": intensities_told(spec) if spec.steps else ", ".join(map(_normalisation, spec.normalisation)),
        "trained on": f"{training.cases} cases, {training.epochs:g} epochs, {training.minutes:.1f} minutes, "
        f"seed {training.seed}",
        "validation": ", ".join(f"{name} {value:.4f}" for name, value in training.validation.items())
        or ("none" if training.cases else ""),
        "versions": ", ".join(f"{name} {version}" for name, version in training.versions.items()),
        "licence": spec.licence,
        "citation": spec.citation,
        "description": spec.description,
    }
    return [f"{name}: {' '.join(text.split())}" for name, text in facts.items() if text]


def _stage(stage: Stage) -> str:
    """The first stage of a cascade, and how it guides the second."""
    guides = "as channels" if stage.guide == "channel" else f"by boxes with {stage.margin_mm:g} mm around them"
    labels = ", ".join(stage.model.labels.values())
    return f"{stage.model.network} at {_numbers(stage.model.spacing_zyx_mm, ' mm')} for {labels}; guides {guides}"


def _numbers(values: tuple[float, ...] | None, unit: str) -> str:
    return ", ".join(f"{value:.4g}" for value in values) + unit if values else ""


def _normalisation(normalisation: Normalisation) -> str:
    if normalisation.kind != "clip_zscore":
        return normalisation.kind
    n = normalisation
    return f"clip to {n.low:g} .. {n.high:g}, minus {n.mean:g}, over {n.std:g}"
