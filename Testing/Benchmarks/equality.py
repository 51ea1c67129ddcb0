#!/usr/bin/env python3
"""Compare what two checkouts make of the same real data: labels, maps, tables, case folders, pages, calibrations.

    git worktree add --detach ../old COMMIT
    python Testing/Benchmarks/equality.py --old ../old --new . --work ../runs/equality [--only segment export]

Each checkout runs the same commands (`journey`) in a folder of its own, on the same machine with the same packages and
one thread. Then every file that either wrote is compared: images by grid and voxels, JSON and CSV by values, all else
by text. What must differ between two runs (times, paths, versions) is left out: `VOLATILE`, `PASSING`. A difference is
printed with file, place and both values; exit status 1 if there is any. Outputs of `--old` are kept and used again.
"""

import argparse
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

DATA = Path(os.environ.get("SEGWITHU_DATA", "../shared/data")).resolve()
VOLATILE = re.compile(
    r"timings|created|modified|written|begun|ended|finished|time|date|seconds|duration|elapsed|version|path|source|host|process|pid|memory"
    r"|uid|engine_reason|threads|python|platform|commit|case_id|model_sha256|sha256|folder",
    re.IGNORECASE,
)
"""Keys of JSON and columns of tables whose values belong to a run and not to a result."""
PASSING = re.compile(
    r"(/[\w.-]+)+/(old|new)(?=/)|(/[\w.-]+)+(?=/Resources/)"  # the checkouts
    r"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(Z|[+-]\d\d:\d\d)?"
    r"|\d+(\.\d+)? (s|ms|seconds|minutes|min|h|cases an hour)\b"
    r"|[0-9a-f]{40,64}"
)
TEST_CASES = ["hippocampus_003", "hippocampus_004", "hippocampus_007", "hippocampus_008"]
TRAIN_CASES = ["hippocampus_006", "hippocampus_017", "hippocampus_035", "hippocampus_075"]


def journey(root: Path) -> dict[str, list[list[str]]]:
    """Return the commands by name; all paths are relative to the folder in which they run."""
    sample = "sample.nii.gz"
    roi = "--roi=-28,-22,-14,36,50,36"
    model = ["--model", "hippocampus"]
    one_thread = ["--threads", "1"]
    return {
        "segment": [
            ["segment", "images", "--each", *model, "--output", "results", *one_thread],
            [
                "segment",
                sample,
                *model,
                roi,
                "--output",
                "sample_openvino",
                "--engine",
                "openvino",
                "--include-image",
                *one_thread,
            ],
            ["segment", sample, *model, roi, "--output", "sample_torch", "--engine", "torch", *one_thread],
            ["segment", sample, *model, roi, "--output", "sample_paper", "--head", "paper", *one_thread],
            ["segment", "images", "--each", *model, "--output", "resumed", "--part", "1/2", *one_thread],
            ["segment", "images", "--each", *model, "--output", "resumed", "--resume", *one_thread],
        ],
        "heads": [
            ["segment", sample, "--model", "brain", "--output", "brain", "--include-image", *one_thread],
            ["segment", sample, *model, "--output", "placed", *one_thread],
        ],
        "judge": [
            ["judge", sample, "placed/sample/segmentation.nii.gz", *model, "--output", "judged", *one_thread],
            [
                "judge",
                "images/hippocampus_003.nii.gz",
                "table/labels/hippocampus_003.nii.gz",
                *model,
                "--output",
                "judged",
                *one_thread,
            ],
        ],
        "review": [
            ["regions", "results/hippocampus_003"],
            ["worklist", "results", "--output", "worklist"],
            ["report", "results/hippocampus_003", "--output", "report.html"],
            ["check", "results"],
        ],
        "export": [
            ["export", "results", "--output", "export"],
            [
                "export",
                "results/hippocampus_003",
                "--anonymous",
                "--output",
                "anonymous",
            ],  # one case: their order is drawn
            ["export", "results/hippocampus_003", "--page", "--with-image", "--output", "pages"],
        ],
        "evaluate": [
            ["evaluate", *model, "--cases", "table/split.csv:test", "--output", "evaluate.json", *one_thread],
            ["check-calibration", *model, "--cases", "table/split.csv:test", *one_thread],
            [
                "calibrate",
                *model,
                "--add" if (root / "SegWithUSlicer/SegWithULab/calibration").is_dir() else "--cases",
                "table/split.csv:test",
                "--allow-seen-cases",
                "--output",
                "calibrated",
                *one_thread,
            ],
            ["models", "show", "hippocampus"],
        ],
        "train": [
            ["plan", "table/split.csv", "--output", "plan", *one_thread],
        ],
    }


def prepare(folder: Path, root: Path) -> None:
    """Lay the inputs out, the same for both checkouts."""
    for part, names in (("images", TEST_CASES[:3]), ("table/images", TEST_CASES + TRAIN_CASES)):
        (folder / part).mkdir(parents=True)
        for name in names:
            shutil.copy(DATA / "hippocampus/images" / f"{name}.nii.gz", folder / part)
    (folder / "table/labels").mkdir()
    for name in TEST_CASES + TRAIN_CASES:
        shutil.copy(DATA / "hippocampus/labels" / f"{name}.nii.gz", folder / "table/labels")
    rows = [f"{name},test" for name in TEST_CASES] + [f"{name},train" for name in TRAIN_CASES]
    (folder / "table/split.csv").write_text("case,role\n" + "\n".join(rows) + "\n", encoding="utf-8")
    shutil.copy(root / "Resources/SampleData/MNI152_T1_1mm.nii.gz", folder / "sample.nii.gz")


