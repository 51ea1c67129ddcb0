"""Shift real images in several strengths: how far the shipped model gets worse, and whether the OOD check warns.

    python Testing/Benchmarks/input_harm.py [--data ../shared/data] [--role test] [--every 2] [--rows ROWS.jsonl]

Each case is segmented as `segment` does, shifted and as it is, and compared with its reference. Limits of the check
were chosen on `--role select`; *test* is for reporting. Writes `results/input_harm.json` and `.md` of all roles
measured so far. With `--rows` what was segmented is kept there, and the same command goes on where it was stopped.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "SegWithUSlicer"), str(ROOT / "Testing" / "Benchmarks")]

import numpy as np  # noqa: E402
from input_shifts import Shift, Shifted, shifts  # noqa: E402

from SegWithUCore.inference.deviation import NOTE, Deviation  # noqa: E402
from SegWithUCore.inference.model import Model  # noqa: E402
from SegWithUCore.inference.ood_check import input_deviations  # noqa: E402
from SegWithUCore.inference.preprocessing import network_input  # noqa: E402
from SegWithUCore.inference.sliding_window import stitched  # noqa: E402
from SegWithUCore.inference.uncertainty_maps import resample_to_grid  # noqa: E402
from SegWithUCore.models.bundle import Bundle  # noqa: E402
from SegWithUCore.models.installed import resolve_model  # noqa: E402
from SegWithULab.training.case_reading import read_assessed  # noqa: E402
from SegWithULab.training.dataset import Case, find_cases  # noqa: E402

RESULTS = ROOT / "Testing" / "Benchmarks" / "results" / "input_harm.json"
HURT, HARMLESS = 0.05, 0.02
"""Dice lost: from the first on a case counts as hurt, below the second as not hurt."""
Row = dict[str, Any]


def main() -> int:
    """Segment, check, write both files, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--model", default="hippocampus")
    parser.add_argument("--role", default="test")
    parser.add_argument("--every", type=int, default=2, help="of the cases, every so many")
    parser.add_argument("--rows", type=Path, help="JSON lines of what was segmented")
    options = parser.parse_args()
    bundle = resolve_model(options.model)
    every = find_cases(f"{options.data / 'hippocampus' / 'split.csv'}:{options.role}")
    cases = every[:: options.every]
    known = {(row["case"], row["shift"]): row for row in _read(options.rows)}
    model: Model | None = None
    rows: list[Row] = []
    for case in cases:
        missing = [shift for shift in shifts() if (case.name, shift.name) not in known]
        if missing:
            model = model or Model(bundle, "cpu", engine="openvino")
            for row in _segmented(case, missing, model):
                known[case.name, row["shift"]] = row
                _keep(options.rows, row)
        rows += _checked(case, bundle, known)
        print(f"{case.name}: {len(rows)} images", flush=True)
    found = _summed_up(rows, len(cases)) | {"unshifted": _unshifted(every, bundle)}
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    results[options.role] = {"model": f"{bundle.name} {bundle.about['version']}", **found}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    text = _page(results)
    RESULTS.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def _read(rows: Path | None) -> list[Row]:
    if rows is None or not rows.is_file():
        return []
    return [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]


def _keep(rows: Path | None, row: Row) -> None:
    if rows is not None:
        with rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _segmented(case: Case, wanted: Sequence[Shift], model: Model) -> Iterable[Row]:
    """Segment a case in some shifts, and compare each with what is left of the case as it is."""
    read = read_assessed(case, model.bundle)
    clean = _classes(Shifted(read.images[0], read.truth), model)
    for shift in wanted:
        shifted = shift.of(case.name, read.images[0], read.truth)
        classes = _classes(shifted, model)
        kept = tuple(slice(None) for _ in range(3)) if shifted.kept is None else shifted.kept
        yield {
            "case": case.name,
            "shift": shift.name,
            "dice": _dice(classes, shifted.truth),
            "clean": _dice(clean[kept], read.truth[kept]),
            "wrong": int((classes != shifted.truth).sum()),
            "voxels": int(classes.size),
            "clean_wrong": int((clean[kept] != read.truth[kept]).sum()),
            "clean_voxels": int(clean[kept].size),
        }


def _classes(shifted: Shifted, model: Model) -> np.ndarray:
    """Segment as `predict` does, without the maps that follow from it."""
    spec = model.bundle.input
    array, working = network_input([shifted.image], spec)
    answer = stitched(model.engine, array, spec)[: model.engine.num_classes]
    return np.asarray(resample_to_grid(answer, working, shifted.image).argmax(0))


def _dice(classes: np.ndarray, truth: np.ndarray) -> list[float]:
    return [
        float(
            2
            * ((classes == value) & (truth == value)).sum()
            / max(1, (classes == value).sum() + (truth == value).sum())
        )
        for value in (1, 2)
    ]


