"""Measure the check for lost calibration on kinds of harm that its limits were not fitted on, with and without it.

    python Testing/Benchmarks/run.py lost-calibration --rows ROWS.jsonl [--brains 5]

Cases of *select* and *calibration* that the model was not trained on, in two halves by patient: limits are fitted on
altered images of one half (`SegWithULab/calibration/altered_cases.py`), as `segwithu calibrate` does, and measured on
the other half in 21 kinds of change (`altered_kinds.py`). *Hurt*: mean Dice falls by more than .05; *harmless*: by less
than .02. Warned counts before and after the run. `--brains` only measures: another cohort (`../shared/data/brains`).
With `--rows` what was segmented is kept, and the same command goes on where it was stopped.
"""

import argparse
import json
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer"), str(ROOT / "Testing" / "Benchmarks")]

import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from altered_kinds import KINDS, SEEN, Changed  # noqa: E402

from SegWithUCore.inference.deviation import NOTE  # noqa: E402
from SegWithUCore.inference.model import Model  # noqa: E402
from SegWithUCore.inference.ood_check import input_deviations  # noqa: E402
from SegWithUCore.inference.structures import structure_deviations  # noqa: E402
from SegWithUCore.metrics.overlap import dice_of  # noqa: E402
from SegWithUCore.models.bundle import Bundle  # noqa: E402
from SegWithUCore.models.installed import resolve_model  # noqa: E402
from SegWithUCore.models.training_record import read_record  # noqa: E402
from SegWithULab.calibration.altered_cases import COPIES, HARMLESS, Judged, altered, judged, limits  # noqa: E402
from SegWithULab.training.case_reading import read_assessed  # noqa: E402
from SegWithULab.training.dataset import Case, find_cases  # noqa: E402
from SegWithULab.training.run_record import voxel_hashes  # noqa: E402

RESULTS = ROOT / "Testing" / "Benchmarks" / "results" / "lost_calibration.json"
HURT = 0.05
BOX_MM = (36, 52, 40)
"""Along x, y, z, around the reference of a hippocampus in a whole brain."""
Row = dict[str, Any]
"""`case`, `patient`, `kind`, `lost`, and what `Judged` has."""


