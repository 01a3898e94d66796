"""One file = one model: a `.safetensors` file of weights with its ModelSpec in the header's metadata.

Reading a file checks everything that it claims before anything of that size is allocated, unpickles nothing and imports
neither torch nor whatever a file may name; torch is loaded with the network.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from napari_medseg.errors import InputError, ModelFileError, UnknownNameError, did_you_mean
from napari_medseg.io.disk.files import replace_bytes
from napari_medseg.io.folders import natural
from napari_medseg.models.header import FLOATS, Entry, SafetensorsHeader, read_header
from napari_medseg.models.naming import SUFFIX, is_model_path, require_model_path
from napari_medseg.models.refining import network_of
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation, TrainingRecord
from napari_medseg.volume import plain_channels

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = [
    "Channel",
    "Model",
    "ModelSpec",
    "Normalisation",
    "TrainingRecord",
    "as_model",
    "list_models",
    "load_model",
    "models_folder",
    "require_model_name",
    "write_model",
]

METADATA_KEY = "napari_medseg"
"""Under which the header's metadata holds the ModelSpec."""
FIRST = "first:"
"""Prefix of the tensors of a cascade's first stage; no module has a colon in its name."""


@dataclass(frozen=True)
class Model:
    """A model file that was opened and found right; the weights are read by `load_network`."""

    spec: ModelSpec
    path: Path
    sha256: str
    """Of the whole file, in hexadecimal; goes into every output written with the model."""

    def load_network(self, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> nn.Module:
        """The network with its weights, in eval mode. dtype: of the weights; float32 by default.

        Raises ModelFileError where the file has changed since it was opened, or a tensor's name, shape or type is not
        the network's.
        """
        return self._load(self.spec, "", device, dtype)

    def load_first(self, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> nn.Module:
        """The network of a cascade's first stage; as `load_network`."""
        assert self.spec.first is not None, "the model is a cascade"
        return self._load(self.spec.first.model, FIRST, device, dtype)

    def _load(self, spec: ModelSpec, prefix: str, device: str | torch.device, dtype: torch.dtype | None) -> nn.Module:
        import safetensors.torch
        import torch

        blob = _read(self.path)
        if hashlib.sha256(blob).hexdigest() != self.sha256:
            raise ModelFileError(f"{self.path}: the file has changed since it was opened: open the model again")
        _require_fit(self.path, self.spec, _header(self.path, io.BytesIO(blob), len(blob)))
        network = _unallocated(spec).to(dtype or torch.float32).to_empty(device=device)
        tensors = safetensors.torch.load(blob)
        network.load_state_dict({name: tensors[prefix + name] for name in network.state_dict()}, strict=True)
        return network.eval()


def load_model(path_or_name: str | Path) -> Model:
    """Open a model file, or the model of that name in the models folder. Loads no torch.

    Raises ModelFileError with one line for whatever is not a model file of this project.
    """
    try:
        path = _find(path_or_name)
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            spec = _spec(path, _header(path, file, size))
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except ModelFileError:
        raise
    except OSError as error:
        raise ModelFileError(f"{path_or_name}: cannot be read: {error.strerror or error}") from error
    return Model(spec, path, sha256)


def as_model(model: Model | str | Path) -> Model:
    """The model itself, or the one of that path or name."""
    return model if isinstance(model, Model) else load_model(model)


def require_model_name(path: Path) -> None:
    """InputError unless a model may be written under this name."""
    if path.suffix != SUFFIX:
        raise InputError(f"{path}: a model is written as {SUFFIX}; name it {path.with_suffix(SUFFIX).name}")


def write_model(path: str | Path, spec: ModelSpec, state_dict: Mapping[str, torch.Tensor]) -> Model:
    """Write a model file in one piece: until it is complete and on the disk, an older one stays.

    Raises ModelFileError for another suffix than .safetensors or a state that is not the network's, FileError where the
    file cannot be written.
    """
    import safetensors.torch

    path = Path(path)
    require_model_path(path, ModelFileError)
    if not path.parent.is_dir():
        raise ModelFileError(f"{path}: cannot be written: there is no folder {path.parent}")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state_dict.items()}
    blob = safetensors.torch.save(tensors, metadata={METADATA_KEY: spec.to_json()})
    _require_fit(path, spec, _header(path, io.BytesIO(blob), len(blob)))
    replace_bytes(path, blob)
    return Model(spec, path, hashlib.sha256(blob).hexdigest())


def models_folder() -> Path:
    """Where models named without a path are looked for: $MEDSEG_MODELS, else the user's data folder. May not exist."""
    import platformdirs

    named = os.environ.get("MEDSEG_MODELS")
    return Path(named) if named else platformdirs.user_data_path("napari-medseg") / "models"


def list_models() -> list[Path]:
    """The model files in the models folder, in the natural order of their names; they are not opened."""
    found = [path for path in models_folder().glob("*") if is_model_path(path) and path.is_file()]
    return sorted(found, key=lambda path: natural(path.name))


def _find(path_or_name: str | Path) -> Path:
    """The file that a path, or a name in the models folder, stands for."""
    path = Path(path_or_name)
    if path.is_file():
        return path
    if path.exists():
        raise ModelFileError(f"{path}: a model is a {SUFFIX} file; this is a folder or a device")
    if len(path.parts) != 1:
        raise ModelFileError(f"{path}: no such file")
    models = list_models()
    named = next((model for model in models if path.name in (model.name, model.stem)), None)
    if named is not None:
        return named
    known = [model.stem for model in models]
    wanted = path.stem if is_model_path(path) else path.name
    hint, names = did_you_mean(wanted, known), ", ".join(known) or "none"
    raise ModelFileError(f"{path}: no such file, and no such model in {models_folder()}: {hint}models there: {names}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror or error}") from error


def _header(path: Path, file: BinaryIO, size: int) -> SafetensorsHeader:
    try:
        return read_header(file, size)
    except ValueError as error:
        raise ModelFileError(f"{path}: not a model file ({SUFFIX}): {error}") from None


def _spec(path: Path, header: SafetensorsHeader) -> ModelSpec:
    document = header.metadata.get(METADATA_KEY)
    if document is None:
        raise ModelFileError(
            f"{path}: a safetensors file, but it has no ModelSpec (metadata key {METADATA_KEY}): not a model that this "
            f"project wrote"
        )
    try:
        return ModelSpec.from_json(document)
    except (InputError, UnknownNameError) as error:
        raise ModelFileError(f"{path}: its ModelSpec is refused: {error}") from None


def _unallocated(spec: ModelSpec) -> nn.Module:
    """The network with shapes and types only, on torch's meta device."""
    import torch

    with torch.device("meta"):
        return network_of(spec)


def _expected(spec: ModelSpec, prefix: str = "") -> dict[str, Entry]:
    """The tensors of a model's network, and of the one before it in a cascade."""
    first = {} if spec.first is None else _expected(spec.first.model, FIRST)
    return first | {
        prefix + name: Entry("F32" if tensor.is_floating_point() else "I64", tuple(tensor.shape))
        for name, tensor in _unallocated(spec).state_dict().items()
    }


def _require_fit(path: Path, spec: ModelSpec, header: SafetensorsHeader) -> None:
    """Raise ModelFileError, naming the first tensor, unless the file holds exactly the networks' state."""
    expected = _expected(spec)
    for name, entry in expected.items():
        found = header.tensors.get(name)
        if found is None or found.shape != entry.shape or not _same_kind(found.dtype, entry.dtype):
            raise ModelFileError(
                f"{path}: does not fit network {spec.network}: tensor {name}: expected {entry}, found "
                f"{found or 'none'}: the weights are of another network or other arguments"
            )
    surplus = next((name for name in header.tensors if name not in expected), None)
    if surplus is not None:
        raise ModelFileError(f"{path}: does not fit network {spec.network}: tensor {surplus[:80]!r} is not one of its")


def _same_kind(found: str, expected: str) -> bool:
    return found == expected or (found in FLOATS and expected in FLOATS)


def about(model: Model) -> str:
    """What a model says of itself, in one line: what for, which images, which licence."""
    spec = model.spec
    images = ", ".join(map(_kind_of, spec.channels, plain_channels(len(spec.channels))))
    parts = (spec.description, f"images: {images}", spec.licence and f"licence: {spec.licence}")
    return " ".join("; ".join(part.strip().rstrip(".") for part in parts if part).split())


def _kind_of(channel: Channel, plain_name: str) -> str:
    """Which images a channel takes. plain_name: what it is called where nobody named it."""
    kind = "" if channel.modality == "other" else channel.modality
    if channel.name in (plain_name, kind):
        return kind or "any but CT"
    return f"{channel.name} ({kind})" if kind else channel.name
