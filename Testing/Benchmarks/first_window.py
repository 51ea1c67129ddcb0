"""From the click to the first window, in a warm worker: `first_window.py [--repeats 10]`.

The worker is started as Slicer starts it, loads the shipped model and segments the sample's left hippocampus once. Each
repeat asks for it again and stops the clock where the worker says that the network begins, and where its first window
is done. Beside the clock stands the processor time of the worker and its reading process, which other work on the
machine changes little. The image lies in an uncompressed file, as from Slicer; writing it is counted apart.

Writes results/first_window.json; exits 1 where writing and waiting together take longer than the limit: by the clock on
an idle machine, by processor time where other work runs (a load of 1 or more before the start).
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "SegWithUSlicer")]

import SimpleITK as sitk  # noqa: E402

from SegWithUSlicerLib.run.launch import worker_start  # noqa: E402

SAMPLE = ROOT / "Resources" / "SampleData" / "MNI152_T1_1mm.nii.gz"
LIMIT_S = 0.3
"""From the click to the first window."""


class Warm:
    """A worker with the shipped model loaded."""

    def __init__(self, process: "subprocess.Popen[bytes]", engine: str) -> None:
        self.process, self.engine, self.number = process, engine, 0
        self.pid = int(self._event()["pid"])

    def _event(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return dict(json.loads(self.process.stdout.readline()))

    def ask(self, **fields: Any) -> Iterator[dict[str, Any]]:
        """Send a request; yields its events as they come, the answer last."""
        assert self.process.stdin is not None
        self.number += 1
        request = {"id": self.number, "model": str(ROOT / "Resources" / "Models" / "hippocampus"), **fields}
        request |= {"head": "", "device": "auto", "engine": self.engine}
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        event: dict[str, Any] = {"event": "progress"}
        while event["event"] == "progress":
            event = self._event()
            yield event
        if event["event"] == "error":
            raise RuntimeError(event["text"])

    def processor_seconds(self) -> float:
        """User and system time of the worker and of its living children."""
        ours = {str(self.pid), *Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii").split()}
        fields = [Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split() for pid in ours]
        return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


@contextmanager
def warm_worker(engine: str) -> Iterator[Warm]:
    """Start a worker; its first run loads the model."""
    process = worker_start().popen()
    try:
        yield Warm(process, engine)
    finally:
        process.kill()
        process.wait()


def one_run(worker: Warm, request: Mapping[str, Any], target: Path) -> dict[str, float]:
    """Segment once; seconds until the network begins, until its first window is done, and until the result."""
    found: dict[str, float] = {}
    before, begun = worker.processor_seconds(), time.perf_counter()
    for event in worker.ask(**request, target=str(target)):
        now = time.perf_counter() - begun
        if event.get("stage") == "segmenting" and "network_begins" not in found:
            found |= {"network_begins": now, "processor_until_network": worker.processor_seconds() - before}
        elif "network_begins" in found and "first_window" not in found:
            found |= {"first_window": now, "processor_until_window": worker.processor_seconds() - before}
        elif event["event"] == "result":
            found["result"] = now
    return found


def measure(repeats: int, engine: str) -> dict[str, list[float]]:
    """Run all repeats in one worker."""
    region = json.loads(SAMPLE.with_name("sample.json").read_text(encoding="utf-8"))["regions"][0]
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as private, warm_worker(engine) as worker:
        image, file = sitk.ReadImage(str(SAMPLE)), Path(private) / "channel_0.nrrd"
        request = {"request": "segment", "name": "case", "files": [str(file)], "unlike_training": False}
        request["region"] = {"centre_ras_mm": region["centre_ras_mm"], "size_mm": region["size_mm"]}
        for number in range(repeats + 1):
            begun = time.perf_counter()
            sitk.WriteImage(image, str(file), useCompression=False)
            found = {"writing_the_image": time.perf_counter() - begun}
            found |= one_run(worker, request, Path(private) / f"case{number}")
            if number:  # the first one warms what only a run needs
                for name, seconds in found.items():
                    times.setdefault(name, []).append(seconds)
    return times


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "first_window.json")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    times = measure(options.repeats, options.engine)
    figures = {
        name: {"least": round(min(values), 3), "middle": round(statistics.median(values), 3)}
        for name, values in times.items()
    }
    for name, each in figures.items():
        print(f"{name:24} least {each['least']:.3f} s   middle {each['middle']:.3f} s")
    result = {
        "engine": options.engine,
        "repeats": options.repeats,
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(load, 1),
        "platform": f"Python {platform.python_version()}, {sys.platform} {platform.machine()}",
        "limit_s": LIMIT_S,
        "seconds": figures,
    }
    kind = "network_begins" if load < 1 else "processor_until_network"
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if figures["writing_the_image"]["middle"] + figures[kind]["middle"] <= LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main())
