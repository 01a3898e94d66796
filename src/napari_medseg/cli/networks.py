"""List the networks that can be trained, and the models in the models folder."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from napari_medseg import registry
from napari_medseg.cli import terminal
from napari_medseg.registry import NetworkSpec

NAME = "networks"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="Print one JSON object.")


def run(args: Namespace) -> None:
    from napari_medseg.modelfile import list_models, models_folder

    specs = list(registry.networks().values())
    models = [path.name for path in list_models()]
    if args.json:
        content = {"networks": [_facts(s) for s in specs], "models_folder": str(models_folder()), "models": models}
        terminal.say(json.dumps(content, indent=2, ensure_ascii=False))
        return
    for spec in specs:
        terminal.say(f"{spec.name:<12} {', '.join(_presets(spec)):<16} {spec.summary}")
    terminal.say(f"models in {models_folder()}: {', '.join(models) or 'none'}")


def _presets(spec: NetworkSpec) -> list[str]:
    return ["default"] if spec.paper is None else ["default", "paper"]


def _facts(spec: NetworkSpec) -> dict[str, object]:
    return {"name": spec.name, "summary": spec.summary, "citation": spec.citation, "presets": _presets(spec)}
