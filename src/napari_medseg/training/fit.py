"""The training loop: one generator that the panel, the command line and scripts share."""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from napari_medseg import __version__
from napari_medseg.config import SegmentConfig, TrainConfig
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Finished, Notice, Progress, Started, TrainProgress, Validated, result_of
from napari_medseg.inference.device import autocast, choose_device, has_fast_bf16
from napari_medseg.inference.engine import WindowRunner, is_flat
from napari_medseg.inference.planes import axis_order, model_grid
from napari_medseg.inference.windows import WindowGrid
from napari_medseg.modelfile import Model, as_model
from napari_medseg.modelspec import ModelSpec
from napari_medseg.registry import network as network_named
from napari_medseg.training.budget import Budget, ValidationClock
from napari_medseg.training.cases import Case, PreparedCase, as_cases, prepare
from napari_medseg.training.checkpoint import Checkpoints, require_writable
from napari_medseg.training.losses import deeply_supervised
from napari_medseg.training.patches import Batch, PatchSampler
from napari_medseg.training.plan import CaseFacts, facts_of, plan, plan_from, require_same_channels
from napari_medseg.training.validate import mean_of, validate
from napari_medseg.volume import Segmentation, Volume

_MEMORY_FOR_CASES = 4 * 2**30
"""Bytes of prepared cases kept in memory; beyond, they go to scratch files and patches are read from there."""
_NON_FINITE_IN_A_ROW = 10
_STEPS_TO_TIME = 4
_BF16_TOLERANCE = 0.001

ShouldStop = Callable[[], bool]


def iter_train(
    cases: Iterable[Case | tuple[Volume, Segmentation]],
    *,
    network: str = "unet3d",
    out: str | Path,
    init: Model | str | Path | None = None,
    should_stop: ShouldStop = lambda: False,
    config: TrainConfig | None = None,
    **knobs: Any,
) -> Iterator[Event]:
    """Train a network on annotated volumes.

    cases: pairs of Volume and Segmentation on the same grid, in name order (the last fraction `val` validates).
    out: the model file to write. init: a model to start from; its network and preprocessing are kept.
    should_stop: asked at every step; true ends the training as if the budget were used up. config, or knobs: the
    fields of TrainConfig (epochs, minutes, val, seed, device ...).

    Yields Started (the plan), TrainProgress per step, Validated, and Finished with the Model. Closing the generator
    stops it too, and leaves a usable model file if a step has run. Beside `out`, a folder "NAME.training" holds the
    best and the last checkpoint (model files themselves) and the history.

    Raises InputError for cases that do not fit together, UnknownNameError for the network, ModelFileError for init.
    """
    asked = time.monotonic()
    config = replace(config or TrainConfig(), **knobs)
    network_named(network)
    target = choose_device(config.device)
    out = require_writable(out)
    initial = None if init is None else as_model(init)
    training, validation = split(as_cases(cases), config.val)
    with contextlib.ExitStack() as stack:
        draw = np.random.default_rng(config.seed)
        all_facts = yield from _read_facts([*training, *validation], config, draw)
        require_same_channels(all_facts)
        facts = all_facts[: len(training)]
        spec = plan(facts, network, config, target.type) if initial is None else plan_from(initial.spec, facts, config)
        prepared = yield from _prepare(training, facts, spec, config, draw, stack)
        fit = Fit(spec, config, target, prepared, initial, asked)
        keeper = Checkpoints(out, fit.state)
        fit.validation_windows = [windows_of(f, spec) for f in all_facts[len(training) :]]
        yield Started(fit.describe(len(validation)))
        try:
            yield from fit.run(validation, keeper, should_stop)
        except (GeneratorExit, KeyboardInterrupt):
            keeper.finish_early(fit.spec_now())
            raise
        yield Finished(keeper.model)


def train(cases: Iterable[Case | tuple[Volume, Segmentation]], **options: Any) -> Model:
    """Train and return the model; the options are those of `iter_train`."""
    result: Model = result_of(iter_train(cases, **options))
    return result


def split(cases: list[Case], fraction: float) -> tuple[list[Case], list[Case]]:
    """The cases to train on and the last `fraction` of them, rounded, to validate on; one at least trains."""
    count = min(round(len(cases) * fraction), len(cases) - 1)
    return cases[: len(cases) - count], cases[len(cases) - count :]


def _read_facts(
    cases: list[Case], config: TrainConfig, draw: np.random.Generator
) -> Generator[Event, None, list[CaseFacts]]:
    facts = []
    for done, case in enumerate(cases, start=1):
        facts.append(facts_of(case, config, draw))
        yield Progress(done, len(cases), "reading cases")
    return facts


