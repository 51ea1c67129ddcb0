"""Time a window and a whole case: bare backbone, context and paper's head, on torch and on OpenVINO.

    python Testing/Benchmarks/speed.py [--threads 1] [--repeat 3] [--output FOLDER]

The shipped model on parts of the sample image of five sizes, from the image in memory to maps and classes in memory.
"Augmentation" is the baseline of that name: the plain pass and 5 over augmented copies, turned back and averaged;
"ensemble" is 5 networks, each loaded apart (of the same weights, which time does not depend on). Both run on the same
engine as ours, on the sizes of at most `MOST_PASSES_WINDOWS` windows. Seconds are those of the processor, the least of
all repeats, all jobs of a size taking turns, because the machine may be shared; freed memory is kept, as in every run.
The bare backbone and the paper's head are compiled for OpenVINO here. Exits 1 when a whole case with uncertainty on
OpenVINO takes more than the bare backbone on torch without oneDNN, or when the other ways take less than 4.5 times as
long.
"""

import argparse
import copy
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer")]

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402
import torch  # noqa: E402
from scipy.special import softmax  # noqa: E402

from SegWithUCore.inference.engines.base import WindowRunner  # noqa: E402
from SegWithUCore.inference.engines.compiled_graphs import add_graphs  # noqa: E402
from SegWithUCore.inference.engines.openvino_engine import settings  # noqa: E402
from SegWithUCore.inference.engines.openvino_import import import_openvino  # noqa: E402
from SegWithUCore.inference.engines.torch_engine import BackboneAlone, TorchWindows  # noqa: E402
from SegWithUCore.inference.model import Model  # noqa: E402
from SegWithUCore.inference.preprocessing import network_input  # noqa: E402
from SegWithUCore.inference.segment import segment_images  # noqa: E402
from SegWithUCore.inference.sliding_window import WindowPlan, stitched  # noqa: E402
from SegWithUCore.inference.uncertainty_maps import resample_to_grid  # noqa: E402
from SegWithUCore.io.roi import RegionOfInterest, voxel_box  # noqa: E402
from SegWithUCore.io.volume import read_image  # noqa: E402
from SegWithUCore.models.bundle import Bundle, as_further, read_bundle, write_bundle_json  # noqa: E402
from SegWithUCore.models.bundle_network import load_network  # noqa: E402
from SegWithUCore.models.input_spec import InputSpec  # noqa: E402
from SegWithUCore.network.graph import with_pooled_norms  # noqa: E402
from SegWithUCore.util.memory import keep_freed_memory  # noqa: E402
from SegWithUCore.util.processor import use_threads  # noqa: E402
from SegWithULab.benchmark.baselines.augmentation import PASSES as AUGMENTED  # noqa: E402
from SegWithULab.benchmark.baselines.augmentation import Augmentation  # noqa: E402
from SegWithULab.benchmark.baselines.base import PassAverage  # noqa: E402

SHIPPED = ROOT / "Resources" / "Models" / "hippocampus"
SAMPLE = ROOT / "Resources" / "SampleData" / "MNI152_T1_1mm.nii.gz"
CENTRE = (-28.0, -22.0, -14.0)
SIZES = ((36, 50, 36), (48, 64, 48), (64, 64, 64), (80, 80, 80), (96, 96, 96))
MOST_PASSES_WINDOWS = 8
AT_LEAST = 4.5
BEFORE = "torch bare, without oneDNN"
"""The yardstick: what the bare backbone took before torch's small feature maps went to oneDNN."""
MEMBERS = 5
PASSES = (f"augmentation, {1 + AUGMENTED} passes", f"ensemble of {MEMBERS}")


def _segmented(image: sitk.Image, model: Model) -> None:
    segment_images([image], model)


