"""Make the sample that comes with the package: a phantom, its labels, and a network trained on other phantoms.

python sample_data/make_sample.py            # writes beside this file; takes some minutes on one CPU core
python sample_data/make_sample.py --no-model # image and labels only; takes a second
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import torch
from tqdm import tqdm

import napari_medseg as ms
from napari_medseg.events import TrainProgress
from napari_medseg.models.file import write_model
from napari_medseg.models.spec import Channel, ModelSpec, Normalisation
from napari_medseg.registry import network
from napari_medseg.sample import LABELS, phantom

HERE = Path(__file__).resolve().parent
SAMPLE_SEED = 0
FEATURES = (8, 16, 32, 64)
TRAINING_SEEDS = range(1, 25)
TRAINING = {"epochs": 30, "learning_rate": 4e-3, "val": 0, "seed": 0, "device": "cpu", "precision": "fp32"}


def untrained(path: Path) -> ms.Model:
    """A small 3D U-Net with random weights, for CT on the grid of the sample: two megabytes at most."""
    volume, _ = phantom("ct", seed=SAMPLE_SEED)
    chosen = network("unet3d")
    classes = len(LABELS) + 1
    spec = ModelSpec(
        network=chosen.name,
        arguments=chosen.arguments(in_channels=1, out_channels=classes, channels=FEATURES),
        channels=(Channel(name="CT", modality="CT"),),
        labels=LABELS,
        patch_zyx=(32, 48, 64),
        spacing_zyx_mm=volume.grid.spacing,
        orientation=volume.grid.orientation,
        normalisation=(Normalisation(kind="clip_zscore", low=-160.0, high=320.0, mean=40.0, std=80.0),),
        mode="3d",
        deep_supervision=chosen.deep_supervision,
        licence="BSD-3-Clause",
        description="Organs of the abdominal CT phantoms of napari-medseg; of no use on patients.",
    )
    torch.manual_seed(0)
    return write_model(path, spec, chosen.build(in_channels=1, out_channels=classes, channels=FEATURES).state_dict())


def train(out: Path) -> ms.Model:
    """Train the small network on phantoms with other seeds than the sample."""
    cases = [phantom("ct", seed=seed) for seed in TRAINING_SEEDS]
    with tempfile.TemporaryDirectory() as folder:
        start = untrained(Path(folder) / "untrained.safetensors")
        trained = Path(folder) / out.name  # the trainer keeps its checkpoints beside it
        events = ms.iter_train(cases, out=trained, init=start, **TRAINING)
        with tqdm(unit="step") as bar:
            for event in events:
                if isinstance(event, TrainProgress):
                    bar.total = event.total
                    bar.set_postfix(loss=f"{event.loss:.3f}", refresh=False)
                    bar.update(event.done - bar.n)
        shutil.copyfile(trained, out)
    return ms.load_model(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-model", action="store_true", help="do not make the model again")
    options = parser.parse_args()
    volume, reference = phantom("ct", seed=SAMPLE_SEED)
    ms.write(HERE / "phantom_ct.nii.gz", volume)
    ms.write(HERE / "phantom_ct_labels.nii.gz", reference)
    if options.no_model:
        return
    torch.set_num_threads(1)  # another order of sums would give other weights
    model = train(HERE / "phantom_ct.safetensors")
    scores = ms.evaluate(prediction=ms.segment(volume, model), reference=reference)
    tqdm.write(scores.to_frame()[["name", "dice", "asd_mm", "hd95_mm"]].to_string(index=False))


if __name__ == "__main__":
    main()