def run_all(root: Path, folder: Path, only: list[str], python: str) -> None:
    """Run the journey of a checkout in `folder`; each command's exit status and output are files of it, too."""
    if not folder.exists():
        prepare(folder, root)
    home = folder.parent / f"{folder.name}_home"
    home.mkdir(exist_ok=True)
    environment = {
        **os.environ, "PYTHONPATH": str(root / "SegWithUSlicer"), "OMP_NUM_THREADS": "1", "HOME": str(home),
        "XDG_DATA_HOME": str(home), "XDG_CACHE_HOME": str(home), "XDG_CONFIG_HOME": str(home),
    }  # fmt: skip
    for part, commands in journey(root).items():
        if only and part not in only:
            continue
        for number, command in enumerate(commands, 1):
            log = folder / f"log_{part}_{number}.txt"
            if log.exists():
                continue
            print(f"{root.name}: segwithu {' '.join(command)}", flush=True)
            call = [python, "-m", "SegWithUCore.cli", *command]
            ended = subprocess.run(call, cwd=folder, env=environment, capture_output=True, text=True, check=False)
            lines = [line for line in ended.stderr.splitlines() if not re.match(r"^.+: +\d+% ", line)]
            log.write_text("\n".join([f"exit {ended.returncode}", ended.stdout, *lines]), encoding="utf-8")


def differences(old: Path, new: Path) -> Iterator[str]:
    """Compare all files of two folders."""
    of_old, of_new = ({p.relative_to(f).as_posix() for p in f.rglob("*") if p.is_file()} for f in (old, new))
    yield from (f"only in old: {name}" for name in sorted(of_old - of_new))
    yield from (f"only in new: {name}" for name in sorted(of_new - of_old))
    for name in sorted(of_old & of_new):
        yield from (f"{name}: {difference}" for difference in file_differences(old / name, new / name))


def file_differences(old: Path, new: Path) -> Iterator[str]:
    """Compare two files by what they hold."""
    if old.read_bytes() == new.read_bytes():
        return
    name = old.name
    if name.endswith((".nii", ".nii.gz", ".nrrd", ".mha")):
        yield from image_differences(old, new)
    elif name.endswith((".json", ".jsonl")):
        lines = [p.read_text(encoding="utf-8") for p in (old, new)]
        parts = [[json.loads(x) for x in t.splitlines() if x] if name.endswith("l") else json.loads(t) for t in lines]
        yield from value_differences("", *parts)
    elif name.endswith(".csv"):
        tables = [list(csv.DictReader(p.read_text(encoding="utf-8").splitlines())) for p in (old, new)]
        yield from value_differences("", *tables)
    elif name.endswith((".npy", ".npz", ".safetensors", ".png", ".bin", ".zip")):
        yield "the bytes differ"
    else:
        texts = [PASSING.sub("#", p.read_text(encoding="utf-8", errors="replace")) for p in (old, new)]
        if texts[0] != texts[1]:
            pairs = zip(texts[0].splitlines(), texts[1].splitlines(), strict=False)
            first = next(((a, b) for a, b in pairs if a != b), ("", "one is longer"))
            yield f"{first[0][:300]!r} became {first[1][:300]!r}"


def image_differences(old: Path, new: Path) -> Iterator[str]:
    """Compare grid, type and voxels of two images."""
    a, b = sitk.ReadImage(str(old)), sitk.ReadImage(str(new))
    for what in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection", "GetPixelIDTypeAsString"):
        if getattr(a, what)() != getattr(b, what)():
            yield f"{what[3:]} {getattr(a, what)()} became {getattr(b, what)()}"
            return
    x, y = sitk.GetArrayViewFromImage(a), sitk.GetArrayViewFromImage(b)
    if not np.array_equal(x, y):
        apart = np.abs(x.astype(np.float64) - y)
        yield f"{int((apart > 0).sum())} voxels differ, by up to {apart.max():.3g}"


def value_differences(place: str, old: Any, new: Any) -> Iterator[str]:
    """Compare values of JSON, but for volatile keys."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if VOLATILE.search(str(key)):
                continue
            if key not in old or key not in new:
                yield f"{place}/{key} is {'new' if key in new else 'gone'}"
            else:
                yield from value_differences(f"{place}/{key}", old[key], new[key])
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from value_differences(f"{place}/{number}", one, other)
    elif isinstance(old, str) and isinstance(new, str):
        if PASSING.sub("#", old) != PASSING.sub("#", new):
            yield f"{place}: {old[:200]!r} became {new[:200]!r}"
    elif old != new:
        yield f"{place}: {str(old)[:200]} became {str(new)[:200]}"


def main() -> int:
    """Run both, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, required=True, help="checkout before the change")
    parser.add_argument("--new", type=Path, required=True, help="checkout after it")
    parser.add_argument("--work", type=Path, required=True, help="folder for what they write")
    parser.add_argument("--only", nargs="*", default=[], help="parts of the journey")
    parser.add_argument("--keep-new", action="store_true", help="do not run the new one again where its outputs exist")
    options = parser.parse_args()
    old, new = (options.work.resolve() / name for name in ("old", "new"))
    for name, root in (("old", options.old), ("new", options.new)):  # checkouts whose paths look alike in texts
        options.work.joinpath("roots").mkdir(parents=True, exist_ok=True)
        link = options.work / "roots" / name
        link.unlink(missing_ok=True)
        link.symlink_to(root.resolve())
    options.work.mkdir(parents=True, exist_ok=True)
    if not options.keep_new:
        shutil.rmtree(new, ignore_errors=True)
    python = sys.executable
    run_all(options.work.resolve() / "roots/old", old, options.only, python)
    run_all(options.work.resolve() / "roots/new", new, options.only, python)
    found = list(differences(old, new))
    print(*found, sep="\n")
    print(f"{len(found)} differences in {sum(p.is_file() for p in old.rglob('*'))} files")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
