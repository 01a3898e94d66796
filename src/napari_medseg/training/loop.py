"""A network in training: its steps, its validations, its record."""

from __future__ import annotations

import importlib.metadata
import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from napari_medseg._version import __version__
from napari_medseg.architectures.modes import in_mode
from napari_medseg.config import Precision, SegmentConfig, TrainConfig
from napari_medseg.errors import InputError
from napari_medseg.events import Event, Notice, TrainProgress, Validated
from napari_medseg.inference.device import Machine, autocast, has_fast_bf16
from napari_medseg.inference.plan import ImageFacts, resolve
from napari_medseg.inference.predictor import Predictor
from napari_medseg.models.file import FIRST, Model
from napari_medseg.models.spec import ModelSpec
from napari_medseg.registry import network as network_named
from napari_medseg.training.budget import Budget, ValidationClock
from napari_medseg.training.cases import Case, PreparedCase
from napari_medseg.training.checkpoint import Checkpoints
from napari_medseg.training.losses import deeply_supervised, full_size
from napari_medseg.training.patches import Batch, PatchSampler
from napari_medseg.training.plan import CaseFacts, patches_at_once
from napari_medseg.training.validate import mean_of, validate

_NON_FINITE_IN_A_ROW = 10
_STEPS_TO_TIME = 4
_BF16_TOLERANCE = 0.001

ShouldStop = Callable[[], bool]


class Fit:
    """A network in training: its weights, its optimiser and where its patches come from."""

    def __init__(
        self,
        spec: ModelSpec,
        config: TrainConfig,
        device: torch.device,
        cases: list[PreparedCase],
        *,
        initial: Model | None,
        asked: float,
        first: Predictor | None,
    ) -> None:
        self.spec, self.config, self.device, self.first = spec, config, device, first
        self.network = _new_network(spec, config.seed, initial).to(device)
        self._stages = _stages_of(in_mode(self.network, spec.mode, spec.patch_zyx[0]))
        self._stage, self.volumes = self._stages[0]
        """The stage that is trained, and the network, or that part of it, as one of volumes."""
        self._stage_dice: dict[str, float] = {}
        _channels_last(self.network)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            fused=device.type != "mps",
        )
        assert spec.spacing_zyx_mm is not None, "a plan states its spacing"
        batch = replace(config, batch_size=config.batch_size * patches_at_once(spec))
        self.sampler = PatchSampler(cases, spec.patch_zyx, spec.spacing_zyx_mm, batch, device)
        self.budget = Budget(config, self.sampler.steps_per_epoch(), started=asked)
        self.precision = config.precision
        if self.precision == "auto":
            self.precision = "bf16" if has_fast_bf16(device) else "fp32"
        self.steps = self._validated_step = 0
        self.dice: dict[int, float] = {}
        self.validation_windows: list[int] = []
        """Per validation case, the windows that it takes."""

    def state(self) -> dict[str, torch.Tensor]:
        """The weights by name, those of the stage before among them."""
        first = {} if self.first is None else self.first.network.state_dict()
        return {**self.network.state_dict(), **{FIRST + name: tensor for name, tensor in first.items()}}

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
        scores |= {f"dice mean of stage {name}": dice for name, dice in self._stage_dice.items()}
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
            if self._next_stage() != self._stage:
                yield from self._enter(self._next_stage(), epoch, validation, keeper)
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

    def _next_stage(self) -> str:
        """The stage that is due: each has the same share of the budget."""
        passed = int(self.budget.fraction(self.steps) * len(self._stages))
        return self._stages[min(passed, len(self._stages) - 1)][0]

    def _enter(self, stage: str, epoch: int, validation: list[Case], keeper: Checkpoints) -> Iterator[Event]:
        """Validate the stage that is over, for comparison, and go on with the next."""
        if validation:
            if self._validated_step != self.steps:
                yield from self._validate(epoch, validation, keeper, self.precision)
            self._stage_dice[self._stage] = mean_of(self.dice)
        over = f"mean Dice {mean_of(self.dice):.4f}" if validation else "not validated"
        yield Notice(f"step {self.steps}: stage {self._stage} is trained ({over}); now stage {stage}")
        self._stage, self.volumes = stage, dict(self._stages)[stage]
        self.dice = {}

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
        with torch.random.fork_rng():  # dropout draws from torch's global generator, which is the caller's
            torch.manual_seed(self.config.seed + self.steps)
            with autocast(self.device, self.precision):
                outputs = self.volumes(batch.images)
        halo = (batch.classes.shape[1] - full_size(outputs).shape[2]) // 2  # slices that were neighbours only
        classes = batch.classes[:, halo : batch.classes.shape[1] - halo]
        loss = deeply_supervised(outputs, classes, network_named(self.spec.network).supervision)
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

    def _predictor(self, precision: Precision) -> Predictor:
        return Predictor(self.volumes, self.device, precision, self.first)

    def _validate(self, epoch: int, cases: list[Case], keeper: Checkpoints, precision: Precision) -> Iterator[Event]:
        self.dice = yield from validate(cases, self.spec, self._predictor(precision), self.config)
        self._validated_step = self.steps
        # What an earlier stage finds says nothing of the whole network, which is what is kept.
        is_last = self._stage == self._stages[-1][0]
        is_best = is_last and keeper.note_validation(self.steps, self.dice, self.spec_now())
        yield Validated(epoch, self.steps, self.dice, mean_of(self.dice), is_best)

    def _end(self, epoch: int, validation: list[Case], keeper: Checkpoints) -> Iterator[Event]:
        if self._stage != self._stages[-1][0]:
            yield Notice(f"ended in stage {self._stage}: the rest of the network has learned nothing; train it longer")
            self._stage, self.volumes = self._stages[-1]  # what is kept, and so what is validated
            self.dice = {}
        if not validation:
            keeper.finish_early(self.spec_now())
            return
        yield from self._validate(epoch, validation, keeper, self.precision)
        keeper.load_best(self.network)
        self.dice = keeper.best_dice
        if self.precision == "bf16":
            in_bf16 = keeper.best_dice
            self.dice = yield from validate(validation, self.spec, self._predictor("fp32"), self.config)
            as_good = all(in_bf16[k] >= self.dice[k] - _BF16_TOLERANCE for k in self.dice)
            self.spec = replace(self.spec, bf16_ok=as_good)
            yield Validated(epoch, self.steps, self.dice, mean_of(self.dice), True)
        keeper.finish(self.spec_now())


def _channels_last(network: nn.Module) -> None:
    """Lay convolutions out as they compute fastest; a hybrid has 2D and 3D ones."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in network.parameters():
        if parameter.ndim in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.ndim])


def _stages_of(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """What is trained in turn: the parts that a network names, or the network."""
    stages = getattr(network, "training_stages", None)
    return [("all", network)] if stages is None else list(stages().items())


def windows_of(facts: CaseFacts, spec: ModelSpec) -> int:
    """The windows that segmenting a case takes."""
    return len(resolve(ImageFacts.of(facts), spec, SegmentConfig(), Machine()).windows)


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
