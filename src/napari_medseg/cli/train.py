"""Train a network on images and their labels, matched by file name.

The result is one model file. An interrupted training leaves one too.
"""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

from napari_medseg import registry
from napari_medseg.cli import terminal
from napari_medseg.cli.knobs import add_knob, add_merge, add_sources, dataset_of, ignored_in, require_sources
from napari_medseg.config import SchemeConfig, TrainConfig, configured, field_docs
from napari_medseg.errors import InputError
from napari_medseg.foreign import refuse_foreign_model
from napari_medseg.io.outputs import check_document, locked
from napari_medseg.models.naming import require_model_path
from napari_medseg.models.several import KEY
from napari_medseg.training.schemes.requirements import (
    require_mining,
    require_objects,
    require_searching,
    require_taken,
    require_target,
    require_used,
)
from napari_medseg.training.schemes.table import scheme_named

NAME = "train"
_KNOBS = (
    *("epochs", "minutes", "val", "seed", "device", "mode", "slices", "cascade", "first_network", "scheme", "tracker"),
    "objects",
    *("loss", "unlabelled_slices", "ignore_label", "weak", "background_label", "adapt", "decide_cleaning"),
    *("fusion", "modality_dropout", "mirror", "hard_patches", "search", "search_network"),
    *field_docs(SchemeConfig),
)


def add_arguments(parser: ArgumentParser) -> None:
    add_sources(parser)
    parser.add_argument(
        "--network",
        metavar="NAME",
        help="Network to train; see the command networks. (default: unet3d, or that of the scheme; with --init that of "
        "the model)",
    )
    for name in ("mode", "slices", "cascade", "first_network", "fusion", "modality_dropout", "mirror"):
        add_knob(parser, TrainConfig, name)
    parser.add_argument("--plan", type=Path, metavar="FILE", help="Plan to follow; see the command plan.")
    budget = parser.add_mutually_exclusive_group()
    add_knob(budget, TrainConfig, "epochs")
    add_knob(budget, TrainConfig, "minutes", metavar="M")
    add_knob(parser, TrainConfig, "search", metavar="M")
    for name in ("search_network", "val", "seed", "device"):
        add_knob(parser, TrainConfig, name)
    for name in ("hard_patches", "loss", "unlabelled_slices", "ignore_label", "weak", "background_label"):
        add_knob(parser, TrainConfig, name)
    add_knob(parser, TrainConfig, "scheme")
    add_knob(parser, TrainConfig, "objects")
    parser.add_argument(
        "--unlabelled",
        type=Path,
        metavar="DIR",
        help="Folder of images without labels, for a scheme that takes them.",
    )
    parser.add_argument(
        "--target",
        type=Path,
        metavar="DIR",
        help="Folder of images of another scanner or contrast without labels, for a scheme that adapts to them.",
    )
    for name in field_docs(SchemeConfig):
        add_knob(parser, SchemeConfig, name)
    add_knob(parser, TrainConfig, "tracker")
    parser.add_argument(
        "--folds",
        type=int,
        metavar="N",
        help="Train a model on each of N folds of the cases and write the set of them, which is used as one model; "
        "--minutes is shared. -o then ends in .json, and --val means nothing: each fold validates on the others.",
    )
    add_merge(parser, "learn the labels in it as one, of this name")
    parser.add_argument("--init", metavar="MODEL", help="Model to start from instead of random weights.")
    add_knob(parser, TrainConfig, "adapt")
    add_knob(parser, TrainConfig, "decide_cleaning")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="Go on with a training that was stopped or killed; give the same cases and settings.",
    )
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="MODEL", help="Model file (.safetensors).")


def run(args: Namespace) -> None:
    for name in filter(None, (args.network, args.first_network)):
        registry.network(name)
    if args.slices != TrainConfig().slices and args.mode != "2.5d" and args.init is None and args.plan is None:
        raise InputError("--slices needs --mode 2.5d: without it nothing would change")
    if args.mirror != TrainConfig().augmentation.mirror and args.plan is not None:
        raise InputError(f"--mirror {args.mirror} does not go with --plan, which says the axes: give it to plan")
    require_sources(args, from_labels=scheme_named(args.scheme).from_labels)
    require_taken(scheme_named(args.scheme), args.unlabelled)
    require_objects(scheme_named(args.scheme), args.objects)
    require_target(scheme_named(args.scheme), args.target)
    if args.adapt != "all" and args.init is None:
        raise InputError(f"--adapt {args.adapt} needs --init: it says which weights of that model learn")
    config = configured(TrainConfig, None, {name: getattr(args, name) for name in _KNOBS})
    require_used(scheme_named(args.scheme), config)
    require_mining(scheme_named(args.scheme), args.hard_patches)
    require_searching(scheme_named(args.scheme), config, starts=args.init is not None, planned=args.plan is not None)
    _require_output(args)
    if args.init is not None:
        refuse_foreign_model(Path(args.init))
    with locked(args.output):  # before torch is loaded, so that a refusal comes at once
        _train(args, config)


def _train(args: Namespace, config: TrainConfig) -> None:
    from napari_medseg.cases import cases_without_labels
    from napari_medseg.training import iter_train, iter_train_folds
    from napari_medseg.transforms.regions import parsed

    data = dataset_of(args)
    merge = {**dict(data.merge), **dict(parsed(args.merge))}
    with asked_to_stop() as should_stop:
        verb = iter_train if args.folds is None else partial(iter_train_folds, folds=args.folds)
        events = verb(
            data.cases,
            network=args.network,
            out=args.output,
            config=configured(TrainConfig, config, ignored_in(data, config)),
            init=args.init,
            merge=merge,
            plan=args.plan,
            target=() if args.target is None else cases_without_labels(args.target),
            unlabelled=() if args.unlabelled is None else cases_without_labels(args.unlabelled),
            resume=args.resume,
            should_stop=should_stop,
        )
        result = terminal.follow(events, args.output.name)
        for name, (mean, deviation) in result.scores.items() if args.folds is not None else ():
            terminal.print_result(f"{name}: {mean:.4f} +- {deviation:.4f} over {len(result.models)} folds")
        terminal.print_result(f"wrote {args.output}")
        if should_stop():
            raise KeyboardInterrupt


def _require_output(args: Namespace) -> None:
    """Raise InputError for a name that the result cannot have."""
    if args.folds is None:
        require_model_path(args.output)
    elif args.output.suffix != ".json":
        raise InputError(f"--folds makes a set of models: end {args.output} in .json")
    elif args.search:
        raise InputError("--folds follows one plan: leave --search out")
    elif args.val != TrainConfig().validation.val:
        raise InputError("--folds decides which cases validate: leave --val out")
    else:
        check_document(args.output, "set of models", KEY)


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Inside, the yielded function is true after the first Ctrl-C; a second Ctrl-C interrupts as usual."""
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)
