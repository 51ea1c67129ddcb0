"""Write the ACDC cases with their true spacing, divided into roles: images, labels and split.csv.

    python Testing/Benchmarks/acdc/heart_data.py ACDC FOLDER

ACDC is the training set as its authors distribute it (patient001/patient001_frame01.nii.gz, ..._frame01_gt.nii.gz), or
the copy in ../shared/data/acdc, which has lost its voxel sizes: there `spacing.csv` has the true ones in mm along i, j
and k. Roles are those of `split.csv` beside this file, by patient. Left out of it: patient 090, whose spacing is
unknown, and 074, which has the images of training patient 076.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import SimpleITK

SPLIT = Path(__file__).resolve().parent / "split.csv"
MISSING_NAMED = 5


def main() -> int:
    """Write the cases; files that are there already are kept."""
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    source, target = (Path(argument) for argument in sys.argv[1:])
    spacings = _spacings(source / "spacing.csv")
    with SPLIT.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    files = {row["case"]: _files(source, row["patient"], row["case"]) for row in rows}
    if missing := [case for case, pair in files.items() if not all(path.is_file() for path in pair)]:
        named = ", ".join(missing[:MISSING_NAMED])
        print(f"{len(missing)} of {len(files)} cases are missing in {source}, such as {named}.", file=sys.stderr)
        return 2
    for row in rows:
        for found, folder in zip(files[row["case"]], ("images", "labels"), strict=True):
            _write(found, target / folder / f"{row['case']}.nii.gz", spacings.get(row["patient"]))
    (target / SPLIT.name).write_bytes(SPLIT.read_bytes())
    print(f"{len(rows)} cases: {target / SPLIT.name}")
    return 0


def _spacings(table: Path) -> dict[str, Sequence[float]]:
    """Spacing of each patient (x, y, z) in mm; empty where the images themselves have it."""
    if not table.is_file():
        return {}
    with table.open(newline="", encoding="utf-8") as file:
        return {row["patient"]: [float(row[f"spacing_{axis}_mm"]) for axis in "ijk"] for row in csv.DictReader(file)}


def _files(source: Path, patient: str, case: str) -> tuple[Path, Path]:
    """Image and reference of a case."""
    if (source / "images").is_dir():
        return source / "images" / f"{case}.nii.gz", source / "labels" / f"{case}.nii.gz"
    folder = source / ("training" if (source / "training").is_dir() else "") / patient
    return folder / f"{case}.nii.gz", folder / f"{case}_gt.nii.gz"


def _write(found: Path, target: Path, spacing: Sequence[float] | None) -> None:
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    image = SimpleITK.ReadImage(str(found))
    if spacing:
        image.SetSpacing(spacing)
    SimpleITK.WriteImage(image, str(target))


if __name__ == "__main__":
    sys.exit(main())
