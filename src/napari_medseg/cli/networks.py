"""List the networks that can be trained, and the models in the models folder."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from napari_medseg import registry
from napari_medseg.cli import terminal
from napari_medseg.registry import NetworkSpec

NAME = "networks"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="Print a JSON list of the networks.")


def run(args: Namespace) -> None:
    specs = registry.networks().values()
    if args.json:
        terminal.say(json.dumps([_facts(spec) for spec in specs], indent=2, ensure_ascii=False))
        return
    for family in registry.FAMILIES:
        terminal.say(f"{family}:")
        for spec in specs:
            if spec.family == family:
                terminal.say(_line(spec))
    _say_models()


def _line(spec: NetworkSpec) -> str:
    dims = ", ".join(f"{d}D" for d in spec.dims)
    count = f"{spec.parameters_paper:,}" if spec.parameters_paper else "-"
    return f"  {spec.name:<20} {spec.year}  {dims:<6} {count:>11}  {spec.summary}. {spec.reference}"


def _say_models() -> None:
    from napari_medseg.modelfile import list_models, models_folder

    models = [path.name for path in list_models()]
    terminal.say(f"models in {models_folder()}: {', '.join(models) or 'none'}")


def _facts(spec: NetworkSpec) -> dict[str, object]:
    return {
        "name": spec.name,
        "family": spec.family,
        "year": spec.year,
        "dims": list(spec.dims),
        "parameters_paper": spec.parameters_paper,
        "counting": spec.counting,
        "reference": spec.reference,
        "summary": spec.summary,
        "when": spec.when,
        "presets": ["default"] if spec.paper is None else ["default", "paper"],
    }
