"""Time what the uncertainty head adds to a whole case: three models on torch and on OpenVINO, in one run.

    python Testing/Benchmarks/head_cost.py [--threads 1] [--repeat 3] [--only NAME] [--output FOLDER]

The shipped model on 64 x 64 x 64 mm of the sample image, and two networks of random weights, on whose numbers time
hardly depends: the paper's DynUNet of 32 to 320 channels (window 64 x 96 x 96) and one of the shape of the hearts'
model (window 10 x 160 x 160), on noise of one window. The yardstick is the bare sliding window of the same engine:
from the image in memory to classes; ours goes on to maps and error probability. Seconds are those of the processor, the
least of all repeats, all jobs of a model taking turns, because the machine may be shared; freed memory is kept, as in
every run. Figures of models that `--only` leaves out are kept.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer")]

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402
import torch  # noqa: E402

from SegWithUCore.inference.engines.base import WindowRunner  # noqa: E402
from SegWithUCore.inference.engines.compiled_graphs import add_graphs  # noqa: E402
from SegWithUCore.inference.engines.openvino_engine import settings  # noqa: E402
from SegWithUCore.inference.engines.openvino_import import import_openvino  # noqa: E402
from SegWithUCore.inference.engines.torch_engine import BackboneAlone, TorchWindows  # noqa: E402
from SegWithUCore.inference.model import Model  # noqa: E402
from SegWithUCore.inference.preprocessing import network_input  # noqa: E402
from SegWithUCore.inference.segment import segment_images  # noqa: E402
from SegWithUCore.inference.sliding_window import stitched  # noqa: E402
from SegWithUCore.inference.uncertainty_maps import resample_to_grid  # noqa: E402
from SegWithUCore.io.roi import RegionOfInterest, voxel_box  # noqa: E402
from SegWithUCore.io.volume import read_image  # noqa: E402
from SegWithUCore.models.bundle import Bundle, HeadSpec, read_bundle, write_bundle_json  # noqa: E402
from SegWithUCore.models.bundle_network import empty_network, write_weights  # noqa: E402
from SegWithUCore.models.input_spec import InputSpec, Label  # noqa: E402
from SegWithUCore.network.graph import with_pooled_norms  # noqa: E402
from SegWithUCore.network.specs import dynunet_spec  # noqa: E402
from SegWithUCore.network.weights import unique_state  # noqa: E402
from SegWithUCore.util.memory import keep_freed_memory  # noqa: E402
from SegWithUCore.util.processor import use_threads  # noqa: E402

SHIPPED = ROOT / "Resources" / "Models" / "hippocampus"
SAMPLE = ROOT / "Resources" / "SampleData" / "MNI152_T1_1mm.nii.gz"
CENTRE = (-28.0, -22.0, -14.0)
ENGINES = ("torch", "openvino")
TAPS = ("upsamples.1.conv_block", "upsamples.2.conv_block", "output_block")


@dataclass(frozen=True)
class Shape:
    """A network of random weights.

    Attributes:
        filters: channels of its levels.
        flat: how many of them do not halve the slices' axis.
        window: x, y, z.
        features: that the head fuses.
    """

    filters: tuple[int, ...]
    flat: int
    window: tuple[int, int, int]
    features: int = 32


SHAPES = {
    "paper's": Shape((32, 64, 128, 256, 320), 0, (96, 96, 64)),
    "hearts'": Shape((16, 32, 64, 128, 192), 3, (160, 160, 10)),
}
SHAPES |= {f"{name}, 16 features": replace(shape, features=16) for name, shape in SHAPES.items()}
NAMES = ("shipped", *SHAPES)


def _segmented(image: sitk.Image, model: Model) -> None:
    segment_images([image], model)


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", choices=NAMES, action="append")
    parser.add_argument("--output", type=Path, default=ROOT / "Testing" / "Benchmarks" / "results")
    options = parser.parse_args()
    use_threads(options.threads)
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    path = options.output / "head_cost.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() and options.only else {"models": {}}
    for name in options.only or NAMES:
        with tempfile.TemporaryDirectory() as folder:
            record["models"][name] = measured(name, Path(folder), options)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    page = table(record)
    path.with_suffix(".md").write_text(page, encoding="utf-8")
    print(page)


def measured(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the bare sliding window and of a whole case, by engine, and what the head adds."""
    bundle, image = shipped() if name == "shipped" else random_model(SHAPES[name], folder)
    load = os.getloadavg()[0]
    models = {engine: Model(bundle, engine=engine) for engine in ENGINES}
    network = models["torch"].network
    bare = {
        "torch": TorchWindows(BackboneAlone(network.backbone)),
        "openvino": BareGraph(with_pooled_norms(network).backbone, bundle.input),
    }
    jobs: dict[str, Callable[[], Any]] = {}
    for engine in ENGINES:
        jobs[f"{engine} bare"] = partial(segmented, image, bare[engine], bundle.input)
        jobs[engine] = partial(_segmented, image, models[engine])
    seconds = least_seconds(jobs, options.repeat)
    return {
        "engines": {
            engine: {
                "bare": seconds[f"{engine} bare"],
                "whole": seconds[engine],
                "added": seconds[engine] / seconds[f"{engine} bare"] - 1,
            }
            for engine in ENGINES
        },
        "size_xyz": image.GetSize(),
        "window_zyx": bundle.input.window_zyx,
        "parameters": {
            "backbone": sum(tensor.numel() for tensor in network.backbone.parameters()),
            "head": sum(tensor.numel() for tensor in network.head_state().values()),
        },
        "threads": options.threads,
        "repeat": options.repeat,
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "versions": {engine: models[engine].engine.identity()["version"] for engine in ENGINES},
    }


