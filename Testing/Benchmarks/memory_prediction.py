"""Compare predicted with used memory: small shapes and whole volumes, each in a process of its own.

    python Testing/Benchmarks/memory_prediction.py [--only NAME ...] [--output FOLDER]

Used is the largest sum of what the command and the process that reads images for it hold at once, looked at every
5 ms, and no less than the peak that the system has for the command (Linux). Images are tiles of the sample, made in a
temporary folder, 1 GB for the largest. Whole volumes are segmented by a small network of random weights in windows of
256 x 256 x 48 (a context head of 17 responses), of which 1 voxel in 100 is uncertain; the largest takes an hour. Rows
that `--only` leaves out are kept. Exits 1 where less than 0.8 of what was used had been predicted, or where 512 x 512 x
600 voxels take 4 GB with 3 classes or 5 GB with 25.
"""

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer"), str(ROOT / "Testing" / "helpers")]

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402

SAMPLE = ROOT / "Resources" / "SampleData" / "MNI152_T1_1mm.nii.gz"
SHIPPED = ROOT / "Resources" / "Models" / "hippocampus"
LEAST = 0.8
WINDOW = (256, 256, 48)
LARGEST = (512, 512, 600)
MOST_MB = {3: 4000, 25: 5000}
LOOK_EVERY_S = 0.005
RUN = """
import json, os, sys
from SegWithUCore.inference import memory_prediction as memory
check = memory.RunMemory.check
def told(self, file=None):
    with open(os.environ["PREDICTED"], "w") as out:
        json.dump({"total": self.needed + self.program, "program": self.program, "stages": self.stages}, out)
    check(self, file)
memory.RunMemory.check = told
from SegWithUCore.cli.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@dataclass(frozen=True)
class Shape:
    """One run: size (i, j, k), voxel type, file suffix, edges of the region in mm (None: the whole image).

    With a model for whole heads the image is the sample itself, in which the model finds its box. With `classes` the
    model is a small network of so many.
    """

    size: tuple[int, int, int]
    kind: str
    suffix: str
    region: tuple[int, int, int] | None = None
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)
    channels: int = 1
    options: tuple[str, ...] = ()
    head_model: str | None = None
    classes: int | None = None


SMALL = (40, 50, 40)
SHAPES = {
    "300^3 int16 .nii.gz, small region": Shape((300,) * 3, "int16", ".nii.gz", SMALL),
    "300^3 float64 .nrrd, small region, image kept": Shape(
        (300,) * 3, "float64", ".nrrd", SMALL, options=("--include-image",)
    ),
    "500^3 uint8 .nrrd, small region": Shape((500,) * 3, "uint8", ".nrrd", SMALL),
    "700^3 int16 .nii, small region": Shape((700,) * 3, "int16", ".nii", SMALL),
    "700^3 uint8 .mha, small region": Shape((700,) * 3, "uint8", ".mha", SMALL),
    "64^3 float32, whole": Shape((64,) * 3, "float32", ".nii.gz"),
    "96^3 int16, whole": Shape((96,) * 3, "int16", ".nii.gz"),
    "128^3 float32, whole": Shape((128,) * 3, "float32", ".nrrd"),
    "192^3 int16, whole": Shape((192,) * 3, "int16", ".nii.gz"),
    "128^3 int16, whole, paper head": Shape((128,) * 3, "int16", ".nii.gz", options=("--head", "paper")),
    "160 x 160 x 60 of 0.7 x 0.7 x 2 mm, resampled": Shape((160, 160, 60), "int16", ".nii.gz", None, (0.7, 0.7, 2.0)),
    "256^3 int16, region of 96 x 96 x 96 mm": Shape((256,) * 3, "int16", ".nii.gz", (96, 96, 96)),
    "200^3 int16, two channels, whole, small network": Shape((200,) * 3, "int16", ".nii.gz", channels=2),
    "the sample, model brain": Shape((197, 233, 189), "uint8", ".nii.gz", head_model="brain"),
}
SHAPES |= {
    f"{' x '.join(map(str, size))}, {classes} classes, {engine}": Shape(
        size, "int16", ".nii", options=("--engine", engine), classes=classes
    )
    for size in ((128, 128, 100), (256, 256, 150), (384, 384, 300), (512, 512, 144), LARGEST)
    for engine in ("torch", "openvino")
    for classes in MOST_MB
}


def main() -> int:
    """Measure, write the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SHAPES, help="these shapes")
    parser.add_argument("--output", type=Path, default=ROOT / "Testing" / "Benchmarks" / "results")
    parser.add_argument("--write-bundle", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write_bundle:
        write_bundle(Path(options.write_bundle[0]), int(options.write_bundle[1]))
        return 0
    record = options.output / "memory_prediction.json"
    known = {row["shape"]: row for row in json.loads(record.read_text(encoding="utf-8"))} if record.is_file() else {}
    for name in options.only or SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            known[name] = {"shape": name, **measured(SHAPES[name], Path(folder))}
        print(json.dumps(known[name]), file=sys.stderr, flush=True)
        rows = [known[each] for each in SHAPES if each in known]
        record.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n", encoding="utf-8")
        record.with_suffix(".md").write_text(_report(rows), encoding="utf-8")
    print(_report(rows))
    return int(not all(_kept(SHAPES[row["shape"]], row) for row in rows))


def _kept(shape: Shape, row: dict[str, Any]) -> bool:
    most = MOST_MB[shape.classes] if shape.classes and shape.size == LARGEST else row["used_mb"]
    return bool(row["ratio"] >= LEAST and row["used_mb"] <= most)


def measured(shape: Shape, folder: Path) -> dict[str, Any]:
    """Run the command once: megabytes predicted and used, their ratio, seconds."""
    names = [folder / f"channel{number}{shape.suffix}" for number in range(shape.channels)]
    files = [SAMPLE] if shape.head_model else [make_image(shape, name) for name in names]
    arguments = [*_arguments(shape, files, folder), "--output", str(folder / "out"), "--device", "cpu"]
    told = folder / "predicted.json"
    begun = time.monotonic()
    used = peak_bytes([sys.executable, "-c", RUN, *arguments], {"PREDICTED": str(told)})
    found = json.loads(told.read_text(encoding="utf-8"))
    largest = max(found["stages"], key=found["stages"].__getitem__)
    return {
        "predicted_mb": round(found["total"] / 1e6),
        "used_mb": round(used / 1e6),
        "ratio": round(found["total"] / used, 3),
        "program_mb": round(found["program"] / 1e6),
        "largest_stage": largest,
        "seconds": round(time.monotonic() - begun, 1),
    }


def make_image(shape: Shape, path: Path) -> Path:
    """The sample over and over, brought to the grey values that the voxel type holds."""
    source = sitk.GetArrayFromImage(sitk.ReadImage(str(SAMPLE)))
    wanted = shape.size[::-1]
    array = np.tile(source, [-(-n // m) for n, m in zip(wanted, source.shape, strict=True)])
    array = np.ascontiguousarray(array[: wanted[0], : wanted[1], : wanted[2]]).astype(shape.kind)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(shape.spacing)
    image.SetDirection([-1, 0, 0, 0, -1, 0, 0, 0, 1])
    sitk.WriteImage(image, str(path), useCompression=path.suffix == ".gz")
    return path


def _arguments(shape: Shape, files: Sequence[Path], folder: Path) -> list[str]:
    if shape.head_model is not None:
        return ["segment", str(SAMPLE), "--model", str(SHIPPED.with_name(shape.head_model))]
    model, further = str(SHIPPED), []
    if shape.channels > 1:
        from segwithu_command import tiny_bundle

        names = [f"T{number + 1}" for number in range(shape.channels)]
        # Not calibrated: of random weights nearly every voxel would be uncertain, and the list of them larger than all.
        model = str(tiny_bundle(folder / "model", channels=names, calibrated=False))
        further = [f"--channel={name}={file}" for name, file in zip(names[1:], files[1:], strict=True)]
    if shape.classes:
        model = str(folder / "model")
        subprocess.run([sys.executable, __file__, "--write-bundle", model, str(shape.classes)], check=True)
        return ["segment", str(files[0]), "--model", model, "--unlike-training", *shape.options]
    sides = [n * step for n, step in zip(shape.size, shape.spacing, strict=True)]
    # The shipped model places boxes in a whole head; a region that holds the whole image has all of it segmented.
    region = shape.region or [side + 2 for side in sides]
    roi = ["--roi", ",".join(f"{value:g}" for value in [*(side / 2 for side in sides), *region])]
    return ["segment", str(files[0]), "--model", model, "--unlike-training", *further, *roi, *shape.options]


def write_bundle(folder: Path, classes: int) -> None:
    """A small network of random weights, calibrated so that 1 voxel in 100 of the sample is uncertain; with graphs."""
    import torch

    from SegWithUCore.inference.engines.compiled_graphs import add_graphs
    from SegWithUCore.inference.model import Model
    from SegWithUCore.inference.segment import segment_images
    from SegWithUCore.models.bundle import Bundle, HeadSpec, read_bundle, write_bundle_json
    from SegWithUCore.models.bundle_network import empty_network, write_weights
    from SegWithUCore.models.input_spec import Label
    from SegWithUCore.network.specs import dynunet_spec
    from SegWithUCore.network.weights import unique_state

    torch.set_num_threads(1)
    folder.mkdir(parents=True)
    real = read_bundle(SHIPPED)
    taps = ("upsamples.0.conv_block", "upsamples.1.conv_block", "output_block")
    bundle = Bundle(
        folder=folder,
        about={**real.about, "name": folder.name},
        input=replace(real.input, window=WINDOW, spacing_mm=(1.0, 1.0, 1.0)),
        labels=tuple(Label(number, f"structure {number}", (number, 90, 90)) for number in range(classes)),
        backbone=dynunet_spec(1, classes, [2, 2, 4]),
        heads=(HeadSpec("context", "context", taps, 4, 8, aleatoric=True),),
        weights_sha256="0" * 64,
        calibration=None,
    )
    torch.manual_seed(0)
    network = empty_network(bundle)
    weights = write_weights(folder, unique_state(network.backbone), {"context": network.head_state()})
    bundle = write_bundle_json(replace(bundle, weights_sha256=weights), folder)
    model = Model(bundle)
    part = sitk.ReadImage(str(SAMPLE), sitk.sitkFloat32)[60:124, 60:124, 60:108]
    ranking = np.asarray(segment_images([part], model)[0].ranking)
    low, rare, high = (float(value) for value in np.quantile(ranking, (0.0, 0.99, 1.0)))
    spread = np.linspace(0, 1, 101).tolist()
    calibration = {
        "cases": 1,
        "error_probability": {"ranking": [low, rare, high], "probability": [0.0, 0.25, 0.6], "cases": 1},
        "sources": {"model": spread, "data": spread},
        "tempering_scale": 1.0,
    }
    add_graphs(write_bundle_json(replace(bundle, calibration=calibration), folder), folder)


def peak_bytes(command: Sequence[str], environment: dict[str, str]) -> int:
    """Run a command to its end: the most memory that it and its children held at once.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    core = str(ROOT / "SegWithUSlicer")
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": core, **environment}, stdout=subprocess.DEVNULL
    )
    most = 0
    while True:
        most = max(most, _resident(process.pid), _own_peak(process.pid))
        if process.poll() is not None:
            break
        time.sleep(LOOK_EVERY_S)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return most


def _own_peak(pid: int) -> int:
    """The system's own record of a process; that of `wait4` would hold what this process had when it forked."""
    with contextlib.suppress(OSError, StopIteration):  # it has just ended
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return 0


def _resident(pid: int) -> int:
    """Bytes that a process and its children hold now."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except (OSError, IndexError):  # it has just ended
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(_resident(int(child)) for child in children)


def _report(rows: Sequence[dict[str, Any]]) -> str:
    header = ["shape", "predicted MB", "used MB", "predicted / used", "program MB", "largest stage", "seconds"]
    lines = ["# Memory of a run, predicted and used", "", (__doc__ or "").split("\n\n")[2].replace("\n", " "), ""]
    lines += ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    lines += ["| " + " | ".join(str(value) for value in row.values()) + " |" for row in rows]
    low, high = min(row["ratio"] for row in rows), max(row["ratio"] for row in rows)
    lines += ["", f"Predicted / used: {low:.2f} to {high:.2f} (wanted: at least {LEAST}).", ""]
    lines += [f"Python {platform.python_version()}, {platform.machine()}; used with its model and torch loaded.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
