"""Damaged and hostile models for fuzz.py: bundles, weights, nnU-Net result folders, checkpoints."""

import contextlib
import json
import os
import random
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from fuzz import Ended, Maker, Try, unchanged
from fuzz_images import CASE, as_json

VALUES: tuple[Any, ...] = (None, float("nan"), float("inf"), 1e308, -1, 0, "", "\x1b[31m=1+1", [], {}, True, [None],
                           2**70)  # fmt: skip
_ABOUT_ONLY = ("about", "metrics")
"""Blocks of a bundle whose texts and numbers are shown and change no result."""


def prepare(data: Path, folder: Path) -> Maker:
    """Write the bases: a tiny calibrated bundle, an nnU-Net result folder, and the bundle's result on a real crop."""
    from nnunet_results import write_result_folder
    from segwithu_command import tiny_bundle

    bundle = tiny_bundle(folder / "tiny")
    nnunet = write_result_folder(folder / "nnunet")
    image = data / "hippocampus" / "images" / f"{CASE}.nii.gz"
    unchanged(_segment(image, bundle, folder / "truth"), folder)
    truth = _volumes(folder / "truth" / CASE)
    unchanged(["import-nnunet", str(nnunet), "--output", str(folder / "imported")], folder)
    imported = _weights_hash(folder / "imported")

    def make(rng: random.Random, work: Path) -> Try:
        damage = rng.choice([*[_field] * 3, _json_text, *[_weights] * 2, _odd_bundle, *[_nnunet] * 2, _checkpoint])
        if damage is _nnunet:
            return _nnunet(rng, work, nnunet, imported)
        if damage is _checkpoint:
            return _checkpoint(rng, work)
        target = work / "model"
        shutil.copytree(bundle, target)
        what = damage(rng, target)
        output = work / "output"
        calls = [["models", "verify", str(target), "--load", "--json"], [*_segment(image, target, output), "--json"]]
        return Try("models", what, calls, [target.name], _same_result(output / CASE, truth), [output])

    return make


def _segment(image: Path, bundle: Path, output: Path) -> list[str]:
    return ["segment", str(image), "--model", str(bundle), "--output", str(output), "--unlike-training"]


def _volumes(case: Path) -> dict[str, np.ndarray]:
    names = ("segmentation", "error_probability", "ranking", "calibration")
    return {
        name: sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        for name in names
        if (path := case / f"{name}.nii.gz").is_file()
    }


def _same_result(case: Path, truth: dict[str, np.ndarray]) -> Callable[[Sequence[Ended]], bool]:
    def accepts(runs: Sequence[Ended]) -> bool:
        with contextlib.suppress(ValueError):
            json.loads((case / "case.json").read_text("utf-8"), parse_constant=_refuse)
            found = _volumes(case)
            calibrated = "error_probability" in found or "warning" in runs[-1].out.lower()
            told = calibrated or '"expected_wrong_mm3": null' in runs[-1].out
            return told and all(np.array_equal(array, truth[name]) for name, array in found.items())
        return False

    return accepts


def _refuse(literal: str) -> None:
    raise ValueError(literal)


