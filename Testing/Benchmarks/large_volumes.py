"""Measure time and memory of whole volumes up to 512 x 512 x 600, and compare with the predicted memory.

    python Testing/Benchmarks/large_volumes.py [--only NAME ...] [--repeat-windows] [--output FOLDER]

Each run is `segwithu segment` in a process of its own, with a small network of random weights (windows of 256 x 256 x
48 voxels, a context head of 17 responses) on tiles of the sample, int16. About 1 voxel in 100 is uncertain. Memory is
the largest that the process ever held (`ru_maxrss`), and that of the process which reads the image for it; foreseen is
what the program says before it begins. With `--repeat-windows` the network runs in the first two windows alone, and
the second answer stands for all others: memory is that of a whole run, and processor time is saved on a busy machine.
Runs add to the results of earlier ones. Exits 1 where a run of 512 x 512 x 600 takes 4 GB with 3 classes or 5 GB with
25, or memory was foreseen more than 20 % wrong.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer"), str(ROOT / "Testing" / "helpers")]

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402

SAMPLE = ROOT / "Resources" / "SampleData" / "MNI152_T1_1mm.nii.gz"
SHIPPED = ROOT / "Resources" / "Models" / "hippocampus"
WINDOW = (256, 256, 48)
SIZES = ((128, 128, 100), (256, 256, 150), (384, 384, 300), (512, 512, 144), (512, 512, 600))
MOST_GB = {3: 4.0, 25: 5.0}
RIGHT = 0.2
RUN = """
import json, os, resource, sys
from SegWithUCore.inference import memory_prediction as memory
check, told = memory.RunMemory.check, {}
def listened(self, file=None):
    # What is read passes through another process.
    own = max(need for stage, need in self.stages.items() if stage != "reading")
    told.update(total=own + self.program, program=self.program, stages=self.stages)
    check(self, file)
memory.RunMemory.check = listened
if os.environ["REPEATED"] == "1":
    from SegWithUCore.inference.model import Model
    begin = Model.__init__
    def repeating(self, *arguments, **options):
        begin(self, *arguments, **options)
        run, kept = self.engine.window, [0, None]
        def window(image):
            if kept[0] < 2:  # the second time beside the sums, which are there by then
                kept[:] = kept[0] + 1, None
                kept[1] = run(image)
            return kept[1]
        self.engine.window = window
    Model.__init__ = repeating
from SegWithUCore.cli.__main__ import main
code = main(sys.argv[1:])
told["used"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
told["reader"] = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
json.dump(told, open(os.environ["TOLD"], "w"))
sys.exit(code)
"""


@dataclass(frozen=True)
class Run:
    """One run: size (i, j, k), engine, classes, prepared and laid in windows as nnU-Net does it or not."""

    size: tuple[int, int, int]
    engine: str
    classes: int
    nnunet: bool = False

    @property
    def name(self) -> str:
        """As the tables call it."""
        kind = ", nnU-Net's windows" if self.nnunet else ""
        return f"{' x '.join(map(str, self.size))}, {self.classes} classes, {self.engine}{kind}"


RUNS = {
    run.name: run
    for run in [
        *(Run(size, engine, classes) for size in SIZES for engine in ("torch", "openvino") for classes in (3, 25)),
        Run(SIZES[-1], "torch", 3, nnunet=True),
        Run(SIZES[-1], "openvino", 25, nnunet=True),
    ]
}


def main() -> int:
    """Measure, write the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=RUNS, help="these runs")
    parser.add_argument("--output", type=Path, default=ROOT / "Testing" / "Benchmarks" / "results")
    parser.add_argument("--scratch", type=Path, help="folder for images and results, a few GB")
    parser.add_argument("--models", type=Path, help="folder that keeps the models for another call")
    parser.add_argument("--repeat-windows", action="store_true", help="run the network in the first two windows alone")
    options = parser.parse_args()
    record = options.output / "large_volumes.json"
    rows = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    for name in options.only or RUNS:
        with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
            rows[name] = measured(RUNS[name], Path(folder), options)
        print(name, json.dumps(rows[name]), file=sys.stderr, flush=True)
        rows = {each: rows[each] for each in RUNS if each in rows}
        record.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        (options.output / "large_volumes.md").write_text(table(rows), encoding="utf-8")
        draw(rows, options.output / "large_volumes.png")
    print(table(rows))
    return int(not all(kept(RUNS[name], row) for name, row in rows.items()))


def kept(run: Run, row: dict[str, Any]) -> bool:
    """Whether the aims hold for one run."""
    return abs(row["foreseen_mb"] / row["used_mb"] - 1) <= RIGHT and (
        run.size != SIZES[-1] or row["used_mb"] < 1000 * MOST_GB[run.classes]
    )


