from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from napari_medseg import registry
from napari_medseg.errors import FileError, ModelFileError
from napari_medseg.models.file import (
    METADATA_KEY,
    Channel,
    Model,
    ModelSpec,
    Normalisation,
    TrainingRecord,
    as_model,
    list_models,
    load_model,
    models_folder,
    write_model,
)

State = dict[str, torch.Tensor]


def small_spec(**changes: Any) -> ModelSpec:
    """A tiny U-Net with batch norm (so that there are buffers too), but for the changes."""
    members: dict[str, Any] = {
        "network": "unet3d",
        "arguments": {"channels": (2, 4), "out_channels": 3, "norm": "batch"},
        "channels": (Channel(name="T1", modality="MR"),),
        "labels": {1: "anterior", 2: "posterior"},
        "patch_zyx": (8, 8, 8),
        "spacing_zyx_mm": (1.0, 1.0, 1.0),
        "orientation": "SAR",
        "normalisation": (Normalisation(kind="zscore"),),
        "deep_supervision": True,
        "training": TrainingRecord(cases=4, seed=7, validation={"dice": 0.9}),
        "licence": "CC0-1.0",
    }
    return ModelSpec(**{**members, **changes})


def small_state(seed: int = 0) -> State:
    torch.manual_seed(seed)
    network = registry.network("unet3d").build_from(small_spec().arguments)
    network(torch.randn(2, 1, 8, 8, 8))
    return network.state_dict()


def header_of(path: Path) -> dict[str, Any]:
    blob = path.read_bytes()
    header: dict[str, Any] = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
    return header


