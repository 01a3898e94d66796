"""Mutations of configs of bundles and plans of nnU-Net: each is understood, or refused in one line."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import zoo
from napari_medseg.errors import MedsegError
from napari_medseg.foreign.documents import Resolver, read_document
from napari_medseg.foreign.monai.networks import network_of
from napari_medseg.foreign.monai.outputs import output_of, postprocessing_of, sliding_of
from napari_medseg.foreign.monai.transforms import preprocessing_of
from napari_medseg.foreign.nnunet.plans import configuration_of
from napari_medseg.models.several import as_models
from napari_medseg.models.spec import ModelSpec
from nnunet_peer import PLANS

ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 3, 2**31, 10**400, 1.5, -0.0, 1e308, "", "x", "\0", "é" * 50, [], [[]], {}, {"a": []}),
    *("@bundle_root", "@nothing", "@network_def", "@network_def#channels", "$1 + 1", "$[1] * 3", "$@a + 1", "%x.json"),
    *("$__import__('os').system('true')", "$(" * 90, "$torch.load(@bundle_root)['x']", "$len(5)", "$1/0", "${}", "$"),
    *([1, 2, 3], [1] * 40, [None] * 3, ["a", "b"], {"_target_": "UNet"}, [[1, 2], [3]], 2**63, "True", "nan"),
)


def mutated(draw: random.Random, document: Any) -> Any:
    """A copy with one to three values replaced, removed or moved."""
    made = copy.deepcopy(document)
    for _ in range(draw.randint(1, 3)):
        owner, key = draw.choice(list(_places(made)))
        action = draw.random()
        if action < 0.6:
            owner[key] = copy.deepcopy(draw.choice(ODD))
        elif action < 0.8:
            other, place = draw.choice(list(_places(made)))
            owner[key] = copy.deepcopy(other[place])
        elif isinstance(owner, dict):
            del owner[key]
        else:
            owner.insert(key, copy.deepcopy(draw.choice(ODD)))
        if not isinstance(made, dict) or not made:
            return copy.deepcopy(document)
    return made


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        for key, inner in list(value.items()):
            yield value, key
            yield from _places(inner)
    elif isinstance(value, list):
        for k, inner in enumerate(value):
            yield value, k
            yield from _places(inner)


def understand_bundle(document: Any) -> None:
    """What `import_bundle` does with a config, but for the weights."""
    path = Path("inference.json")
    resolver = Resolver(path, {**document, "bundle_root": "."})
    part = resolver.part("preprocessing")
    prepared = preprocessing_of(path, part.get("transforms") if isinstance(part, dict) else part, resolver)
    after = resolver.part("postprocessing")
    found = postprocessing_of(path, resolver, after.get("transforms") if isinstance(after, dict) else after)
    inferer = resolver.part("inferer")
    sliding_of(path, resolver.deep("inferer", inferer))
    _, arguments = network_of(path, resolver.deep("network_def", document.get("network_def")))
    outputs, dims = arguments["out_channels"], arguments["spatial_dims"]
    assert isinstance(outputs, int)
    assert isinstance(dims, int)
    prepared.sized(dims)
    output_of(found, {}, outputs)


def understand_plans(document: Any) -> None:
    """A configuration of plans."""
    configuration_of(Path("plans.json"), document, "3d_fullres", 1, 3)


TARGETS: dict[str, tuple[Any, Callable[[Any], None]]] = {
    **{
        name: (zoo.config_of(bundle, small=True), understand_bundle)
        for name, bundle in zoo.BUNDLES.items()
        if "dints_space" not in bundle.more
    },
    "plans": (dict(PLANS), understand_plans),
}


def fuzz(count: int, seed: int = 0) -> dict[str, int]:
    """{"understood" or "refused": how many} of `count` mutations; whatever else is raised goes on."""
    draw, done = random.Random(seed), {"understood": 0, "refused": 0}
    targets = list(TARGETS.values())
    for k in range(count):
        document, understand = targets[k % len(targets)]
        changed = mutated(draw, document)
        try:
            understand(changed)
            done["understood"] += 1
        except MedsegError as error:
            _require_line(error)
            done["refused"] += 1
        except Exception as error:
            raise AssertionError(f"mutation {k} of seed {seed}: {json.dumps(changed)[:3000]}") from error
    return done


def fuzz_texts(count: int, folder: Path, seed: int = 0) -> int:
    """Cut, repeat and replace parts of JSON and YAML texts; how many were read as documents."""
    draw, read = random.Random(seed), 0
    for k in range(count):
        suffix = (".json", ".yaml")[k % 2]
        document, _ = draw.choice(list(TARGETS.values()))
        text = json.dumps(document)[: draw.randint(20, 4000)] if k % 4 < 2 else json.dumps({"a": [1, {"b": None}]})
        for _ in range(draw.randint(1, 5)):
            at = draw.randrange(len(text) + 1)
            piece = draw.choice(
                ["{", "}", "[" * 40, "&a ", "*a", "!!int ", '"', "\\u0000", "\t", "9" * 30, ": ", "- ", "\n"]
            )
            text = text[:at] + piece + text[at + draw.randint(0, 4) :]
        path = folder / f"config{suffix}"
        path.write_text(text)
        try:
            read_document(path)
            read += 1
        except MedsegError as error:
            _require_line(error, path.name)
    return read


def fuzz_specs(count: int, text: str, seed: int = 0) -> int:
    """Mutations of the document of a ModelSpec; how many were read."""
    draw, read, document = random.Random(seed), 0, json.loads(text)
    for _ in range(count):
        changed = mutated(draw, document)
        try:
            ModelSpec.from_json(json.dumps(changed))
            read += 1
        except MedsegError as error:
            _require_line(error)
    return read


def fuzz_sets(count: int, path: Path, seed: int = 0) -> int:
    """Mutations of a set of models, whose members are beside its path; how many were read."""
    draw, read, document = random.Random(seed), 0, json.loads(path.read_text())
    for _ in range(count):
        path.write_text(json.dumps(mutated(draw, document)))
        try:
            as_models(path)
            read += 1
        except MedsegError as error:
            _require_line(error, path.parent.name)  # of the set, or of the member that is at fault
    return read


def _require_line(error: MedsegError, name: str = "") -> None:
    told = str(error)
    assert "\n" not in told, f"not one line: {told}"
    assert len(told) < 2000, f"a long line: {told}"
    assert name in told, f"does not name the file: {told}"
