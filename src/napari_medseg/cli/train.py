"""Train a network on images and their labels, matched by file name.

The result is one model file. An interrupted training leaves one too.
"""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from napari_medseg import registry
from napari_medseg.cli import terminal
from napari_medseg.cli.knobs import add_knob, add_merge
from napari_medseg.config import TrainConfig, configured
from napari_medseg.errors import InputError
from napari_medseg.foreign import refuse_foreign_model
from napari_medseg.io.outputs import locked
from napari_medseg.models.naming import require_model_path
from napari_medseg.training.schemes.scheme import require_taken, scheme_named

NAME = "train"
_KNOBS = (
    *("epochs", "minutes", "val", "seed", "device", "mode", "slices", "cascade", "first_network", "scheme"),
    *("loss", "unlabelled_slices", "ignore_label", "weak", "background_label", "adapt"),
)


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--images",
        required=True,
        action="append",
        type=Path,
        metavar="DIR",
        help="Folder of images; several times for several channels, in that order.",
    )
    parser.add_argument("--labels", required=True, type=Path, metavar="DIR", help="Folder of label files.")
    parser.add_argument(
        "--network",
        metavar="NAME",
        help="Network to train; see the command networks. (default: unet3d; with --init that of the model)",
    )
    for name in ("mode", "slices", "cascade", "first_network"):
        add_knob(parser, TrainConfig, name)
    budget = parser.add_mutually_exclusive_group()
    add_knob(budget, TrainConfig, "epochs")
    add_knob(budget, TrainConfig, "minutes", metavar="M")
    for name in ("val", "seed", "device"):
        add_knob(parser, TrainConfig, name)
    for name in ("loss", "unlabelled_slices", "ignore_label", "weak", "background_label"):
        add_knob(parser, TrainConfig, name)
    add_knob(parser, TrainConfig, "scheme")
    parser.add_argument(
        "--unlabelled",
        type=Path,
        metavar="DIR",
        help="Folder of images without labels, for a scheme that takes them.",
    )
    add_merge(parser, "learn the labels in it as one, of this name")
    parser.add_argument("--init", metavar="MODEL", help="Model to start from instead of random weights.")
    add_knob(parser, TrainConfig, "adapt")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="Go on with a training that was stopped or killed; give the same cases and settings.",
    )
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="MODEL", help="Model file (.safetensors).")


def run(args: Namespace) -> None:
    for name in filter(None, (args.network, args.first_network)):
        registry.network(name)
    if args.slices != TrainConfig().slices and args.mode != "2.5d" and args.init is None:
        raise InputError("--slices needs --mode 2.5d: without it nothing would change")
    require_taken(scheme_named(args.scheme), args.unlabelled)
    if args.adapt != "all" and args.init is None:
        raise InputError(f"--adapt {args.adapt} needs --init: it says which weights of that model learn")
    config = configured(TrainConfig, None, {name: getattr(args, name) for name in _KNOBS})
    require_model_path(args.output)
    if args.init is not None:
        refuse_foreign_model(Path(args.init))
    with locked(args.output):  # before torch is loaded, so that a refusal comes at once
        _train(args, config)


def _train(args: Namespace, config: TrainConfig) -> None:
    from napari_medseg.cases import cases_from_folders, cases_of_images
    from napari_medseg.training import iter_train
    from napari_medseg.transforms.regions import parsed

    cases = cases_from_folders(args.images, args.labels)
    with asked_to_stop() as should_stop:
        events = iter_train(
            cases,
            network=args.network,
            out=args.output,
            config=config,
            init=args.init,
            merge=parsed(args.merge),
            unlabelled=() if args.unlabelled is None else cases_of_images([args.unlabelled]),
            resume=args.resume,
            should_stop=should_stop,
        )
        terminal.follow(events, args.output.name)
        terminal.print_result(f"wrote {args.output}")
        if should_stop():
            raise KeyboardInterrupt


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
