"""A plan as a file: what a training will do, to look at, to change by hand, and to use again.

The JSON has the specification of the model (`models.spec`), a closed schema with bounds, and beside it what only
the training needs. A plan from a stranger is refused in one line where it holds anything else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from napari_medseg import strictjson
from napari_medseg.errors import FileError, InputError
from napari_medseg.io.disk.files import check_regular, replace_bytes
from napari_medseg.models.spec import MAX_JSON_BYTES, ModelSpec
from napari_medseg.registry import shown

SCHEMA = 1
"""Version of the document; others are refused."""
MAX_BATCH = 4096
_MAX_BYTES = MAX_JSON_BYTES + (1 << 20)
_MAX_LINES, _MAX_LINE = 64, 1000
_MAX_NUMBER = 1e18
_KEYS = ("napari_medseg_plan", "model", "batch_size", "estimate", "tried", "notes")


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a training by the plan costs here. 0 where it was not found out."""

    device: str = "cpu"
    parameters: int = 0
    memory_bytes: int = 0
    """Weights, optimiser, and what a step keeps for its way back."""
    step_seconds: float = 0.0
    """Of one step, estimated from the pace of a short one."""
    steps: int = 0
    """Steps that fit into the budget; 0 for a budget in epochs."""

    def __post_init__(self) -> None:
        if not isinstance(self.device, str) or not 1 <= len(self.device) <= 20 or not self.device.isprintable():
            raise InputError(f"estimate device must be a short name; got {shown(self.device)}")
        for name in ("parameters", "memory_bytes", "step_seconds", "steps"):
            value = getattr(self, name)
            kinds = int | float if name == "step_seconds" else int
            if isinstance(value, bool) or not isinstance(value, kinds) or not 0 <= value <= _MAX_NUMBER:
                raise InputError(f"estimate {name} must be a number from 0 on; got {shown(value)}")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a training will do. Raises InputError for values out of bounds."""

    spec: ModelSpec
    """Network and arguments, spacing, patch, orientation, normalisation, labels; `first` is the stage at low
    resolution, where there is one."""
    batch_size: int = 2
    """Patches in a step."""
    estimate: Estimate = Estimate()
    tried: tuple[str, ...] = ()
    """The plans that were tried, a line each; the chosen one says so."""
    notes: tuple[str, ...] = ()
    """What the user should know, a line each."""

    def __post_init__(self) -> None:
        if not isinstance(self.spec, ModelSpec) or not isinstance(self.estimate, Estimate):
            raise InputError("a plan needs a ModelSpec and an Estimate")
        stages = [self.spec] if self.spec.first is None else [self.spec, self.spec.first.model]
        if any(spec.spacing_zyx_mm is None for spec in stages):
            raise InputError("a plan states its spacing: spacing_zyx_mm needs three numbers in mm")
        size = self.batch_size
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= MAX_BATCH:
            raise InputError(f"batch_size must be a whole number from 1 to {MAX_BATCH}; got {shown(size)}")
        for name in ("tried", "notes"):
            lines = getattr(self, name)
            good = isinstance(lines, tuple | list) and len(lines) <= _MAX_LINES
            if not good or not all(isinstance(line, str) and len(line) <= _MAX_LINE for line in lines):
                raise InputError(f"{name} must be at most {_MAX_LINES} lines of text; got {shown(lines)}")
            object.__setattr__(self, name, tuple(lines))

    def describe(self) -> tuple[str, ...]:
        """The plan in lines for the user."""
        return (*_spec_lines(self.spec, self.batch_size), *_cost_lines(self.estimate), *self.tried, *self.notes)

    def to_json(self) -> str:
        """The document of a plan file."""
        content = {
            "napari_medseg_plan": SCHEMA,
            "model": json.loads(self.spec.to_json()),
            "batch_size": self.batch_size,
            "estimate": {f.name: getattr(self.estimate, f.name) for f in fields(Estimate)},
            "tried": list(self.tried),
            "notes": list(self.notes),
        }
        return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan in a document. Raises InputError for anything but the closed schema."""
        if len(text) > _MAX_BYTES:
            raise InputError(f"a plan is at most {_MAX_BYTES} bytes long")
        try:
            document = strictjson.parse(text)
        except ValueError as error:
            raise InputError(f"not JSON: {error}") from None
        members = _members("a plan", document, _KEYS)
        if type(members["napari_medseg_plan"]) is not int or members["napari_medseg_plan"] != SCHEMA:
            raise InputError(f"a plan needs napari_medseg_plan {SCHEMA}; a newer napari-medseg may read others")
        estimate = _members("estimate", members["estimate"], [f.name for f in fields(Estimate)])
        return cls(
            spec=ModelSpec.from_json(json.dumps(members["model"])),
            batch_size=members["batch_size"],
            estimate=Estimate(**estimate),
            tried=members["tried"],
            notes=members["notes"],
        )

    def write(self, path: str | Path) -> None:
        """Write the plan, atomically. Raises FileError."""
        replace_bytes(Path(path), self.to_json().encode())


