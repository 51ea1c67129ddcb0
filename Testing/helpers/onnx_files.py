"""ONNX files of tiny networks, written by hand as protobuf, so that tests need neither torch nor the package onnx."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

FLOAT, FLOAT16, INT64 = 1, 10, 7
THRESHOLD, STEEPNESS = 0.5, 8.0
Shape = Sequence[int | str]
ABOUT = {
    "name": "bright", "version": "1.0.0", "task": "What is bright.", "licence_weights": "MIT", "licence_data": "MIT",
    "citation": "none",
}  # fmt: skip


def number(value: int) -> bytes:
    """A varint."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def field(place: int, value: int | bytes | str) -> bytes:
    """One field of a message: a number, or what has a length."""
    if isinstance(value, int):
        return number(place << 3) + number(value)
    content = value.encode() if isinstance(value, str) else value
    return number(place << 3 | 2) + number(len(content)) + content


def tensor(name: str, values: np.ndarray, elsewhere: str = "") -> bytes:
    """A TensorProto; `elsewhere` names the file that has its content."""
    kind = {"float32": FLOAT, "float16": FLOAT16, "int64": INT64}[values.dtype.name]
    begin = b"".join(field(1, size) for size in values.shape) + field(2, kind) + field(8, name)
    if elsewhere:
        return begin + field(13, field(1, "location") + field(2, elsewhere)) + field(14, 1)
    return begin + field(9, values.tobytes())


def port(name: str, shape: Shape, kind: int = FLOAT) -> bytes:
    """A ValueInfoProto; sizes that are names are dynamic."""
    sizes = b"".join(field(1, field(1, size) if isinstance(size, int) else field(2, size)) for size in shape)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, sizes)))


def node(kind: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: int) -> bytes:
    """A NodeProto with integer attributes."""
    found = b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, kind) + field(7, domain)
    return found + b"".join(
        field(5, field(1, key) + field(3, value) + field(20, 2)) for key, value in attributes.items()
    )


def network(
    window_zyx: Shape = (8, 16, 16),
    classes: int = 2,
    channels: int = 1,
    softmax: bool = False,
    last: tuple[str, str] | None = None,
    elsewhere: str = "",
    outputs: Sequence[str] = ("logits",),
    gives: int = FLOAT,
    bias: float = 0.0,
) -> bytes:
    """A convolution of size 1 that calls a voxel above `THRESHOLD` class 1: logits, or with `softmax` probabilities.

    With one class the structure alone has a channel. `last` is a further operation (kind, domain), and of several
    outputs the first is nonsense. `bias` is that of the first class.
    """
    flat = [1] * len(window_zyx)
    weights, offsets = np.zeros((classes, channels, *flat), np.float32), np.zeros(classes, np.float32)
    offsets[0] = bias
    weights[-1 if classes < 3 else 1, 0], offsets[-1 if classes < 3 else 1] = STEEPNESS, -STEEPNESS * THRESHOLD
    nodes, name = [node("Conv", ["image", "weights", "offsets"], "found")], "found"
    if softmax:
        nodes.append(node("Sigmoid", [name], "shares") if classes == 1 else node("Softmax", [name], "shares", axis=1))
        name = "shares"
    if last:
        nodes.append(node(last[0], [name], "changed", last[1]))
        name = "changed"
    nodes += [node("Neg" if other != outputs[-1] else "Identity", [name], other) for other in outputs]
    graph = b"".join(field(1, each) for each in nodes) + field(2, "tiny")
    graph += field(5, tensor("weights", weights, elsewhere)) + field(5, tensor("offsets", offsets))
    graph += field(11, port("image", ["batch" if isinstance(window_zyx[0], str) else 1, channels, *window_zyx]))
    graph += b"".join(field(12, port(each, [1, classes, *window_zyx], gives)) for each in outputs)
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 17))


def specification(window: Sequence[int] = (16, 16, 8), labels: int = 2, **changes: Any) -> dict[str, Any]:
    """What belongs beside `network()`."""
    names = ["background", "bright", "brighter", "brightest"]
    shown = [{"value": value, "name": names[value], "color": [80 * value, 0, 0]} for value in range(labels)]
    given = {
        "channels": ["image"], "modality": "MR", "orientation": "RAS", "spacing_mm": [1, 1, 1], "window": list(window),
        "normalisation": {"kind": "none", "low": 0, "high": 100, "mean": 0, "std": 1},
    }  # fmt: skip
    return {"about": ABOUT, "input": given, "labels": shown, "output": "logits", **changes}


def write_network(folder: Path, content: bytes | None = None, spec: dict[str, Any] | None = None) -> Path:
    """Write `bright.onnx` with its specification beside it."""
    file = folder / "bright.onnx"
    file.write_bytes(network() if content is None else content)
    file.with_suffix(".json").write_text(json.dumps(spec or specification()), encoding="utf-8")
    return file


def write_cases(folder: Path) -> None:
    """Noisy balls with references, `cases.csv` with their roles, and `image.nii.gz`."""
    lines, random = ["case,role"], np.random.default_rng(0)
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for number in range(12):
        z, y, x = np.mgrid[:16, :20, :24]
        ball = (z - 8) ** 2 + (y - random.uniform(8, 12)) ** 2 + (x - random.uniform(9, 15)) ** 2 < 36
        values = 0.25 + 0.5 * ball + random.normal(0, 0.12, ball.shape)
        for part, array in (("images", values.astype(np.float32)), ("labels", ball.astype(np.uint8))):
            sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / part / f"case_{number}.nii.gz"))
        lines.append(f"case_{number},{'calibration' if number < 10 else 'test'}")
    (folder / "cases.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    shutil.copy(folder / "images" / "case_0.nii.gz", folder / "image.nii.gz")