def _prepare(
    cases: list[Case],
    facts: list[CaseFacts],
    spec: ModelSpec,
    config: TrainConfig,
    draw: np.random.Generator,
    stack: contextlib.ExitStack,
) -> Generator[Event, None, list[PreparedCase]]:
    assert spec.spacing_zyx_mm is not None, "a plan states its spacing"
    shrink = float(np.prod(spec.spacing_zyx_mm))
    voxels = sum(float(np.prod(f.grid.shape)) * f.grid.voxel_volume_mm3 / shrink for f in facts)
    size = voxels * (4 * len(spec.channels) + 2)
    scratch = None
    if size > _MEMORY_FOR_CASES:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="napari-medseg-")))
    prepared = []
    for done, case in enumerate(cases, start=1):
        prepared.append(prepare(case, spec, config, draw, scratch))
        yield Progress(done, len(cases), "preparing cases")
    return prepared


class Fit:
    """A network in training: its weights, its optimiser and where its patches come from."""

    def __init__(
        self,
        spec: ModelSpec,
        config: TrainConfig,
        device: torch.device,
        cases: list[PreparedCase],
        initial: Model | None,
        asked: float,
    ) -> None:
        self.spec, self.config, self.device = spec, config, device
        self.network = _new_network(spec, config.seed, initial).to(device)
        if not is_flat(spec):
            self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=device.type != "mps",
        )
        assert spec.spacing_zyx_mm is not None, "a plan states its spacing"
        self.sampler = PatchSampler(cases, spec.patch_zyx, spec.spacing_zyx_mm, config, device)
        self.budget = Budget(config, self.sampler.steps_per_epoch(), started=asked)
        self.precision = config.precision
        if self.precision == "auto":
            self.precision = "bf16" if has_fast_bf16(device) else "fp32"
        self.steps = 0
        self.dice: dict[int, float] = {}
        self.validation_windows: list[int] = []
        """Per validation case, the windows that it takes."""

    def state(self) -> dict[str, torch.Tensor]:
        """The weights by name."""
        return dict(self.network.state_dict())

    def describe(self, validation_cases: int) -> str:
        """The plan in one line."""
        parameters = sum(p.numel() for p in self.network.parameters())
        patch = "x".join(map(str, self.spec.patch_zyx))
        spacing = ", ".join(f"{s:.3g}" for s in self.spec.spacing_zyx_mm or ())
        return (
            f"{self.device} {self.precision}: {self.spec.network} with {parameters:,} parameters, patches of {patch} "
            f"at {spacing} mm, cases to train: {self.spec.training.cases}, to validate: {validation_cases}, "
            f"steps an epoch: {self.budget.steps_per_epoch}"
        )

    def spec_now(self) -> ModelSpec:
        """The ModelSpec with the record of the training so far."""
        scores = {f"dice {self.spec.labels[k]}"[:200]: v for k, v in self.dice.items()}
        if self.dice:
            scores["dice mean"] = mean_of(self.dice)
        record = replace(
            self.spec.training,
            epochs=self.steps / self.budget.steps_per_epoch,
            minutes=self.budget.elapsed() / 60,
            versions={"napari-medseg": __version__}
            | {p: importlib.metadata.version(p) for p in ("torch", "monai", "numpy")},
            validation=scores,
        )
        return replace(self.spec, training=record)

    def run(self, validation: list[Case], keeper: Checkpoints, should_stop: ShouldStop) -> Iterator[Event]:
        """Steps and validations until the budget is used, then the last validation and the model file."""
        clock = ValidationClock(self.budget)
        bad, began = 0, time.monotonic()
        for epoch, batch in self._batches():
            loss = self.step(batch)
            keeper.note_step(self.steps, loss)
            yield self._progress(epoch, loss)
            bad = 0 if math.isfinite(loss) else bad + 1
            if bad:
                yield Notice(f"step {self.steps}: the loss is {loss} on {', '.join(batch.cases)}; the step is skipped")
            if bad >= _NON_FINITE_IN_A_ROW:
                keeper.write_last(self.spec_now())  # finite still: those steps changed nothing
                raise InputError(
                    f"the loss was not finite for {bad} steps, last on {', '.join(batch.cases)}: look at those "
                    f"images, or lower learning_rate; the last checkpoint is {keeper.last_path}"
                )
            if self.steps == _STEPS_TO_TIME and validation:
                pace = (time.monotonic() - began) / (_STEPS_TO_TIME * self.config.batch_size)
                validation = yield from self._affordable(validation, clock, pace)
            if should_stop() or self.budget.fraction(self.steps) >= 1:
                break
            if validation and clock.is_due(self.steps):
                since = time.monotonic()
                yield from self._validate(epoch, validation, keeper, self.precision)
                clock.done(self.steps, time.monotonic() - since)
        yield from self._end(epoch, [] if should_stop() else validation, keeper)

    def _affordable(
        self, validation: list[Case], clock: ValidationClock, seconds_per_patch: float
    ) -> Generator[Event, None, list[Case]]:
        """The validation cases that a budget in minutes has time for, judged by the pace of the first steps."""
        # A window through the network alone takes less than a patch through a training step.
        costs = np.cumsum([n * seconds_per_patch / 2 for n in self.validation_windows])
        count = clock.affordable(costs.tolist())
        if count < len(validation):
            yield Notice(f"validation on {count} of {len(validation)} cases: more do not fit into the minutes given")
        clock.expect(float(costs[count - 1]) if count else 0.0)
        return validation[:count]

    def _batches(self) -> Iterator[tuple[int, Batch]]:
        epoch = 0
        while True:
            for batch in self.sampler.epoch(epoch):
                yield epoch, batch
            epoch += 1

    def step(self, batch: Batch) -> float:
        """One step of the optimiser; returns the loss. A loss that is not finite changes nothing."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.budget.learning_rate(self.steps)
        self.network.train()
        images = batch.images.squeeze(2) if is_flat(self.spec) else batch.images
        classes = batch.classes.squeeze(1) if is_flat(self.spec) else batch.classes
        with torch.random.fork_rng():  # dropout draws from torch's global generator, which is the caller's
            torch.manual_seed(self.config.seed + self.steps)
            with autocast(self.device, self.precision):
                outputs = self.network(images)
        loss = deeply_supervised(outputs, classes)
        self.steps += 1
        value = float(loss.detach())
        if math.isfinite(value):
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip)
            if torch.isfinite(norm):
                self.optimiser.step()
        return value

    def _progress(self, epoch: int, loss: float) -> TrainProgress:
        # A budget in minutes has no total number of steps; its progress is counted in thousandths.
        total = self.budget.total_steps
        done = self.steps if total is not None else int(1000 * self.budget.fraction(self.steps))
        return TrainProgress(
            done,
            total or 1000,
            f"epoch {epoch + 1}",
            epoch=epoch,
            step=self.steps,
            loss=loss,
            learning_rate=self.budget.learning_rate(self.steps),
            seconds_left=self.budget.seconds_left(self.steps),
        )

    def _validate(self, epoch: int, cases: list[Case], keeper: Checkpoints, precision: str) -> Iterator[Event]:
        runner = WindowRunner(self.network, self.device, precision, is_flat(self.spec))  # type: ignore[arg-type]
        self.dice = yield from validate(cases, self.spec, runner, self.config)
        is_best = keeper.note_validation(self.steps, self.dice, self.spec_now())
        yield Validated(epoch, self.steps, self.dice, mean_of(self.dice), is_best)

    def _end(self, epoch: int, validation: list[Case], keeper: Checkpoints) -> Iterator[Event]:
        if not validation:
            keeper.finish_early(self.spec_now())
            return
        yield from self._validate(epoch, validation, keeper, self.precision)
        keeper.load_best(self.network)
        fp32 = WindowRunner(self.network, self.device, "fp32", is_flat(self.spec))
        self.dice = keeper.best_dice
        if self.precision == "bf16":
            in_bf16 = keeper.best_dice
            self.dice = yield from validate(validation, self.spec, fp32, self.config)
            as_good = all(in_bf16[k] >= self.dice[k] - _BF16_TOLERANCE for k in self.dice)
            self.spec = replace(self.spec, bf16_ok=as_good)
            yield Validated(epoch, self.steps, self.dice, mean_of(self.dice), True)
        keeper.finish(self.spec_now())


def windows_of(facts: CaseFacts, spec: ModelSpec) -> int:
    """The windows that segmenting a case takes."""
    assert spec.spacing_zyx_mm is not None, "a plan states its spacing"
    turned = facts.grid.reordered(axis_order(facts.grid, spec))
    return len(WindowGrid(model_grid(turned, spec.spacing_zyx_mm).shape, spec.patch_zyx, SegmentConfig().overlap))


def _new_network(spec: ModelSpec, seed: int, initial: Model | None) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = network_named(spec.network).build_from(spec.arguments)
    if initial is not None:
        known = initial.load_network().state_dict()
        own = network.state_dict()
        fitting = {k: v for k, v in known.items() if k in own and own[k].shape == v.shape}
        network.load_state_dict(fitting, strict=False)
    return network
