"""Work out how a network would be trained on images and their labels, here and in the minutes given.

The plan is a JSON file. Look at it, change it, and train with it: train --plan.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from napari_medseg import registry
from napari_medseg.cli import terminal
from napari_medseg.cli.knobs import add_knob, add_merge, add_sources, dataset_of, ignored_in, require_sources
from napari_medseg.config import TrainConfig, configured
from napari_medseg.errors import InputError
from napari_medseg.io.outputs import check_document, locked

NAME = "plan"
_KNOBS = (
    *("mode", "slices", "cascade", "first_network", "minutes", "val", "seed", "device"),
    *("mirror", "unlabelled_slices", "ignore_label", "weak", "background_label"),
)


def add_arguments(parser: ArgumentParser) -> None:
    add_sources(parser)
    parser.add_argument(
        "--network", metavar="NAME", help="Network to plan; see the command networks. (default: unet3d)"
    )
    for name in _KNOBS:
        add_knob(parser, TrainConfig, name, metavar="M" if name == "minutes" else None)
    add_merge(parser, "plan for the labels in it as one, of this name")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="PLAN", help="Plan file (.json).")


def run(args: Namespace) -> None:
    for name in filter(None, (args.network, args.first_network)):
        registry.network(name)
    require_sources(args)
    check_document(args.output, "plan", "napari_medseg_plan")
    if args.slices != TrainConfig().slices and args.mode != "2.5d":
        raise InputError("--slices needs --mode 2.5d: without it nothing would change")
    config = configured(TrainConfig, None, {name: getattr(args, name) for name in _KNOBS})
    with locked(args.output):
        _plan(args, config)


def _plan(args: Namespace, config: TrainConfig) -> None:
    from napari_medseg.training import iter_plan
    from napari_medseg.transforms.regions import parsed

    data = dataset_of(args)
    config = configured(TrainConfig, config, ignored_in(data, config))
    merge = {**dict(data.merge), **dict(parsed(args.merge))}
    events = iter_plan(data.cases, network=args.network, merge=merge, config=config)
    plan = terminal.follow(events, args.output.name)
    plan.write(args.output)
    for line in plan.describe():
        terminal.print_result(line)
    terminal.print_result(f"wrote {args.output}")