def main() -> int:
    """Measure, write the results and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--output", type=Path, default=ROOT / "Testing" / "Benchmarks" / "results")
    options = parser.parse_args()
    use_threads(options.threads)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        models, bare = opened(Path(folder))
        window = windows(models, bare, options.repeat)
        cases = [whole_case(size, models, bare, options.repeat) for size in SIZES]
    record = {
        "threads": options.threads,
        "repeat": options.repeat,
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {name.split()[0]: model.engine.identity()["version"] for name, model in models.items()},
        "window": window,
        "cases": cases,
    }
    (options.output / "speed.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    page = table(record)
    (options.output / "speed.md").write_text(page, encoding="utf-8")
    print(page)
    return int(not all(kept(case["seconds"]) for case in cases))


def kept(seconds: dict[str, float]) -> bool:
    """Whether the aims hold for one size."""
    ours = seconds["openvino context"]
    passes = [value for name, value in seconds.items() if name.startswith("openvino") and name.endswith(PASSES)]
    return ours <= seconds[BEFORE] and all(value >= AT_LEAST * ours for value in passes)


def opened(folder: Path) -> tuple[dict[str, Model], dict[str, WindowRunner]]:
    """Both heads on both engines, and the bare backbone on both."""
    bundle = read_bundle(SHIPPED)
    shutil.copytree(SHIPPED, folder / "paper")
    heads = {head.name: head for head in bundle.heads}
    papers = (replace(as_further(bundle), default=False), replace(heads["paper"], default=True, calibration=None))
    plain = replace(
        bundle, heads=papers, graphs=None, display=None, metrics=None, calibration=heads["paper"].calibration
    )
    paper = add_graphs(write_bundle_json(plain, folder / "paper"), folder / "paper")
    models = {
        f"{engine} {name}": Model(which, engine=engine)
        for name, which in {"context": bundle, "paper": paper}.items()
        for engine in ("torch", "openvino")
    }
    network = models["torch context"].network
    backbones: dict[str, WindowRunner] = {
        BEFORE: TorchWindows(BackboneAlone(load_network(bundle).backbone)),
        "torch bare": TorchWindows(BackboneAlone(network.backbone)),
        "openvino bare": BareGraph(with_pooled_norms(network).backbone, bundle.input),
    }
    return models, backbones


class BareGraph:
    """The backbone alone, compiled by OpenVINO."""

    def __init__(self, backbone: torch.nn.Module, spec: InputSpec) -> None:
        openvino = import_openvino()
        example = torch.zeros(1, len(spec.channels), *spec.window_zyx)
        with torch.no_grad():
            graph = openvino.convert_model(backbone.eval(), example_input=example, input=[list(example.shape)])
        self._core, self._graph = openvino.Core(), graph
        self._compile()

    def _compile(self) -> None:
        threads = int(os.environ["OMP_NUM_THREADS"])
        self._request = self._core.compile_model(self._graph, "CPU", settings(threads)).create_infer_request()

    def again(self) -> "BareGraph":
        """Compile the same graph once more."""
        found = copy.copy(self)
        found._compile()
        return found

    def window(self, image: np.ndarray) -> Sequence[np.ndarray]:
        """As `WindowRunner.window`."""
        found = self._request.infer([np.ascontiguousarray(image)[None]], share_inputs=True, share_outputs=True)
        return (found[0][0],)


def windows(models: dict[str, Model], bare: dict[str, WindowRunner], repeat: int) -> dict[str, float]:
    """Seconds of one window of noise, logits and responses."""
    spec = next(iter(models.values())).bundle.input
    image = np.random.default_rng(0).normal(size=(1, *spec.window_zyx)).astype(np.float32)
    jobs: dict[str, Callable[[], Any]] = {name: partial(runner.window, image) for name, runner in bare.items()}
    for name, model in models.items():
        jobs[name] = partial(model.engine.window, image)
    return least_seconds(jobs, 3 * repeat)


def whole_case(
    size: tuple[int, int, int], models: dict[str, Model], bare: dict[str, WindowRunner], repeat: int
) -> dict[str, Any]:
    """Seconds of one part of the sample."""
    image = read_image(SAMPLE)
    part = voxel_box(RegionOfInterest(CENTRE, size), image).crop(image)
    spec = next(iter(models.values())).bundle.input
    count = WindowPlan.overlapping(network_input([part], spec)[0].shape[1:], spec.window_zyx).count
    jobs: dict[str, Callable[[], Any]] = {name: partial(segmented, part, run, spec) for name, run in bare.items()}
    jobs |= {name: partial(_segmented, part, model) for name, model in models.items()}
    if count <= MOST_PASSES_WINDOWS:
        bundle = next(iter(models.values())).bundle
        for engine in ("torch", "openvino"):
            run = bare[f"{engine} bare"]
            jobs[f"{engine} {PASSES[0]}"] = partial(augmented, part, run, bundle)
            jobs[f"{engine} {PASSES[1]}"] = partial(averaged, part, members(run), spec)
    return {"size": size, "windows": count, "seconds": least_seconds(jobs, repeat)}


def logits_of(part: sitk.Image, runner: WindowRunner, spec: InputSpec) -> np.ndarray:
    """Logits on the grid of the image."""
    array, working = network_input([part], spec)
    return resample_to_grid(stitched(runner, array, spec), working, part)


def segmented(part: sitk.Image, runner: WindowRunner, spec: InputSpec) -> np.ndarray:
    """Classes, from the backbone alone."""
    classes: np.ndarray = logits_of(part, runner, spec).argmax(0).astype(np.uint8)
    return classes


@cache
def members(run: WindowRunner) -> list[WindowRunner]:
    """Return the backbone and further ones like it, each with weights of its own in memory."""
    if isinstance(run, BareGraph):
        return [run, *(run.again() for _ in range(MEMBERS - 1))]
    assert isinstance(run, TorchWindows)
    backbone = run.network.backbone
    return [run, *(TorchWindows(BackboneAlone(copy.deepcopy(backbone))) for _ in range(MEMBERS - 1))]


def averaged(part: sitk.Image, runners: Sequence[WindowRunner], spec: InputSpec) -> np.ndarray:
    """Mutual information of several networks, as the baseline averages them."""
    found = PassAverage()
    for runner in runners:
        found.add(softmax(logits_of(part, runner, spec).astype(np.float64), 0))
    return found.mutual_information()


def augmented(part: sitk.Image, runner: WindowRunner, bundle: Bundle) -> Any:
    """Run the baseline test-time augmentation on any engine."""
    array, working = network_input([part], bundle.input)
    backbone = SimpleNamespace(
        bundle=bundle, module=None, stitched=lambda _, image: stitched(runner, image, bundle.input)
    )
    plain = stitched(runner, array, bundle.input)
    chances = softmax(resample_to_grid(plain, working, part).astype(np.float64), 0)
    case = SimpleNamespace(
        images=[part],
        array=array,
        working=working,
        stitched=plain,
        probabilities=chances,
        number=0,
        classes=chances.argmax(0),
    )
    return Augmentation(backbone, mirror=True).answers(case)


def least_seconds(jobs: dict[str, Callable[[], Any]], repeat: int) -> dict[str, float]:
    """The least processor time of each job; jobs take turns, so that a busy minute hits all of them."""
    least = dict.fromkeys(jobs, float("inf"))
    for turn in range(repeat + 1):
        for name, job in jobs.items():
            begun = time.process_time()
            job()
            if turn:  # the first warms up
                least[name] = min(least[name], time.process_time() - begun)
    return least


def table(record: dict[str, Any]) -> str:
    """The record as a page of Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    names = list(record["cases"][0]["seconds"])
    lines = [
        "# What a window and a case cost",
        f"Seconds of processor time, {record['threads']} thread(s), least of {record['repeat']} (windows of "
        f"{3 * record['repeat']}), all jobs in one run and taking turns; {record['machine']}, load "
        f"{record['load'][0]} to {record['load'][1]}; {versions}. In brackets: of the bare backbone on torch "
        "without oneDNN. By "
        "`Testing/Benchmarks/speed.py`.",
        "",
        "| job | one window | "
        + " | ".join(f"{'x'.join(map(str, c['size']))} mm, {c['windows']} windows" for c in record["cases"])
        + " |",
        "|---|---:|" + "---:|" * len(record["cases"]),
    ]
    for name in names:
        cells = [cell(record["window"], name), *(cell(case["seconds"], name) for case in record["cases"])]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "| against our whole case on the same engine | " + " | ".join(PASSES) + " |", "|---|---:|---:|"]
    for engine in ("torch", "openvino"):
        ratios = []
        for title in PASSES:
            both = [(c["seconds"].get(f"{engine} {title}"), c["seconds"][f"{engine} context"]) for c in record["cases"]]
            ratios.append(" ".join(f"{passes / ours:.1f}" for passes, ours in both if passes))
        lines.append(f"| {engine}, times as long, by size | {ratios[0]} | {ratios[1]} |")
    per_window = [case["seconds"]["openvino context"] / case["windows"] for case in record["cases"]]
    words = ", ".join(f"{1000 * value:.0f}" for value in per_window)
    lines += ["", f"Seconds of a whole case on openvino with the context head, by window: {words} ms.", ""]
    return "\n".join(lines)


def cell(seconds: dict[str, float], name: str) -> str:
    """One figure, and its share of the bare backbone on torch."""
    if name not in seconds:
        return ""
    return f"{seconds[name]:.3f} ({seconds[name] / seconds[BEFORE]:.2f})"


if __name__ == "__main__":
    sys.exit(main())
