"""What a head costs over the bare backbone: time and parameters, of the paper's head and of ours, all in one run.

    python Testing/Benchmarks/head_cost.py [--threads 1] [--repeat 15] [--output FOLDER]

Two backbones: the shipped one on its window of 48 x 64 x 48 voxels (zyx), and the paper's 32-320 DynUNet on
64 x 96 x 96. Untrained weights where none are shipped: time does not depend on them. The bare backbone's job ends with
the logits, a head's with its maps of the whole window, made in chunks as `segment` makes them. Seconds are those of the
CPU, the least of all repeats, because the machine may be shared; freed memory is kept, as in every run. Exits 1 when
the context head costs more than 25 % of the shipped backbone or 10 % of the paper's.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer")]

import torch  # noqa: E402
from torch import nn  # noqa: E402

from SegWithUCore.inference.engines.torch_engine import TorchEngine  # noqa: E402
from SegWithUCore.inference.uncertainty_maps import voxelwise  # noqa: E402
from SegWithUCore.memory import keep_freed_memory  # noqa: E402
from SegWithUCore.models.bundle import read_bundle  # noqa: E402
from SegWithUCore.models.bundle_network import load_network  # noqa: E402
from SegWithUCore.network.backbone_spec import dynunet_spec  # noqa: E402
from SegWithUCore.network.backbones import build_backbone  # noqa: E402
from SegWithUCore.network.segwithu import SegWithU  # noqa: E402

SHIPPED = ROOT / "Resources" / "Models" / "hippocampus"
LIMITS = {"shipped": 0.25, "paper's": 0.10}
HEADS = {"paper": ("paper", 32, 8), "context": ("context", 32, 8), "context without probes": ("context", 32, 0)}


def main() -> int:
    """Measure, write the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--output", type=Path, default=ROOT / "Testing" / "Benchmarks" / "results")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    found = {
        name: measured(backbone, taps, torch.zeros(1, 1, *window), options.repeat)
        for name, backbone, taps, window in backbones()
    }
    record = {"threads": options.threads, "repeat": options.repeat, "torch": torch.__version__, "backbones": found}
    (options.output / "head_cost.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    page = table(record)
    (options.output / "head_cost.md").write_text(page, encoding="utf-8")
    print(page)
    return int(any(found[name]["heads"]["context"]["added"] > limit for name, limit in LIMITS.items()))


def backbones() -> list[tuple[str, nn.Module, tuple[str, ...], tuple[int, ...]]]:
    """Name, network, taps and window (z, y, x) of each backbone."""
    bundle = read_bundle(SHIPPED)
    large = build_backbone(dynunet_spec(1, 4, [32, 64, 128, 256, 320])).eval()
    taps = ("upsamples.1.conv_block", "upsamples.2.conv_block", "output_block")
    return [
        ("shipped", load_network(bundle).backbone, bundle.default_head.taps, bundle.input.window_zyx),
        ("paper's", large, taps, (64, 96, 96)),
    ]


def measured(backbone: nn.Module, taps: tuple[str, ...], image: torch.Tensor, repeat: int) -> dict[str, Any]:
    """CPU seconds of the bare backbone, and what each head adds to them."""
    torch.manual_seed(0)
    image = torch.randn_like(image)
    networks = {
        name: SegWithU(backbone, taps, image, variant, features, probes).eval()
        for name, (variant, features, probes) in HEADS.items()
    }
    jobs = {name: (lambda network=network: whole_job(network, image)) for name, network in networks.items()}
    with torch.inference_mode():
        seconds = least_seconds({"bare": lambda: backbone(image), **jobs}, repeat)
    heads = {
        name: {
            "added": seconds[name] / seconds["bare"] - 1,
            "cpu_seconds": seconds[name],
            "parameters": sum(tensor.numel() for tensor in network.head_state().values()),
        }
        for name, network in networks.items()
    }
    parameters = sum(tensor.numel() for tensor in backbone.parameters())
    return {
        "window_zyx": list(image.shape[2:]),
        "cpu_seconds": seconds["bare"],
        "parameters": parameters,
        "heads": heads,
    }


def whole_job(network: SegWithU, image: torch.Tensor) -> None:
    """One window from image to maps."""
    voxelwise(TorchEngine(network), network.window_output(image)[0].numpy())


def least_seconds(jobs: dict[str, Callable[[], Any]], repeat: int) -> dict[str, float]:
    """The least CPU time of each job; jobs take turns, so that a busy minute hits all of them."""
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
    lines = [
        "# What a head costs over the bare backbone",
        f"{record['threads']} thread, CPU seconds, least of {record['repeat']}, torch {record['torch']}. By "
        "`Testing/Benchmarks/head_cost.py`.",
        "",
        "| backbone | window | head | CPU s | added time | added parameters |",
        "|---|---|---|---:|---:|---:|",
    ]
    for name, found in record["backbones"].items():
        window = " x ".join(map(str, found["window_zyx"]))
        lines.append(f"| {name}, {found['parameters']:,} | {window} | bare | {found['cpu_seconds']:.3f} | | |")
        lines += [
            f"| | | {head} | {row['cpu_seconds']:.3f} | {100 * row['added']:+.0f} % | {row['parameters']:,} |"
            for head, row in found["heads"].items()
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
