"""Fit a model without a network: it judges the masks of one source, and learns from those with references."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from SegWithUCore.inference.given_mask import ALL, listed, names_of_program
from SegWithUCore.inference.mask_review import structure_labels
from SegWithUCore.io.volume import extents_mm
from SegWithUCore.models.bundle import WEIGHTS_FILE, Bundle, HeadSpec, file_sha256, write_bundle_json
from SegWithUCore.models.input_spec import InputSpec, Normalisation
from SegWithUCore.models.training_record import TrainingRecord
from SegWithUCore.network.specs import MASK_ALONE, BackboneSpec
from SegWithUCore.util.csv_files import read_user_table
from SegWithUCore.util.errors import InputError
from SegWithUCore.util.progress import Progress, silent

from ..training.case_reading import Case, label_values, read_images
from .bundles import Calibrated, calibrate_model

LEAST_PATIENTS = 3
WINDOW = 128
"""Edge, in voxels: large beside the few voxels that shares reach."""


def table_cases(table: Path) -> list[Case]:
    """Read the cases of a table: columns image, mask, reference, and patient where one has several.

    Args:
        table: paths in it are counted from its folder.

    Raises:
        InputError: the table cannot be read, or names too few patients.
    """
    rows = read_user_table(table, ("image", "mask", "reference"), "give a row per case")
    cases = [
        Case(f"{number} {Path(row['image']).name}", (table.parent / row["image"],), table.parent / row["reference"],
             row.get("patient") or None, mask=table.parent / row["mask"])
        for number, row in enumerate(rows, 1)
    ]  # fmt: skip
    patients = len({case.group for case in cases})
    if patients < LEAST_PATIENTS:
        raise InputError(f"{table} has {patients} patient(s): give {LEAST_PATIENTS} or more.", "too-few-patients")
    return cases


def grids_of(cases: Sequence[Case]) -> dict[str, Any]:
    """Return the ranges of field of view and spacing over some cases, for the OOD check: distances are in voxels."""
    images = [read_images(case)[0] for case in cases]
    sizes = {"field_of_view_mm": [extents_mm(image) for image in images],
             "spacing_mm": [image.GetSpacing() for image in images]}  # fmt: skip
    ranges = {name: {"low": np.min(each, 0).tolist(), "high": np.max(each, 0).tolist()} for name, each in sizes.items()}
    return {"cases": len(cases), **ranges}


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
        names: as `MaskFile.names`, of masks and references alike.
        about: of the model's description.
        modality: of the images, as DICOM names it.

    Raises:
        InputError, OutputError: as `structure_labels` and `calibrate_model`.
    """
    values = label_values([path for case in cases for path in (case.mask, case.reference) if path is not None])
    known = names_of_program(names[ALL]) if ALL in names else names or {str(each): f"label {each}" for each in values}
    left_out = [str(each) for each in values if str(each) not in known]
    # Spelled out: of a program's table a file would have those structures alone that it holds.
    given = {str(each): known[str(each)] for each in values if str(each) in known}
    labels = structure_labels([{str(each): known.get(str(each), "") for each in values}])
    cases = [replace(case, labels=given) for case in cases]
    spec = InputSpec(("image",), modality, "xyz", None, (WINDOW,) * 3, Normalisation("range", 0.0, 99.5))
    head = HeadSpec("softmax", "softmax", ("mask",), 1, 0, aleatoric=False)
    with TemporaryDirectory() as work:
        weights = Path(work) / WEIGHTS_FILE  # a bundle has tensors of each part
        save_file({f"{part}.none": np.zeros(1, np.float32) for part in ("backbone", "heads.softmax")}, weights)
        plain = Bundle(None, about, spec, labels, BackboneSpec(MASK_ALONE), (head,), file_sha256(weights),
                       ood_reference=grids_of(cases))  # fmt: skip
        bundle = write_bundle_json(plain, Path(work))
        made = calibrate_model(bundle, cases, target, overwrite, progress=progress, record=record)
    message = f"Labels without a name, which count as background: {listed(left_out)}."
    return replace(made, messages=(*made.messages, message)) if left_out else made