def measured(run: Run, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run the command once."""
    image = make_image(run.size, folder / "image.nii")
    model = (options.models or folder) / f"{run.classes}{'_nnunet' if run.nnunet else ''}"
    if not model.exists():
        make_bundle(model, run)
    arguments = ["segment", image, "--model", model, "--engine", run.engine, "--device", "cpu", "--unlike-training"]
    told = folder / "told.json"
    begun, processor = time.monotonic(), sum(os.times()[2:4])
    call = [sys.executable, "-c", RUN, *map(str, arguments), "--output", str(folder / "out"), "--json"]
    settings = {"TOLD": str(told), "REPEATED": str(int(options.repeat_windows))}
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "SegWithUSlicer"), **settings}
    subprocess.run(call, env=environment, stdout=subprocess.DEVNULL, check=True)
    seconds = time.monotonic() - begun
    found = json.loads(told.read_text(encoding="utf-8"))
    stages, files = found["stages"], sorted((folder / "out").rglob("*"))
    case = json.loads(next(file for file in files if file.name == "case.json").read_text(encoding="utf-8"))
    return {
        "used_mb": round(found["used"] / 1e6),
        "reader_mb": round(found["reader"] / 1e6),
        "foreseen_mb": round(found["total"] / 1e6),
        "program_mb": round(found["program"] / 1e6),
        "largest_stage": max(stages, key=stages.__getitem__),
        "seconds": round(seconds, 1),
        "processor_seconds": round(sum(os.times()[2:4]) - processor, 1),
        "stages_s": {stage: round(at, 1) for stage, at in case["timings_s"].items()},
        "repeated_windows": options.repeat_windows,
        "regions": case["regions"]["count"],
        "folder_mb": round(sum(file.stat().st_size for file in files if file.is_file()) / 1e6),
    }


def make_image(size: tuple[int, int, int], path: Path) -> Path:
    """The sample over and over, int16."""
    source = sitk.GetArrayFromImage(sitk.ReadImage(str(SAMPLE))).astype(np.int16)
    wanted = size[::-1]
    tiles = np.tile(source, [-(-n // m) for n, m in zip(wanted, source.shape, strict=True)])
    image = sitk.GetImageFromArray(np.ascontiguousarray(tiles[: wanted[0], : wanted[1], : wanted[2]]))
    image.SetDirection([-1, 0, 0, 0, -1, 0, 0, 0, 1])
    sitk.WriteImage(image, str(path))
    return path


def make_bundle(folder: Path, run: Run) -> Path:
    """A small network of random weights, calibrated so that 1 voxel in 100 of the sample is uncertain; with graphs."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]; sys.path.append(sys.argv[3]); import large_volumes as own; "
        "own.write_bundle(own.Path(sys.argv[4]), own.Run((1, 1, 1), 'torch', int(sys.argv[5]), sys.argv[6] == 'True'))"
    )
    paths = [ROOT / "SegWithUSlicer", ROOT / "Testing" / "helpers", Path(__file__).parent, folder]
    arguments = [*map(str, paths), str(run.classes), str(run.nnunet)]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)
    return folder


def write_bundle(folder: Path, run: Run) -> None:
    """As `make_bundle`, in this process."""
    import torch

    from SegWithUCore.inference.engines.compiled_graphs import add_graphs
    from SegWithUCore.inference.model import Model
    from SegWithUCore.inference.segment import segment_images
    from SegWithUCore.models.bundle import Bundle, HeadSpec, read_bundle, write_bundle_json
    from SegWithUCore.models.bundle_network import empty_network, write_weights
    from SegWithUCore.models.input_spec import Label, NnunetPreparation, Normalisation
    from SegWithUCore.network.specs import dynunet_spec
    from SegWithUCore.network.weights import unique_state

    torch.set_num_threads(1)
    folder.mkdir(parents=True)
    real = read_bundle(SHIPPED)
    taps = ("upsamples.0.conv_block", "upsamples.1.conv_block", "output_block")
    how = Normalisation("volume", 0.0, 100.0) if run.nnunet else Normalisation()
    bundle = Bundle(
        folder=folder,
        about={**real.about, "name": folder.name},
        input=replace(
            real.input,
            window=WINDOW,
            spacing_mm=(1.0, 1.0, 1.0),
            normalisation=how,
            nnunet=NnunetPreparation() if run.nnunet else None,
        ),
        labels=tuple(Label(number, f"structure {number}", (number, 90, 90)) for number in range(run.classes)),
        backbone=dynunet_spec(1, run.classes, [2, 2, 4]),
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


def draw(rows: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw the memory curve: peak (points) and what was foreseen (lines) by the number of voxels."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4))
    for colour, (engine, classes) in enumerate((e, c) for e in ("torch", "openvino") for c in MOST_GB):
        wanted = [
            name for name, run in RUNS.items() if (run.engine, run.classes, run.nnunet) == (engine, classes, False)
        ]
        runs = [(np.prod(RUNS[name].size) / 1e6, rows[name]) for name in wanted if name in rows]
        voxels = [at for at, _ in runs]
        axes.plot(voxels, [row["foreseen_mb"] / 1000 for _, row in runs], f"C{colour}-", lw=1)
        axes.plot(
            voxels, [row["used_mb"] / 1000 for _, row in runs], f"C{colour}o", label=f"{engine}, {classes} classes"
        )
    axes.set(xscale="log", xlabel="million voxels", ylabel="memory, GB", ylim=(0, None))
    axes.set_title("Peak memory (points) and what was foreseen (lines)")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def table(rows: dict[str, dict[str, Any]]) -> str:
    """The rows as a page of Markdown."""
    lines = ["# Whole volumes", "", " ".join((__doc__ or "").split("\n\n")[2].split()), ""]
    header = ["run", "windows", "used MB", "foreseen MB", "foreseen / used", "reader MB", "largest stage"]
    header += ["seconds (of the processor)"]
    lines += ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for name, row in rows.items():
        cells = [name, "the second repeated" if row["repeated_windows"] else "all computed"]
        cells += [row["used_mb"], row["foreseen_mb"], f"{row['foreseen_mb'] / row['used_mb']:.2f}"]
        cells += [row["reader_mb"], row["largest_stage"], f"{row['seconds']} ({row['processor_seconds']})"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", *(f"{name}: {row['remark']}" for name, row in rows.items() if "remark" in row)]
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    lines += ["", f"{machine}, one thread, one other program on the second core.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