def load_plan(path: str | Path) -> Plan:
    """The plan in a file. Raises FileError, in one line, for a file that is no plan."""
    file = Path(path)
    if check_regular(file) > _MAX_BYTES:
        raise FileError(f"{file}: too long for a plan: at most {_MAX_BYTES} bytes")
    try:
        return Plan.from_json(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise FileError(f"{file}: not text in UTF-8: a plan is JSON") from None
    except (InputError, LookupError) as error:
        raise FileError(f"{file}: not a plan: {error}") from None
    except OSError as error:
        raise FileError(f"{file}: cannot be read: {error.strerror or error}") from error


def as_plan(plan: Plan | str | Path) -> Plan:
    """A plan, or the one in a file."""
    return plan if isinstance(plan, Plan) else load_plan(plan)


def _members(what: str, value: object, keys: Any) -> Mapping[str, Any]:
    """A JSON object with exactly these keys."""
    if not isinstance(value, dict):
        raise InputError(f"{what} must be a JSON object; got {shown(value)}")
    unknown, missing = sorted(set(value) - set(keys)), [key for key in keys if key not in value]
    if unknown:
        raise InputError(f"{what} has an unknown key {shown(unknown[0])}: known are {', '.join(keys)}")
    if missing:
        raise InputError(f"{what} lacks the key {missing[0]}")
    return value


def _spec_lines(spec: ModelSpec, batch_size: int) -> tuple[str, ...]:
    patch, spacing = "x".join(map(str, spec.patch_zyx)), ", ".join(f"{s:.3g}" for s in spec.spacing_zyx_mm or ())
    rules = ", ".join(f"{c.name} {n.kind}" for c, n in zip(spec.channels, spec.normalisation, strict=True))
    lines = [
        f"{spec.network} in mode {spec.mode}: patches of {patch} at {spacing} mm, {batch_size} in a step, axes "
        f"{spec.orientation}",
        f"channels: {rules}; labels: {', '.join(f'{i} {name}' for i, name in spec.labels.items())}",
    ]
    if spec.recipe.mirror_axes:
        lines.append(f"mirrored along {spec.recipe.axes_told}")
    own = {name: v for name, v in spec.arguments.items() if isinstance(v, tuple)}
    lines += [f"{name}: {', '.join(map(str, value))}" for name, value in own.items()]
    if spec.first is not None:
        lines += [f"first stage ({spec.first.guide}): {line}" for line in _spec_lines(spec.first.model, batch_size)[:1]]
    return tuple(lines)


def _cost_lines(estimate: Estimate) -> tuple[str, ...]:
    if not estimate.memory_bytes:
        return ()
    steps = f", {estimate.steps} steps in the minutes given" if estimate.steps else ""
    return (
        f"{estimate.device}: {estimate.parameters:,} parameters, {estimate.memory_bytes / 2**30:.2f} GiB, about "
        f"{estimate.step_seconds:.3g} s a step{steps}",
    )