class BareGraph:
    """The backbone alone, compiled by OpenVINO."""

    def __init__(self, backbone: torch.nn.Module, spec: InputSpec) -> None:
        openvino = import_openvino()
        example = torch.zeros(1, len(spec.channels), *spec.window_zyx)
        with torch.no_grad():
            graph = openvino.convert_model(backbone.eval(), example_input=example, input=[list(example.shape)])
        threads = int(os.environ["OMP_NUM_THREADS"])
        self._request = openvino.Core().compile_model(graph, "CPU", settings(threads)).create_infer_request()

    def window(self, image: np.ndarray) -> Sequence[np.ndarray]:
        """As `WindowRunner.window`."""
        found = self._request.infer([np.ascontiguousarray(image)[None]], share_inputs=True, share_outputs=True)
        return (found[0][0],)


def segmented(part: sitk.Image, runner: WindowRunner, spec: InputSpec) -> np.ndarray:
    """Classes on the grid of the image, from the backbone alone."""
    array, working = network_input([part], spec)
    return np.asarray(resample_to_grid(stitched(runner, array, spec), working, part).argmax(0), np.uint8)


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


def shipped() -> tuple[Bundle, sitk.Image]:
    """The shipped model and a part of the sample."""
    image = read_image(SAMPLE)
    return read_bundle(SHIPPED), voxel_box(RegionOfInterest(CENTRE, (64, 64, 64)), image).crop(image)


def random_model(shape: Shape, folder: Path) -> tuple[Bundle, sitk.Image]:
    """A bundle of random weights with graphs, and noise of one window."""
    known = read_bundle(SHIPPED)
    head = replace(known.default_head, taps=TAPS, feature_channels=shape.features)
    assert isinstance(head, HeadSpec)
    plain = replace(
        known,
        folder=folder,
        labels=(*known.labels, Label(3, "other", (0, 0, 255))),
        backbone=dynunet_spec(1, 4, shape.filters, flat_levels=shape.flat),
        heads=(head,),
        input=replace(known.input, window=shape.window, spacing_mm=None),
        graphs=None,
        metrics=None,
        ood_reference=None,
    )
    torch.manual_seed(0)
    network = empty_network(plain)
    digest = write_weights(folder, unique_state(network.backbone), {head.name: network.head_state()})
    image = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=shape.window[::-1]).astype(np.float32))
    calibration = {**(known.calibration or {})}
    calibration.pop("second_stage", None)  # which was fitted for other features
    written = write_bundle_json(replace(plain, weights_sha256=digest, calibration=calibration), folder)
    return add_graphs(written, folder), image


def table(record: dict[str, Any]) -> str:
    """The record as a page of Markdown."""
    lines = [
        "# What the uncertainty head adds to a whole case",
        "Processor seconds from the image in memory to maps and error probability, over the bare sliding window of the "
        "same engine, which ends with classes. Least of all repeats, all jobs of a model in one run and taking turns. "
        "All but the shipped model have random weights. By `Testing/Benchmarks/head_cost.py`.",
        "",
        "| model, parameters + head | case, window (zyx) | engine | bare, s | whole, s | added |",
        "|---|---|---|---:|---:|---:|",
    ]
    for name, found in record["models"].items():
        size, window = (" x ".join(map(str, each)) for each in (found["size_xyz"][::-1], found["window_zyx"]))
        parameters = f"{found['parameters']['backbone']:,} + {found['parameters']['head']:,}"
        left = f"{name}, {parameters} | {size}, {window}"
        for engine, row in found["engines"].items():
            times = f"{row['bare']:.3f} | {row['whole']:.3f} | {row['added']:+.0%}"
            lines.append(f"| {left} | {engine} {found['versions'][engine]} | {times} |")
            left = " | "
    facts = "; ".join(
        f"{name}: {found['machine']}, {found['threads']} thread(s), load {found['load'][0]} to {found['load'][1]}, "
        f"least of {found['repeat']}"
        for name, found in record["models"].items()
    )
    return "\n".join([*lines, "", f"{facts}.", ""])


if __name__ == "__main__":
    main()
