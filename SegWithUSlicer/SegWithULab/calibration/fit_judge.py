"""Fit a model without a network: it judges the masks of one source, and learns from those with references."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from safetensors.numpy import save_file

from SegWithUCore.inference.given_mask import ALL, listed, names_of_program
from SegWithUCore.models.bundle import WEIGHTS_FILE, Bundle, HeadSpec, file_sha256, write_bundle_json
from SegWithUCore.models.input_spec import InputSpec, Label, Normalisation
from SegWithUCore.models.nnunet_import import distinct_color
from SegWithUCore.models.training_record import TrainingRecord
from SegWithUCore.network.specs import MASK_ALONE, BackboneSpec
from SegWithUCore.util.csv_files import read_user_table
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.progress import Progress, silent

from ..training.case_reading import Case, label_values
from .bundles import Calibrated, calibrate_model

LEAST_PATIENTS = 3
WINDOW = 128
"""Edge, in voxels: shares are of a few voxels around, so that no window sees more than another."""


def table_cases(table: Path, names: Mapping[str, str]) -> list[Case]:
    """Read the cases of a table: columns image, mask, reference, and patient where one has several.

    Args:
        table: paths in it are counted from its folder.
        names: as `MaskFile.names`, of masks and references alike.

    Raises:
        InputError: the table cannot be read, or names too few patients.
    """
    rows = read_user_table(table, ("image", "mask", "reference"), "give a row per case")
    cases = [
        Case(f"{number} {Path(row['image']).name}", (table.parent / row["image"],), table.parent / row["reference"],
             row.get("patient") or None, names, mask=table.parent / row["mask"])
        for number, row in enumerate(rows, 1)
    ]  # fmt: skip
    patients = len({case.group for case in cases})
    if patients < LEAST_PATIENTS:
        raise InputError(f"{table} has {patients} patient(s): give {LEAST_PATIENTS} or more.", "too-few-patients")
    return cases


def structures_of(cases: Sequence[Case], names: Mapping[str, str]) -> tuple[Label, ...]:
    """Return the structures of masks and references, background first; the lowest value of a name counts.

    Raises:
        InputError: a label has no name although labels are named.
    """
    values = label_values([path for case in cases for path in (case.mask, case.reference) if path is not None])
    known = names_of_program(names[ALL]) if ALL in names else dict(names) or {str(v): f"label {v}" for v in values}
    unknown = [value for value in values if str(value) not in known]
    if unknown and ALL not in names:
        problem = f"Masks or references have the label(s) {listed([str(value) for value in unknown])}"
        raise InputError(f"{problem}, which --labels does not name.", "unknown-label")
    found = dict[str, int]()
    for value in values:
        if known.get(str(value)):
            found.setdefault(known[str(value)], value)
    return tuple(Label(value, name, distinct_color(value)) for name, value in {"background": 0, **found}.items())


def fit_judge(
    cases: Sequence[Case],
    names: Mapping[str, str],
    about: Mapping[str, str],
    modality: str,
    target: Path,
    overwrite: bool = False,
    progress: Progress = silent,
    record: TrainingRecord | None = None,
) -> Calibrated:
    """Write a model that judges masks like those of `cases`; whole or not at all.

    Args:
        names: as for `table_cases`.
        about: of the model's description.
        modality: of the images, as DICOM names it.

    Raises:
        InputError, OutputError: as `structures_of` and `calibrate_model`.
    """
    labels = structures_of(cases, names)
    spec = InputSpec(("image",), modality, "xyz", None, (WINDOW,) * 3, Normalisation("range", 0.0, 99.5))
    head = HeadSpec("softmax", "softmax", ("mask",), 1, 0, aleatoric=False)
    with TemporaryDirectory() as work:
        weights = Path(work) / WEIGHTS_FILE  # a bundle has tensors of each part
        save_file({f"{part}.none": np.zeros(1, np.float32) for part in ("backbone", "heads.softmax")}, weights)
        plain = Bundle(None, about, spec, labels, BackboneSpec(MASK_ALONE), (head,), file_sha256(weights))
        bundle = write_bundle_json(plain, Path(work))
        return calibrate_model(bundle, cases, target, overwrite, progress=progress, record=record)
