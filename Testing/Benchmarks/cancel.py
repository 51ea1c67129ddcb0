"""Measure how soon a run ends after Ctrl-C and SIGTERM, wherever it is, and what it leaves.

    python Testing/Benchmarks/cancel.py [--repeat N] [--output FOLDER]

`segwithu segment` runs on 256 x 256 x 96 voxels of 0.9 mm in tiles of the sample, with a model for 1 mm whose windows
take several seconds each. The signal comes in the first window,
while the image is resampled, or while files are written; the worker of Slicer gets SIGTERM, or its stdin is closed.
Seconds are those of the wall, on a machine with other work: no less than on an idle one. Exits 1 where one took longer
than 2 s, or left anything.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer"), str(ROOT / "Testing" / "helpers")]

from memory_prediction import Shape, make_image, write_bundle  # noqa: E402

LIMIT_S = 2.0
STAGES = {"preparing": 0.3, "segmenting": 1.0, "writing": 0.3}
"""Seconds after its first word at which the signal comes."""
WAYS = (("command", signal.SIGINT), ("command", signal.SIGTERM), ("worker", signal.SIGTERM), ("worker", None))


def main() -> int:
    """Try all ways, write the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--output", type=Path, default=ROOT / "Testing" / "Benchmarks" / "results")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # else what runs in the background would ignore it
    rows = []
    with tempfile.TemporaryDirectory() as place:
        image = make_image(Shape((256, 256, 96), "int16", ".nii", spacing=(0.9, 0.9, 0.9)), Path(place) / "image.nii")
        write_bundle(Path(place) / "model", 3)
        for _ in range(options.repeat):
            for stage in STAGES:
                for program, number in WAYS:
                    rows.append(tried(program, number, stage, image, Path(place) / "model", Path(place)))
                    print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    record = {"rows": rows, "load": [round(each, 1) for each in os.getloadavg()]}
    (options.output / "cancel.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return int(any(row["seconds"] > LIMIT_S or row["left"] for row in rows))


def tried(program: str, number: int | None, stage: str, image: Path, model: Path, place: Path) -> dict[str, Any]:
    """Begin a run, end it in a stage, and look at what it left."""
    output = Path(tempfile.mkdtemp(dir=place))
    process = started(program, image, model, output)
    assert process.stdin is not None and process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event.get("event") == "progress" and event["stage"] == stage:
            break
        if event.get("event") == "error":
            raise RuntimeError(line)
    time.sleep(STAGES[stage])
    begun = time.monotonic()
    if number is None:
        process.stdin.close()
    else:
        process.send_signal(number)
    process.stdout.read()  # to its end: all that was started with it has ended, too
    code = process.wait()
    seconds = time.monotonic() - begun
    found = {"program": program, "by": "stdin closed" if number is None else signal.Signals(number).name}
    left = sorted(path.name for path in output.iterdir())
    return {**found, "while": stage, "seconds": round(seconds, 2), "code": code, "left": left}


def started(program: str, image: Path, model: Path, output: Path) -> "subprocess.Popen[str]":
    """Start the command, or the worker with the same job."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "SegWithUSlicer"), "OMP_NUM_THREADS": "1"}
    options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
    if program == "command":
        call = ["segment", image, "--model", model, "--engine", "torch", "--unlike-training", "--output", output]
        return subprocess.Popen([sys.executable, "-m", "SegWithUCore.cli", *map(str, call), "--json"], **options)
    process = subprocess.Popen([sys.executable, "-m", "SegWithUCore.worker"], **options)
    job = {
        "files": [str(image)],
        "name": "case",
        "target": str(output / "case"),
        "model": str(model),
        "engine": "torch",
    }
    request = {"request": "segment", "id": 1, "device": "cpu", "unlike_training": True, **job}
    assert process.stdin is not None
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    return process


if __name__ == "__main__":
    sys.exit(main())