def _checked(case: Case, bundle: Bundle, known: Mapping[tuple[str, str], Row]) -> list[Row]:
    """Add what the input check says before the run; of rows that were kept, the voxels of the case as it is."""
    read = read_assessed(case, bundle)
    rows = []
    for shift in shifts():
        row = known[case.name, shift.name]
        shifted = shift.of(case.name, read.images[0], read.truth)
        voxels = row.get("clean_voxels") or (row["voxels"] if shifted.kept is not None else int(read.truth.size))
        rows.append(
            {
                **row,
                "lost": float(np.mean(row["clean"]) - np.mean(row["dice"])),
                "share": row["wrong"] / row["voxels"],
                "clean_share": row["clean_wrong"] / voxels,
                **_said(input_deviations([shifted.image], bundle)),
            }
        )
    return rows


def _summed_up(rows: Sequence[Row], cases: int) -> dict[str, Any]:
    changed = [row for row in rows if row["shift"] != "as it is"]
    hurt = [row for row in changed if row["lost"] > HURT]
    harmless = [row for row in changed if row["lost"] < HARMLESS]
    return {
        "cases": cases,
        "hurt": {"images": len(hurt), "warned": _share(hurt, "warned"), "noted": _share(hurt, "noted")},
        "not_hurt": {"images": len(harmless), "warned": _share(harmless, "warned"), "noted": _share(harmless, "noted")},
        "shifts": [_of_shift(shift, [row for row in rows if row["shift"] == shift.name]) for shift in shifts()],
    }


def _unshifted(cases: Sequence[Case], bundle: Bundle) -> dict[str, Any]:
    """Check all cases of a role as they are: false alarms."""
    rows = [_said(input_deviations(read_assessed(case, bundle).images, bundle)) for case in cases]
    return {"images": len(rows), "warned": _share(rows, "warned"), "noted": _share(rows, "noted")}


def _said(found: Sequence[Deviation]) -> Row:
    return {
        "warned": any(each.severity != NOTE for each in found),
        "noted": bool(found) and all(each.severity == NOTE for each in found),
        "kinds": sorted({f"{each.kind} ({each.severity})" for each in found}),
    }


def _of_shift(shift: Shift, rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "shift": shift.name,
        "dice_lost": round(float(np.mean([row["lost"] for row in rows])), 4),
        "hurt": _share([{"hurt": row["lost"] > HURT} for row in rows], "hurt"),
        "wrong_times": round(sum(r["share"] for r in rows) / sum(r["clean_share"] for r in rows), 3),
        "warned": _share(rows, "warned"),
        "noted": _share(rows, "noted"),
        "hurt_unwarned": sum(row["lost"] > HURT and not row["warned"] for row in rows),
        "said": dict(Counter(kind for row in rows for kind in row["kinds"])),
    }


def _share(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    return round(sum(bool(row[key]) for row in rows) / len(rows), 3) if rows else None


def _page(results: Mapping[str, Any]) -> str:
    parts = [
        "# What hurts, and what the input check says of it\n",
        "Real hippocampi, shifted in several strengths, segmented by the shipped model with OpenVINO. Dice lost: mean "
        "of both structures against the same case as it is (of what is left of it, where a part is missing). Hurt: "
        f"images that lose more than {HURT:g}. Wrong voxels: their share, as a multiple of that of the cases as they "
        "are. The check is the one before the run. Limits were chosen on *select*; *test* was looked at once. Made by "
        "`Testing/Benchmarks/input_harm.py`.\n",
    ]
    for role, found in results.items():
        parts.append(f"## {role}: {found['cases']} cases, {found['model']}\n")
        for key, words in (
            ("hurt", f"Images hurt (Dice lost > {HURT:g})"),
            ("not_hurt", f"Shifted, not hurt (< {HARMLESS:g})"),
            ("unshifted", "As they are, all cases of the role"),
        ):
            entry = found[key]
            warned, noted = (f"{entry[name] or 0:.1%}" for name in ("warned", "noted"))
            parts.append(f"- {words}: {entry['images']} images, {warned} warned, {noted} with notes alone")
        parts.append("")
        parts.append("| shift | Dice lost | hurt | wrong voxels | warned | notes alone | what is said |")
        parts.append("|---|---:|---:|---:|---:|---:|---|")
        parts += [_line(row) for row in found["shifts"]]
        parts.append("")
    return "\n".join(parts)


def _line(row: Mapping[str, Any]) -> str:
    said = ", ".join(f"{kind} {count}" for kind, count in sorted(row["said"].items(), key=lambda entry: -entry[1]))
    return (
        f"| {row['shift']} | {row['dice_lost']:.3f} | {row['hurt']:.0%} | x {row['wrong_times']:.2f} | "
        f"{row['warned']:.0%} | {row['noted']:.0%} | {said or '-'} |"
    )


if __name__ == "__main__":
    sys.exit(main())
