"""The block `changes` of a bundle, fitted on scans of patients in whom nothing changed between them."""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

from SegWithUCore.calibration.change import AGAIN, ChangeInterval
from SegWithUCore.calibration.per_structure import LEVEL
from SegWithUCore.case.case_file import read_case
from SegWithUCore.metrics.patients import by_patient
from SegWithUCore.models.bundle import Bundle
from SegWithUCore.models.input_spec import without_side
from SegWithUCore.models.model_card import write_description
from SegWithUCore.models.model_name import site_version
from SegWithUCore.review.changes import check_alike, volumes_by_name
from SegWithUCore.util.atomic_files import atomic_folder
from SegWithUCore.util.csv_files import read_user_table
from SegWithUCore.util.errors import InputError

FEWEST_PATIENTS = 3
"""With fewer the spread between two scans is hardly known: the quantile for two is 2.9."""


def fit_change_intervals(
    volumes: Sequence[Mapping[str, float]], patients: Sequence[str], scanned: str = AGAIN
) -> dict[str, ChangeInterval]:
    """Fit the interval of each structure on scans of patients in whom nothing changed.

    Both sides of a structure have one interval. A patient counts once, however many sides he has.

    Args:
        volumes: of each scan, in mm3, by name of structure or total; a structure without volume is left out.
        patients: of each scan.
        scanned: how.

    Returns:
        By name without side; a structure that fewer than `FEWEST_PATIENTS` have in two scans has none.
    """
    found = dict[str, ChangeInterval]()
    logarithms: dict[str, dict[str, list[list[float]]]] = {}
    for patient, scans in by_patient(patients).items():
        for name in dict.fromkeys(name for scan in scans for name in volumes[scan]):
            known = [math.log(volumes[scan][name]) for scan in scans if volumes[scan].get(name, 0) > 0]
            if len(known) > 1:
                logarithms.setdefault(without_side(name), {}).setdefault(str(patient), []).append(known)
    for name, of_patients in logarithms.items():
        freedom = [max(len(side) for side in sides) - 1 for sides in of_patients.values()]
        variance = np.average([np.mean([np.var(side, ddof=1) for side in sides]) for sides in of_patients.values()],
                              weights=freedom)  # fmt: skip
        if len(freedom) >= FEWEST_PATIENTS:
            quantile = float(stdtrit(sum(freedom), (1 + LEVEL) / 2))
            half_width = quantile * math.sqrt(2 * float(variance))
            found[name] = ChangeInterval(half_width, LEVEL, len(freedom), sum(freedom) + len(freedom), scanned)
    return found


def calibrate_pairs(bundle: Bundle, table: Path, target: Path, overwrite: bool = False) -> Bundle:
    """Write the bundle with intervals of change, fitted on segmented scans; everything else stays as it is.

    Args:
        table: CSV file with the columns `case`, the case folder as seen from the table, and `patient`.

    Raises:
        InputError: the table or a case is unusable, a case is of another model, or too few patients have two scans.
        OutputError: `target` exists or cannot be written.
    """
    rows = read_user_table(table, ("case", "patient"), "give the case folders of patients who were scanned twice")
    folders = [table.parent / row["case"] for row in rows]
    cases = [read_case(folder) for folder in folders]
    for folder, case in zip(folders, cases, strict=True):
        check_alike(folder, case, bundle)
    images = [case["input"]["channels"][0]["voxels_sha256"] for case in cases]
    twice = next((str(folders[place]) for place, image in enumerate(images) if image in images[:place]), "")
    if twice or not all(row["patient"] for row in rows):
        problem = f"has the image of {twice} twice" if twice else "has a scan without a patient"
        raise InputError(f"{table} {problem}: give different scans, each with its patient.", "same-image")
    fitted = fit_change_intervals([volumes_by_name(case) for case in cases], [row["patient"] for row in rows])
    if not fitted:
        what = f"{table} has fewer than {FEWEST_PATIENTS} patients with two scans of one structure"
        raise InputError(f"{what}: give more, without a change between the scans.", "too-few-pairs")
    about = {**bundle.about, "version": site_version(bundle.about["version"])}
    known = {name: each.recovered for name, each in bundle.changes.items()}  # a matter of the network, which stays
    made = replace(
        bundle, changes={name: replace(each, recovered=known.get(name)) for name, each in fitted.items()}, about=about
    )
    assert bundle.folder is not None
    with atomic_folder(target, overwrite) as work:
        shutil.copytree(bundle.folder, work, dirs_exist_ok=True)
        write_description(made, work)
    return replace(made, folder=target)