def main() -> int:
    """Segment, fit on halves, measure, write the results, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--model", default="hippocampus")
    parser.add_argument("--rows", type=Path, required=True, help="JSON lines of what was segmented")
    parser.add_argument("--brains", type=int, default=0, help="how many whole brains to measure besides")
    options = parser.parse_args()
    model = Model(resolve_model(options.model), "cpu", engine="openvino")
    rows = _read(options.rows)
    for case in _unseen(find_cases(f"{options.data / 'hippocampus' / 'split_by_scan.csv'}:select+calibration"), model):
        for names, make in ((("as it is", *(f"copy {n}" for n in range(COPIES))), _fitted), (KINDS, _changed)):
            if (case.name, next(iter(names))) not in rows:
                _keep(rows, options.rows, make(case, model))
                print(f"{case.name}: {len(rows)} images", flush=True)
    for name in sorted(path.name for path in (options.data / "brains" / "images").glob("*.nii.gz"))[: options.brains]:
        if (name, "right") not in rows:
            _keep(rows, options.rows, _brain(options.data / "brains", name, model))
    found = _measured(list(rows.values()), model.bundle)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(_table(found))
    return 0


def _read(path: Path) -> dict[tuple[str, str], Row]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {(row["case"], row["kind"]): row for row in map(json.loads, lines)}


def _keep(rows: dict[tuple[str, str], Row], path: Path, found: Sequence[Row]) -> None:
    with path.open("a", encoding="utf-8") as file:
        for row in found:
            rows[row["case"], row["kind"]] = row
            file.write(json.dumps(row) + "\n")


def _unseen(cases: Sequence[Case], model: Model) -> list[Case]:
    record = read_record(model.bundle.folder)
    trained = set(((record and record.roles) or {}).get("train", ()))
    return [case for case, sha in zip(cases, voxel_hashes(cases), strict=True) if sha not in trained]


def _row(
    case: str,
    patient: str,
    kind: str,
    clean: float,
    images: list[sitk.Image],
    truth: np.ndarray,
    model: Model,
    part: tuple[slice, ...] | None = None,
) -> Row:
    """Judge an image; `part`: what counts against the Dice `clean`."""
    found, maps, structures = judged(images, truth, model)
    said = [*input_deviations(images, model.bundle), *structure_deviations(structures, model.bundle, model.case_level)]
    dice = found.dice if part is None else _dice(np.asarray(maps.classes)[part], truth[part])
    warned = any(each.severity != NOTE for each in said)
    return {"case": case, "patient": patient, "kind": kind, "lost": clean - dice, "warned": warned, **found.__dict__}


def _fitted(case: Case, model: Model) -> list[Row]:
    """Judge a case as it is, and its copies as the fit makes them."""
    read = read_assessed(case, model.bundle)
    usual = judged(read.images, read.truth, model)[0].dice
    rows = [_row(case.name, case.group, "as it is", usual, read.images, read.truth, model)]
    for copy in range(COPIES):
        images, truth = altered(read, zlib.crc32(f"{case.name} {copy}".encode()))
        rows.append(_row(case.name, case.group, f"copy {copy}", usual, images, truth, model))
    return rows


def _changed(case: Case, model: Model) -> list[Row]:
    """Judge a case once in each kind of change; what is lost counts on the part that is left."""
    read = read_assessed(case, model.bundle)
    array, rows = sitk.GetArrayFromImage(read.images[0]).astype(np.float64), []
    clean = np.asarray(judged(read.images, read.truth, model)[1].classes)
    for name, kind in KINDS.items():
        random = np.random.default_rng(zlib.crc32(f"{case.name} {name} 0".encode()))
        change: Changed = kind(array, np.asarray(read.truth), random, float(random.random()))
        image = sitk.GetImageFromArray(change.image.astype(np.float32))
        image.SetSpacing(read.images[0].GetSpacing())
        image.SetDirection(read.images[0].GetDirection())
        part = change.part or (slice(None),) * 3
        within, before = change.part if change.within else None, _dice(clean[part], read.truth[part])
        rows.append(_row(case.name, case.group, name, before, [image], change.truth, model, within))
    return rows


def _dice(classes: np.ndarray, truth: np.ndarray) -> float:
    return float(np.nanmean([dice_of(classes == index, truth == index) for index in (1, 2)]))


def _brain(folder: Path, name: str, model: Model) -> list[Row]:
    """Judge both hippocampi of a brain in boxes around their reference."""
    image, labels = (
        sitk.DICOMOrient(sitk.ReadImage(str(folder / part / name)), "RAS") for part in ("images", "labels")
    )
    values, rows = sitk.GetArrayFromImage(labels), []
    for value, side in ((47, "right"), (48, "left")):
        places = np.argwhere(values == value)
        middle = (places.min(0) + places.max(0) + 1) // 2
        first = [max(0, int(m) - n // 2) for m, n in zip(middle, BOX_MM[::-1], strict=True)]
        x, y, z = (slice(begin, begin + n) for begin, n in zip(first[::-1], BOX_MM, strict=True))
        part = sitk.Cast(image[x, y, z], sitk.sitkFloat32)
        rows.append(_row(name, name, side, float("nan"), [part], np.zeros(part.GetSize()[::-1], int), model))
    return rows


def _measured(rows: Sequence[Row], bundle: Bundle) -> dict[str, Any]:
    """Fit on one half of the patients and warn in the other, both ways."""
    halves = _halves(rows)
    results = dict[str, Any]()
    for rule in ("without", "with"):
        said: dict[tuple[str, str], float] = {}
        for half in (0, 1):
            block = limits(bundle, *_of_fit([row for row in rows if halves.get(row["patient"]) == 1 - half]))
            for row in rows:
                if halves.get(row["patient"], half) == half:
                    warned = row["warned"] or (rule == "with" and _beyond(row, block))
                    key = (row["case"], row["kind"])
                    said[key] = said.get(key, 0) + warned / (1 if row["patient"] in halves else 2)
        results[rule] = _shares(rows, said)
    cases = {row["case"] for row in rows if row["patient"] in halves}
    return {"model": f"{bundle.name} {bundle.about['version']}", "cases": len(cases), **results}


def _halves(rows: Sequence[Row]) -> dict[str, int]:
    patients = sorted({row["patient"] for row in rows if row["kind"] == "as it is"})
    return {patient: number % 2 for number, patient in enumerate(patients)}


def _of_fit(rows: Sequence[Row]) -> tuple[list[Judged], list[Judged]]:
    groups: tuple[list[Judged], list[Judged]] = ([], [])
    for row in rows:
        found = Judged(**{field.name: row[field.name] for field in fields(Judged)})
        if row["kind"] == "as it is":
            groups[0].append(found)
        elif row["kind"].startswith("copy") and row["lost"] < HARMLESS:
            groups[1].append(found)
    return groups


def _beyond(row: Row, block: Mapping[str, Any]) -> bool:
    blank = any(share > most for share, most in zip(row["blank"], block["blank"].values(), strict=True))
    return blank or row["edge"] > block["edge"] or row["expected_wrong"] > block["expected_wrong"]


def _shares(rows: Sequence[Row], said: Mapping[tuple[str, str], float]) -> dict[str, Any]:
    def share(chosen: Callable[[Row], bool]) -> list[Any]:
        found = [said[row["case"], row["kind"]] for row in rows if chosen(row)]
        return [len(found), round(float(np.mean(found)), 3) if found else None]

    def both(names: Sequence[str]) -> dict[str, Any]:
        return {
            "hurt": share(lambda row: row["kind"] in names and row["lost"] > HURT),
            "harmless": share(lambda row: row["kind"] in names and row["lost"] < HARMLESS),
        }

    return {
        "all kinds": both([*KINDS]),
        "kinds that the fit has not seen": both([kind for kind in KINDS if kind not in SEEN]),
        "unaltered": share(lambda row: row["kind"] == "as it is"),
        "hippocampi of another cohort": share(lambda row: row["kind"] in ("right", "left")),
        "by kind": {kind: both([kind]) for kind in KINDS},
    }


def _table(found: Mapping[str, Any]) -> str:
    lines = [f"{found['model']}, {found['cases']} cases; images, share warned without and with the check"]
    old, new = found["without"], found["with"]
    for name in ("unaltered", "hippocampi of another cohort"):
        lines.append(f"{name:34} {old[name][0]:4} {old[name][1]} {new[name][1]}")
    parts = [(name, old[name], new[name]) for name in ("all kinds", "kinds that the fit has not seen")]
    parts += [(kind, old["by kind"][kind], new["by kind"][kind]) for kind in KINDS]
    for name, before, after in parts:
        texts = (f"{key} {before[key][0]:4} {before[key][1]} {after[key][1]}" for key in ("hurt", "harmless"))
        lines.append(f"{name:34} {'    '.join(texts)}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