def forge(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Rewrite a model file's ModelSpec, as no code of ours would."""
    tensors = safetensors.torch.load(path.read_bytes())
    document = json.loads(header_of(path)["__metadata__"][METADATA_KEY])
    change(document)
    path.write_bytes(safetensors.torch.save(tensors, metadata={METADATA_KEY: json.dumps(document)}))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "small.safetensors"


@pytest.fixture
def model(path: Path) -> Model:
    return write_model(path, small_spec(), small_state())


def test_loading_gives_what_writing_gave(model: Model, path: Path) -> None:
    assert load_model(path) == model
    assert load_model(str(path)) == model
    assert model.sha256 == sha256(path.read_bytes()).hexdigest()
    assert pickle.loads(pickle.dumps(model)) == model


def test_weights_and_buffers_come_back_bit_for_bit(model: Model) -> None:
    state = small_state()
    found = model.load_network().state_dict()
    assert {t.dtype for t in state.values()} == {torch.float32, torch.int64}, "buffers are part of it"
    assert list(found) == list(state)
    assert all(found[name].dtype == t.dtype and torch.equal(found[name], t) for name, t in state.items())


def test_network_is_ready_to_use(model: Model) -> None:
    network = model.load_network()
    assert not any(module.training for module in network.modules())
    assert all(p.requires_grad for p in network.parameters())
    assert network(torch.zeros(1, 1, 5, 8, 9)).shape == (1, 3, 5, 8, 9)


def test_loading_a_network_leaves_the_random_numbers_alone(model: Model) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    model.load_network()
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_can_be_wanted_in_another_type(model: Model) -> None:
    network = model.load_network(dtype=torch.bfloat16)
    assert {p.dtype for p in network.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_weights_stored_in_another_float_come_as_float32(path: Path, dtype: torch.dtype) -> None:
    state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in small_state().items()}
    found = write_model(path, small_spec(), state).load_network().state_dict()
    assert all(torch.equal(found[name], t.to(found[name].dtype)) for name, t in state.items())
    assert {t.dtype for t in found.values()} == {torch.float32, torch.int64}


def test_any_memory_layout_is_written(path: Path) -> None:
    state = small_state()
    last = {n: t.contiguous(memory_format=torch.channels_last_3d) if t.ndim == 5 else t for n, t in state.items()}
    found = write_model(path, small_spec(), last).load_network().state_dict()
    assert all(torch.equal(found[name], t) for name, t in state.items())


def test_metadata_is_one_json_document_under_the_projects_key(model: Model, path: Path) -> None:
    metadata = header_of(path)["__metadata__"]
    assert list(metadata) == [METADATA_KEY] == ["napari_medseg"]
    assert json.loads(metadata[METADATA_KEY])["labels"] == {"1": "anterior", "2": "posterior"}


def test_a_file_that_has_changed_is_not_mixed_with_the_spec_of_before(model: Model, path: Path) -> None:
    write_model(path, small_spec(), small_state(seed=1))
    with pytest.raises(ModelFileError, match=r"small\.safetensors: the file has changed since it was opened"):
        model.load_network()


def test_a_file_that_is_gone_is_said_so(model: Model, path: Path) -> None:
    path.unlink()
    with pytest.raises(ModelFileError, match=r"small\.safetensors: cannot be read: No such file"):
        model.load_network()


# Files that are no models


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")


@pytest.mark.parametrize(
    ("name", "write", "reason"),
    [
        pytest.param("m.pt", zipped, "PyTorch checkpoints are; pickled weights are never opened", id="checkpoint"),
        pytest.param("m.pkl", lambda p: p.write_bytes(pickle.dumps({})), "a Python pickle", id="pickle"),
        pytest.param("m.safetensors", lambda p: p.write_bytes(b""), "it is empty", id="empty"),
        pytest.param("m.safetensors", lambda p: p.write_text("text" * 99), "does not fit in 396 bytes", id="text"),
        pytest.param("m.safetensors", lambda p: p.mkdir(), "this is a folder", id="folder"),
        pytest.param(
            "m.safetensors",
            lambda p: p.write_bytes(safetensors.torch.save({"w": torch.zeros(3)}, metadata={"format": "pt"})),
            r"it has no ModelSpec \(metadata key napari_medseg\)",
            id="foreign safetensors",
        ),
    ],
)
def test_refuses_what_is_no_model(tmp_path: Path, name: str, write: Callable[[Path], object], reason: str) -> None:
    write(tmp_path / name)
    with pytest.raises(ModelFileError, match=reason) as refused:
        load_model(tmp_path / name)
    assert str(refused.value).startswith(str(tmp_path / name))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("keep", [4, 100, -1], ids=["in the length", "in the header", "in the weights"])
def test_refuses_a_cut_file(model: Model, path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelFileError, match="cut"):
        load_model(path)


def put(key: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda document: document.update({key: value})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(put("network", "os.system"), "unknown network 'os.system': choose one of", id="unknown network"),
        pytest.param(put("code", "x"), "unknown key 'code'", id="unknown key"),
        pytest.param(lambda d: d.pop("labels"), "lacks the key labels", id="missing key"),
        pytest.param(lambda d: d["arguments"].update(channels=[2048] * 9), "must hold 2 to 8", id="arguments too many"),
        pytest.param(lambda d: d["arguments"].update(out_channels=10**9), "must lie in 1 to 4096", id="out of bounds"),
        pytest.param(lambda d: d["arguments"].update(_target_="x"), "no argument '_target_'", id="unknown argument"),
        pytest.param(put("bf16_ok", float("nan")), "NaN is no JSON number", id="NaN"),
    ],
)
def test_refuses_a_forged_spec(model: Model, path: Path, change: Callable[[dict[str, Any]], None], reason: str) -> None:
    with pytest.raises(ModelFileError, match=reason) as refused:
        load_model(forge(path, change))
    assert str(refused.value).startswith(f"{path}: its ModelSpec is refused: ")


@pytest.mark.parametrize(
    ("channels", "reason"),
    [
        pytest.param([2, 8], r"tensor encoder\.1.*expected F32 \[8, 2, 3, 3, 3\], found F32 \[4, 2", id="wider"),
        pytest.param([2, 4, 8], r"tensor encoder\.2.*found none", id="deeper"),
        pytest.param([2048] * 8, r"expected F32 \[2048, 1, 3, 3, 3\]", id="200 GB of weights"),
    ],
)
def test_refuses_weights_of_other_arguments_before_allocating(
    model: Model, path: Path, channels: list[int], reason: str
) -> None:
    forged = load_model(forge(path, lambda d: d["arguments"].update(channels=channels)))
    with pytest.raises(ModelFileError, match=reason) as refused:
        forged.load_network()
    assert str(refused.value).startswith(f"{path}: does not fit network unet3d")


