"""What every scheme can do, as a suite that its test class inherits: see `SchemeSuite`."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from balls import SHAPE, segmentation, volume
from napari_medseg import Volume, iter_train, load_model, segment, train
from napari_medseg.config import TrainConfig, configured
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Notice, TrainProgress
from napari_medseg.training.cases import as_case, as_cases
from napari_medseg.training.fit import iter_job
from napari_medseg.training.job import Job
from napari_medseg.training.losses.supervised import deeply_supervised
from napari_medseg.training.saving.saved import load
from napari_medseg.training.schemes.table import SCHEMES

STEPS = 6
STOPPED = 4
"""After these steps a training is stopped; of a scheme with stages, in its last one."""


class SchemeSuite:
    """A class inherits it and sets `scheme`; then `knobs` and `network` as far as it needs others to be fast.

    Each test trains a tiny network for a few steps on one core.
    """

    scheme: ClassVar[str]
    knobs: ClassVar[dict[str, Any]] = {}
    """What TrainConfig gets beside a tiny budget."""
    network: ClassVar[str] = "unet3d"
    arguments: ClassVar[dict[str, Any]] = {"channels": (4, 8)}
    kept: ClassVar[set[str]] = {"network", "average"}
    """The networks in a checkpoint."""
    parts: ClassVar[set[str]]
    """The losses of a step after the first ones."""

    def options(self, **changes: Any) -> dict[str, Any]:
        """Of a training of 6 steps."""
        spec = SCHEMES[self.scheme]
        others = [volume(seed=seed) for seed in (5, 6)] if spec.takes_unlabelled else []
        target = [dark(seed) for seed in (5, 6)] if spec.takes_target else []
        tiny = {"epochs": STEPS, "val": 0, "device": "cpu", "precision": "fp32", "report": False, "patch_zyx": SHAPE}
        options = {"scheme": self.scheme, "unlabelled": others, "target": target, "network": self.network}
        return {**options, "arguments": self.arguments, **tiny, **self.knobs, **changes}

    def test_a_stopped_training_leaves_a_model_and_goes_on_to_the_same_weights(self, tmp_path: Path) -> None:
        whole = train(pairs(), out=tmp_path / "whole.safetensors", **self.options()).load_network().state_dict()
        out, steps = tmp_path / "m.safetensors", list[TrainProgress]()
        for event in iter_train(pairs(), out=out, should_stop=lambda: len(steps) >= STOPPED, **self.options()):
            steps.extend([event] if isinstance(event, TrainProgress) else [])
        assert len(steps) == STOPPED
        assert set(steps[-1].losses) == self.parts
        assert all(math.isfinite(loss) for loss in steps[-1].losses.values())
        assert segment(volume(), load_model(out), device="cpu").data.shape == SHAPE
        saved = load(tmp_path / "m.training")
        assert saved is not None
        assert set(saved.state["networks"]) == self.kept
        state = torch.get_rng_state()
        again = train(pairs(), out=out, resume=True, **self.options()).load_network().state_dict()
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(again[name], whole[name]) for name in whole)

    def test_steps_lower_the_loss_of_labels(self, tmp_path: Path) -> None:
        options = self.options(augment=False, foreground=1.0, learning_rate=0.01, epochs=12)
        events = list(iter_train(pairs(), out=tmp_path / "m.safetensors", **options))
        losses = [event.losses["loss"] for event in events if isinstance(event, TrainProgress)]
        assert losses[-1] < 0.9 * losses[0]

    def test_a_loss_that_is_not_finite_ends_it_and_the_last_finite_weights_stand(self, tmp_path: Path) -> None:
        calls = itertools.count(1)

        def broken(outputs: Any, classes: torch.Tensor, context: Any) -> torch.Tensor:
            return deeply_supervised(outputs, classes, context) * (math.nan if next(calls) > STOPPED else 1)

        options = self.options(epochs=100, checkpoint_minutes=0)
        images, target = (
            [as_case(image, number) for number, image in enumerate(options.pop(name))]
            for name in ("unlabelled", "target")
        )
        network = options.pop("network")
        config = configured(TrainConfig, None, options)
        out = tmp_path / "m.safetensors"
        job = Job(as_cases(pairs()), network, out, config, loss=broken, unlabelled=images, target=target)
        with pytest.raises(InputError, match="were not finite for 10 steps"):
            list(iter_job(job))
        left = load_model(tmp_path / "m.training" / "last.safetensors").load_network().state_dict()
        assert all(bool(torch.isfinite(tensor).all()) for tensor in left.values() if tensor.is_floating_point())

    def test_what_it_has_no_use_for_is_refused(self, tmp_path: Path) -> None:
        out = tmp_path / "m.safetensors"
        if SCHEMES[self.scheme].takes_unlabelled:
            with pytest.raises(InputError, match=f"scheme {self.scheme} needs unlabelled images"):
                train(pairs(), out=out, **self.options(unlabelled=[]))
        if SCHEMES[self.scheme].takes_target:
            with pytest.raises(InputError, match=f"scheme {self.scheme} needs target images"):
                train(pairs(), out=out, **self.options(target=[]))
        for name, value in {"doubt_passes": 3, "confidence": 0.5, "critic_width": 3}.items():
            if name not in SCHEMES[self.scheme].knobs:
                with pytest.raises(InputError, match=f"scheme {self.scheme} has no use for {name}"):
                    train(pairs(), out=out, **self.options(**{name: value}))
        assert list(tmp_path.iterdir()) == []

    def test_it_says_when_to_use_it(self) -> None:
        assert SCHEMES[self.scheme].when.endswith(".")


class Staged(SchemeSuite):
    """A scheme that trains other networks first: the loss of labels comes after these."""

    def test_steps_lower_the_loss_of_labels(self, tmp_path: Path) -> None:
        options = self.options(augment=False, foreground=1.0, learning_rate=0.01, epochs=12)
        events = list(iter_train(pairs(), out=tmp_path / "m.safetensors", **options))
        steps = [event for event in events if isinstance(event, TrainProgress)]
        losses = [event.losses["loss"] for event in steps if "loss" in event.losses]
        assert 0 < len(losses) < len(steps)
        assert losses[-1] < 0.9 * losses[0]


def dark(seed: int = 5, channels: int = 1) -> Volume:
    """Another domain: the balls are dark."""
    bright = volume(channels, seed)
    return replace(bright, data=200 - np.asarray(bright.data))


def pairs() -> list[Any]:
    return [(volume(seed=0), segmentation())]


def notices(events: list[Event]) -> list[str]:
    """The lines that a training told."""
    return [event.message for event in events if isinstance(event, Notice)]