def _places(block: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    for key, inner in block.items() if isinstance(block, dict) else enumerate(block) if isinstance(block, list) else ():
        yield from _places(inner, (*path, key))


def _changed(file: Path, path: tuple[Any, ...], value: Any) -> None:
    data = json.loads(file.read_text("utf-8"))
    block = data
    for step in path[:-1]:
        block = block[step]
    if value is ...:
        del block[path[-1]]
    else:
        block[path[-1]] = value
    file.write_text(as_json(data), "utf-8")


def _field(rng: random.Random, target: Path) -> str:
    """A field of the description replaced by what it cannot be, or gone."""
    file = target / "bundle.json"
    places = [path for path in _places(json.loads(file.read_text("utf-8"))) if len(path) < 6]
    block = rng.choice(sorted({path[0] for path in places}))
    path = rng.choice([path for path in places if path[0] == block])
    value = rng.choice([*VALUES, ...])
    if path[0] == "labels" and path[-1] == "value":
        value = rng.choice([65538, 65536, 32768, -1, 1.5, 2**40, 1])
    _changed(file, path, value)
    return f"bundle.json {'/'.join(map(str, path))} = {'gone' if value is ... else repr(value)[:40]}"


def _json_text(rng: random.Random, target: Path) -> str:
    """Text of the description that is no JSON, or more than it should be."""
    file = target / "bundle.json"
    text = file.read_text("utf-8")
    ways = {
        "cut": lambda: text[: rng.randrange(len(text))],
        "deep": lambda: text[:-2] + ', "deep": ' + "[" * 5000 + "]" * 5000 + "}",
        "list": lambda: "[1, 2]",
        "empty": lambda: "",
        "latin": lambda: text.replace('"task": "', '"task": "\udce4'),
        "brace": lambda: text.replace('"input": {', '"input": }'),
    }
    way = rng.choice(sorted(ways))
    file.write_bytes(ways[way]().encode("utf-8", "surrogateescape"))
    return f"bundle.json {way}"


def _weights(rng: random.Random, target: Path) -> str:
    """Weights that are damaged, or whole and not numbers (hash and all)."""
    from safetensors.torch import load_file, save_file

    from SegWithUCore.models.bundle import file_sha256

    file = target / "weights.safetensors"
    content = bytearray(file.read_bytes())
    way = rng.choice(["bit", "cut", "longer", "header", "nan", "inf", "type", "shape", "missing", "extra"])
    if way == "bit":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif way == "cut":
        del content[rng.randrange(len(content)) :]
    elif way == "longer":
        content += bytes(8)
    elif way == "header":
        content[:8] = struct.pack("<Q", rng.choice([0, 7, 2**40, 2**63]))
    else:
        tensors = load_file(file)
        name = rng.choice(sorted(tensors))
        tensor = tensors[name].clone()
        if way in {"nan", "inf"}:
            tensor.view(-1)[rng.randrange(tensor.numel())] = float(way)
        elif way == "type":
            tensor = tensor.to(torch.int32)
        elif way == "shape":
            tensor = tensor.reshape(-1)[:-1].clone() if tensor.numel() > 1 else torch.zeros(3)
        if way == "missing":
            del tensors[name]
        else:
            tensors[name if way != "extra" else f"{name}.extra"] = tensor
        save_file(tensors, file)
        _changed(target / "bundle.json", ("weights_sha256",), file_sha256(file))
        return f"weights {way} in {name}"
    file.write_bytes(content)
    if way in {"cut", "longer", "header"}:
        _changed(target / "bundle.json", ("weights_sha256",), file_sha256(file))
    return f"weights {way}"


def _odd_bundle(rng: random.Random, target: Path) -> str:
    """Files of a bundle that are none."""
    file = target / rng.choice(["bundle.json", "weights.safetensors"])
    way = rng.choice(["gone", "folder", "pipe", "device", "empty"])
    file.unlink()
    if way == "folder":
        file.mkdir()
    elif way == "pipe":
        os.mkfifo(file)
    elif way == "device":
        file.symlink_to("/dev/zero")
    elif way == "empty":
        file.write_bytes(b"")
    return f"{file.name} is {way}"


def _weights_hash(bundle: Path) -> str:
    return str(json.loads((bundle / "bundle.json").read_text("utf-8"))["weights_sha256"])


def _nnunet(rng: random.Random, work: Path, source: Path, imported: str) -> Try:
    """An nnU-Net result folder whose plans or checkpoint cannot be true.

    Its checkpoints hold many tensors under several names; damage to a name that is not read does no harm.
    """
    target = work / source.name
    shutil.copytree(source, target)
    file = target / rng.choice(["plans.json", "plans.json", "dataset.json", "fold_0/checkpoint_final.pth"])
    if file.suffix == ".pth":
        content = torch.load(file, weights_only=False)  # our own, made a moment ago
        name = rng.choice(sorted(content["network_weights"]))
        way = rng.choice(["nan", "inf", "complex", "gone", "shape"])
        tensor = content["network_weights"][name]
        changed = {"nan": tensor * float("nan"), "inf": tensor + float("inf"), "complex": tensor.to(torch.complex64)}
        content["network_weights"][name] = changed.get(way, tensor.reshape(-1)[:1])
        if way == "gone":
            del content["network_weights"][name]
        torch.save(content, file)
        what = f"{name} {way}"
    else:
        data = json.loads(file.read_text("utf-8"))
        places = [path for path in _places(data) if _matters(path)]
        path = rng.choice(places)
        value = rng.choice([None, float("nan"), 1e308, -1, 0, "", [], {}, 99])
        _changed(file, path, value)
        what = f"{file.name} {'/'.join(map(str, path))} = {value!r}"
    bundle = work / "bundle"
    calls = [["import-nnunet", str(target), "--output", str(bundle), "--json"],
             ["models", "verify", str(bundle), "--load", "--json"]]  # fmt: skip
    names = [target.name, file.name]
    return Try("models", f"nnU-Net: {what}", calls, names, lambda runs: _weights_hash(bundle) == imported, [bundle])


def _matters(path: tuple[Any, ...]) -> bool:
    """Whether an nnU-Net field decides how images are prepared or what the network is."""
    words = {"spacing", "patch_size", "strides", "kernel_sizes", "features_per_stage", "n_stages", "labels",
             "normalization_schemes", "channel_names"}  # fmt: skip
    return any(step in words for step in path)


class _Runs:
    """A pickle that would run a command."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, Any]:
        return self.call


def _checkpoint(rng: random.Random, work: Path) -> Try:
    """A checkpoint that would run code, or is none."""
    file, mark = work / "checkpoint.pth", work / "ran"
    ways: dict[str, Any] = {
        "os.system": _Runs(os.system, f"touch {mark}"),
        "exec": _Runs(exec, f"open({str(mark)!r}, 'w')"),
        "eval": _Runs(eval, f"open({str(mark)!r}, 'w')"),
        "object array": np.array([{}], dtype=object),
        "complex": torch.zeros(3, dtype=torch.complex64),
        "nan": torch.full((3,), float("nan")),
        "list": [1, 2],
    }
    way = rng.choice([*sorted(ways), "legacy", "cut", "text"])
    if way == "text":
        file.write_text("no checkpoint")
    elif way == "legacy":
        torch.save({"state_dict": {"a": ways["os.system"]}}, file, _use_new_zipfile_serialization=False)
    else:
        torch.save({"state_dict": {"conv.weight": ways.get(way, torch.zeros(3))}}, file)
        if way == "cut":
            file.write_bytes(file.read_bytes()[:-50])
    recipe = Path(__file__).resolve().parents[2] / "Resources" / "Recipes" / "hippocampus.json"
    bundle = work / "bundle"
    options = ["--kind", "weights", "--recipe", str(recipe), "--output", str(bundle), "--json"]
    call = ["import-checkpoint", str(file), *options]
    return Try("models", f"checkpoint {way}", [call], [file.name], outputs=[bundle], must_not_exist=mark)