def test_a_hostile_file_is_refused_in_little_memory(path: Path) -> None:
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 2**32))
        file.truncate(2**33)  # sparse: takes no room on the disk
    tracemalloc.start()
    with pytest.raises(ModelFileError, match="header of 4294967296 bytes is too long"):
        load_model(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_loading_takes_no_torch(model: Model, path: Path) -> None:
    code = (
        "import sys; from napari_medseg.models.file import load_model, list_models; "
        f"print(load_model({str(path)!r}).sha256); list_models(); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == (f"{model.sha256}\nFalse\n", "")


# Writing


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(lambda s: s.pop("heads.0.bias"), r"heads\.0\.bias: expected F32 \[3\], found none", id="few"),
        pytest.param(lambda s: s.update(more=torch.zeros(1)), "tensor 'more' is not one of its", id="surplus"),
        pytest.param(lambda s: s.update({"heads.0.bias": torch.zeros(4)}), r"found F32 \[4\]", id="shape"),
        pytest.param(lambda s: s.update({"heads.0.bias": torch.zeros(3).long()}), r"found I64 \[3\]", id="type"),
    ],
)
def test_refuses_to_write_what_could_not_be_loaded(path: Path, change: Callable[[State], object], reason: str) -> None:
    state = small_state()
    change(state)
    with pytest.raises(ModelFileError, match=reason):
        write_model(path, small_spec(), state)
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("name", ["model.pt", "model", "model.nii.gz"])
def test_refuses_to_write_under_another_suffix(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelFileError, match=r"a model is written as \*\.safetensors; got suffix"):
        write_model(tmp_path / name, small_spec(), small_state())


def test_refuses_to_write_where_there_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="there is no folder"):
        write_model(tmp_path / "absent" / "m.safetensors", small_spec(), small_state())


def test_a_write_that_fails_keeps_the_old_file(model: Model, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(
        FileError, match=r"small\.safetensors: cannot be written: No space left on device: it needs about \d+"
    ):
        write_model(path, small_spec(), small_state(seed=1))
    assert load_model(path) == model
    assert list(path.parent.iterdir()) == [path], "nothing is left beside it"


def test_an_older_file_is_replaced(model: Model, path: Path) -> None:
    newer = write_model(path, small_spec(description="newer"), small_state(seed=1))
    assert load_model(path) == newer != model


# The models folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("MEDSEG_MODELS", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def test_models_folder_is_the_users_unless_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert models_folder() == folder
    monkeypatch.delenv("MEDSEG_MODELS")
    assert models_folder().parts[-2:] == ("napari-medseg", "models")


def test_models_are_found_by_name(folder: Path) -> None:
    write_model(folder / "liver.safetensors", small_spec(), small_state())
    kidney = write_model(folder / "kidney.v2.safetensors", small_spec(), small_state(seed=1))
    (folder / "notes.txt").write_text("not a model")
    assert [path.name for path in list_models()] == ["kidney.v2.safetensors", "liver.safetensors"]
    assert load_model("kidney.v2") == load_model("kidney.v2.safetensors") == kidney
    with pytest.raises(ModelFileError, match=r"spleen: no such file, and no such model.*there: kidney\.v2, liver"):
        load_model("spleen")


def test_a_suffix_in_capitals_is_a_suffix(folder: Path) -> None:
    model = write_model(folder / "LIVER.SAFETENSORS", small_spec(), small_state())
    assert list_models() == [folder / "LIVER.SAFETENSORS"]
    assert load_model("LIVER") == load_model("LIVER.SAFETENSORS") == load_model(model.path) == model


def test_a_file_in_the_working_folder_comes_first(folder: Path) -> None:
    write_model(folder / "m.safetensors", small_spec(), small_state())
    here = write_model("m.safetensors", small_spec(), small_state(seed=1))
    assert load_model("m.safetensors") == here


def test_a_path_is_not_looked_for_in_the_models_folder(folder: Path) -> None:
    write_model(folder / "m.safetensors", small_spec(), small_state())
    with pytest.raises(ModelFileError, match=r"other/m\.safetensors: no such file"):
        load_model(Path("other", "m.safetensors"))


def test_an_absent_models_folder_is_empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEDSEG_MODELS", str(tmp_path / "absent"))
    assert list_models() == []
    with pytest.raises(ModelFileError, match="models there: none"):
        load_model("liver")


def test_a_name_that_no_file_can_have() -> None:
    with pytest.raises(ModelFileError, match="xxx: cannot be read: File name too long"):
        load_model("x" * 5000)


def test_as_model_takes_models_and_paths(model: Model, path: Path) -> None:
    assert as_model(model) is model
    assert as_model(path) == as_model(str(path)) == model
